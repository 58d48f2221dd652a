//! `tnet-gpu export`: write a trained network for other programs, or as a web page.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::{Args, ValueEnum};

use super::data::DataArgs;
use super::model::ModelArgs;
use super::run_data::{self, Found};
use super::{drivers, out, say};
use crate::data::resident::order;
use crate::data::{ImageSet, Resident};
use crate::device::DeviceChoice;
use crate::export::html::{self, Halved, LARGE, Page, Weights};
use crate::export::{Format, to_bytes, write};
use crate::model::ModelFile;
use crate::net::{Snapshot, features, rows};
use crate::text::{bytes, shown};
use crate::train::evaluate;
use crate::{Error, Result};

/// Options of `export`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu export runs/mps-bond1-1 --format html --out page.html",
    "tnet-gpu export runs/mps-bond1-1 --format onnx --out model.onnx",
    "tnet-gpu export runs/mps-bond1-1 --format dense --out model.safetensors",
])]
pub struct ExportArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// What to write
    #[arg(long, value_enum)]
    format: FormatArg,

    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Let --out be a file that exists, and replace it
    #[arg(long)]
    exist_ok: bool,

    /// Of html: weights of 16 bits, half the size; what that costs in accuracy is printed
    #[arg(long)]
    half: bool,

    // Of html, which has test images.
    #[command(flatten)]
    data: DataArgs,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// A web page that computes the network on the reader's GPU, with test images to try; of the data of the run, or of
    /// --data
    Html,
    /// ONNX, a tensor layer as two products
    Onnx,
    /// The weights as they are, in the safetensors format
    Safetensors,
    /// Matrices under the names of PyTorch's nn.Sequential, in the safetensors format
    Dense,
}

/// Runs the command; `given` are the ids of the options that were typed.
pub fn run(args: &ExportArgs, given: &[&str]) -> Result<()> {
    let format = match args.format {
        FormatArg::Html => return page(args),
        FormatArg::Onnx => Format::Onnx,
        FormatArg::Safetensors => Format::Safetensors,
        FormatArg::Dense => Format::Dense,
    };
    let of_html = ["half", "data", "size", "channels", "test_share", "split_seed", "no_cache"];
    if let Some(id) = of_html.into_iter().find(|id| given.contains(id)) {
        return Err(Error::argument(id, "expected only with --format html"));
    }
    let model = args.model.read()?;
    write(&args.out, args.exist_ok, || to_bytes(&model, format))?;
    let input = match format {
        Format::Onnx => {
            let [channels, height, width] = model.snapshot.stack().input;
            format!("images [batch, {channels}, {height}, {width}]")
        }
        Format::Safetensors | Format::Dense => {
            format!("{} inputs", features(model.snapshot.stack().input))
        }
    };
    let classes = model.snapshot.stack().outputs()?;
    out(&format!("{}: {input} to {classes} classes", shown(&args.out)))
}

/// `--format html`.
fn page(args: &ExportArgs) -> Result<()> {
    let model = args.model.read()?;
    let [channels, ..] = model.snapshot.stack().input;
    if ![1, 3].contains(&channels) {
        let expected = "a network of images in 1 or 3 channels";
        return Err(Error::malformed(&model.file, "input", expected, format!("{channels}")));
    }
    let mut length = 0;
    write(&args.out, args.exist_ok, || {
        let text = text_of(args, &model)?;
        length = text.len();
        Ok(text.into_bytes())
    })?;
    if length > LARGE {
        let remedy = if args.half { "" } else { "; --half makes it half as large" };
        say!(
            "{} has {}: more than {} take long to open and to send{remedy}",
            shown(&args.out),
            bytes(length as u64),
            bytes(LARGE as u64)
        );
    }
    let classes = model.snapshot.stack().outputs()?;
    out(&format!("{}: a page of {}, {classes} classes", shown(&args.out), bytes(length as u64)))
}

fn text_of(args: &ExportArgs, model: &ModelFile) -> Result<String> {
    // Before the data are read: a layer that no page can compute is known at once.
    html::Lowered::new(model.snapshot.stack())?;
    let device = drivers::open(DeviceChoice::Cpu)?.device;
    let Found { data, .. } = run_data::for_model(&args.data, model)?;
    let halved = args.half.then(|| Halved::new(&model.snapshot)).transpose()?;
    if let Some(halved) = &halved {
        let images = Resident::new(&data.test, &device);
        let [whole, half] = [&model.snapshot, halved.snapshot()]
            .map(|snapshot| Ok::<_, Error>(evaluate(&snapshot.on(&device)?, &images)?.accuracy));
        let (whole, half) = (whole?, half?);
        say!(
            "test accuracy: {half:.4} with weights of 16 bits, {whole:.4} with 32 ({:+.4})",
            half - whole
        );
    }
    let weights = halved.as_ref().map_or(Weights::Whole(&model.snapshot), Weights::Half);
    let samples = html::samples(&data.test, data.classes.len());
    let logits = logits(weights.snapshot(), &samples, &device)?;
    let page = Page {
        weights,
        classes: &model.classes,
        border: model.border,
        samples: &samples,
        logits: &logits,
    };
    page.text()
}

/// What a network answers to images.
fn logits(snapshot: &Snapshot, images: &ImageSet, device: &Device) -> Result<Vec<Vec<f32>>> {
    let all: Vec<u32> = (0..images.count as u32).collect();
    let images = Resident::new(images, device).gather(order(&all, device))?;
    rows(snapshot.on(device)?.logits(images)?)
}
