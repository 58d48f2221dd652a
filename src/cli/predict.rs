//! `tnet-gpu predict`: tell what images show.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;

use super::message::message;
use super::model::ModelArgs;
use super::paths::lossy;
use super::progress::new_bar;
use super::{at_least_one, drivers, json, out, say};
use crate::data::picture::{self, Picture, Target};
use crate::device::DeviceChoice;
use crate::model::ModelFile;
use crate::net::{Network, Prediction, features};
use crate::text::{shown, visible};
use crate::{Error, Result};

/// Images that are decoded and computed together.
const BATCH: usize = 256;

/// How much nearer to the training images' border that of an image must be when it is inverted, for a hint: a quarter of the
/// whole range.
const HINT: u8 = 64;

/// Options of `predict`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "echo iVBORw0KGgoAAAANSUhEUgAAABwAAAAcAQAAAABaduI5AAAAFUlE > trousers",
    "echo QVQY02NgQAD7A/iIygc0JYAAAOs3H5brzRi7AAAAAElFTkSuQmCC >> trousers",
    "base64 -d < trousers > trousers.png",
    "tnet-gpu predict runs/mps-bond1-1 trousers.png --top 3",
    "tnet-gpu predict runs/mps-bond1-1 - --json < trousers.png",
])]
pub struct PredictArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// PNG or JPEG files, folders of them, or - for standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// How many classes are named for each image, the most probable first
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one())]
    top: usize,

    /// Invert the images: for dark ink on paper where the network was trained on bright figures on black
    #[arg(long)]
    invert: bool,

    /// Where to compute: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N. The CPU has answered for a few
    /// images before a GPU is ready
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,

    /// Print a JSON object per image instead of a line
    #[arg(long)]
    json: bool,
}

/// The object that `--json` prints for an image.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "lossy")]
    file: &'a Path,
    class: usize,
    name: &'a str,
    probability: f32,
    /// Of every class.
    probabilities: &'a [f32],
    /// The most probable classes, where `--top` asks for more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<Class<'a>>,
}

#[derive(Serialize)]
struct Class<'a> {
    class: usize,
    name: &'a str,
    probability: f32,
}

/// Runs the command.
pub fn run(args: &PredictArgs) -> Result<()> {
    let model = args.model.read()?;
    let [channels, height, width] = model.snapshot.stack().input;
    if ![1, 3].contains(&channels) {
        let expected = "a network of images in 1 or 3 channels";
        return Err(Error::malformed(&model.file, "input", expected, format!("{channels}")));
    }
    let target =
        Target { size: Some([height, width]), channels: Some(channels), invert: args.invert };
    let mut problems = Problems::default();
    let paths = listed(&args.paths, &mut problems);
    let device = drivers::open(args.device)?.device;
    let network = model.snapshot.on(&device)?;

    let bar = (paths.len() > BATCH).then(|| {
        let bar = new_bar("{pos}/{len} images  {eta} left");
        bar.set_length(paths.len() as u64);
        bar
    });
    let mut inverted = Inverted::default();
    for paths in paths.chunks(BATCH) {
        let read: Vec<Result<Picture>> =
            paths.par_iter().map(|path| picture_of(path, target)).collect();
        let pictures: Vec<&Picture> = read.iter().flatten().collect();
        let mut answers = probabilities(&network, &pictures, &device)?.into_iter();
        for (path, picture) in paths.iter().zip(read) {
            let answer = picture.map(|picture| {
                inverted.look_at(path, &picture, model.border);
                answers.next()
            });
            match answer {
                Ok(Some(probabilities)) => tell(args, path, &model, &probabilities)?,
                Ok(None) => return Err(Error::internal("predicting", "an image has no answer")),
                Err(error) => problems.add(error),
            }
        }
        if let Some(bar) = &bar {
            bar.inc(paths.len() as u64);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    inverted.tell(args.invert);
    problems.end()
}

/// What could not be answered. Each is a line as soon as the next one is known; the last one is the command's own error.
#[derive(Default)]
struct Problems {
    last: Option<Error>,
}

impl Problems {
    fn add(&mut self, error: Error) {
        if let Some(earlier) = self.last.replace(error) {
            say!("tnet-gpu: {}", message(&earlier));
        }
    }

    fn end(self) -> Result<()> {
        self.last.map_or(Ok(()), Err)
    }
}

/// The files that are meant: those in a folder, in natural order.
fn listed(paths: &[PathBuf], problems: &mut Problems) -> Vec<PathBuf> {
    let mut listed = Vec::new();
    for path in paths {
        if !path.is_dir() {
            listed.push(path.clone());
            continue;
        }
        match picture::files_in(path) {
            Ok(files) if files.is_empty() => {
                problems.add(Error::malformed(path, "folder", "PNG or JPEG images", "no files"));
            }
            Ok(files) => listed.extend(files),
            Err(error) => problems.add(error),
        }
    }
    listed
}

fn picture_of(path: &Path, target: Target) -> Result<Picture> {
    match path.as_os_str() == OsStr::new("-") {
        true => picture::read_from(Path::new("standard input"), io::stdin().lock(), target),
        false => picture::read(path, target),
    }
}

/// The probabilities of every class for each of these images.
fn probabilities(
    network: &Network,
    pictures: &[&Picture],
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let Some(first) = pictures.first() else { return Ok(Vec::new()) };
    let values = pictures.iter().flat_map(|picture| &picture.pixels);
    let values: Vec<f32> = values.map(|&value| f32::from(value) / f32::from(u8::MAX)).collect();
    let shape = [pictures.len(), features(first.shape)];
    network.probabilities(Tensor::from_data(TensorData::new(values, shape), device))
}

/// Prints the answer for an image.
fn tell(args: &PredictArgs, file: &Path, model: &ModelFile, probabilities: &[f32]) -> Result<()> {
    let Prediction { class, probability } = Prediction::of(probabilities);
    let name = |class: usize| model.classes.get(class).map_or("", String::as_str);
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    // A stable sort: of equal ones the first, as the class.
    order.sort_by(|&one, &other| probabilities[other].total_cmp(&probabilities[one]));
    order.truncate(args.top);
    if args.json {
        let of_class =
            |class| Class { class, name: name(class), probability: probabilities[class] };
        let top = if args.top > 1 { order.into_iter().map(of_class).collect() } else { Vec::new() };
        return out(&json(&Line {
            file,
            class,
            name: name(class),
            probability,
            probabilities,
            top,
        })?);
    }
    let answers = order.into_iter().map(|class| {
        // A class that has no name is called by its number, beside which another number would be hard to read.
        let number = if name(class).parse::<usize>().is_ok() { "class " } else { "" };
        format!("{number}{} {:.1} %", visible(name(class)), 100.0 * probabilities[class])
    });
    out(&format!("{}: {}", shown(file), answers.collect::<Vec<_>>().join(", ")))
}

/// Images that look as if bright and dark had changed places.
#[derive(Default)]
struct Inverted {
    first: Option<PathBuf>,
    count: usize,
}

impl Inverted {
    fn look_at(&mut self, path: &Path, picture: &Picture, border: Option<u8>) {
        let Some(border) = border else { return };
        let own = picture.border();
        if own.abs_diff(border) > (u8::MAX - own).abs_diff(border).saturating_add(HINT) {
            self.first.get_or_insert_with(|| path.to_path_buf());
            self.count += 1;
        }
    }

    fn tell(self, invert: bool) {
        let Some(first) = self.first else { return };
        let remedy = if invert { "leave out --invert" } else { "try --invert" };
        let which = match self.count {
            1 => format!("{} looks", shown(&first)),
            count => format!("{count} images ({}, …) look", shown(&first)),
        };
        say!("{which} inverted beside the training images, dark for bright: {remedy}");
    }
}
