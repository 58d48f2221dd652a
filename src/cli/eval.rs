//! `tnet-gpu eval`: measure a trained network on the test images.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::paths::lossy;
use super::progress::load;
use super::{drivers, introduce, json, out, run_data, say};
use crate::data::{DataSet, Resident};
use crate::device::DeviceChoice;
use crate::net::features;
use crate::text::shown;
use crate::train::checkpoint::Checkpoint;
use crate::train::run::{self, Newest};
use crate::train::{self, Evaluation, evaluate};
use crate::{Error, Result, op};

/// Options of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A run folder (its best network if one was chosen, else its last), or a checkpoint
    #[arg(value_name = "RUN|FILE")]
    run: PathBuf,

    /// Where to compute: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    /// Folder with the four files of a data set, which need not be the run's [default: the run's; for a
    /// checkpoint outside its run, as for train]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// The object that `--json` prints.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "lossy")]
    file: &'a Path,
    epoch: usize,
    #[serde(flatten)]
    evaluation: Evaluation,
    #[serde(serialize_with = "lossy")]
    data: &'a Path,
    /// Whether the test images are those of the run, where its checkpoint tells.
    own_data: Option<bool>,
}

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    let (file, checkpoint) = checkpoint_of(&run::to_read(&args.run)?)?;
    let opened = drivers::open(args.device)?;
    op::choose(run_data::tuning(&file, &opened).unwrap_or_default());
    let (data, own_data) = data_for(args.data.as_deref(), &file, &checkpoint)?;
    check_fit(&file, &checkpoint, &data)?;
    opened.check_buffers(train::buffers(&checkpoint.config.network, 0, [&data.test])?)?;
    introduce(&opened);
    say!("data: {} ({} test images)", shown(&data.folder), data.test.count);

    let network = checkpoint.network(&opened.device)?;
    let evaluation = evaluate(&network, &Resident::new(&data.test, &opened.device))?;
    let epoch = checkpoint.epoch;
    if args.json {
        let data = &data.folder;
        return out(&json(&Line { file: &file, epoch, evaluation, data, own_data })?);
    }
    let Evaluation { loss, accuracy } = evaluation;
    out(&format!("network: {}, after epoch {epoch}", shown(&file)))?;
    out(&format!("test accuracy: {accuracy:.4}"))?;
    out(&format!("test loss: {loss:.4}"))
}

/// The data to measure on, and whether its test images are the run's. Others must be asked for.
fn data_for(
    typed: Option<&Path>,
    file: &Path,
    checkpoint: &Checkpoint,
) -> Result<(DataSet, Option<bool>)> {
    let own = run_data::own_folder(file, checkpoint);
    let test = checkpoint.test.as_deref();
    let folder = run_data::folder(typed, own.as_deref(), test);
    let data = load(folder).map_err(run_data::explain(typed, folder))?;
    let own_data = test.map(|test| data.test.sha256() == test);
    if own_data.is_none() && typed.is_none() && own.is_none() {
        say!("{} is of an earlier version and does not tell its data set", shown(file));
    }
    if own_data == Some(false) {
        let other = Error::OtherData { folder: data.folder.clone(), file: file.to_path_buf() };
        if typed.is_none() {
            return Err(other);
        }
        say!("{other}");
    }
    Ok((data, own_data))
}

/// A network and the file that holds it.
fn checkpoint_of(run: &Path) -> Result<(PathBuf, Checkpoint)> {
    let file = if run.is_dir() { run::best(run) } else { Some(run.to_path_buf()) };
    if let Some(file) = file {
        let checkpoint = Checkpoint::read(&file)?;
        return Ok((file, checkpoint));
    }
    let Newest { file, checkpoint, passed_over } = run::newest(run)?;
    if let Some(error) = passed_over {
        say!("{error}: using {} instead", shown(&file));
    }
    Ok((file, checkpoint))
}

/// Checks that the data has the image size and the classes of the network.
fn check_fit(file: &Path, checkpoint: &Checkpoint, data: &DataSet) -> Result<()> {
    let network = &checkpoint.config.network;
    let (inputs, classes) = (features(network.input), network.outputs()?);
    let pixels = data.test.height * data.test.width;
    if inputs == pixels && classes == data.classes {
        return Ok(());
    }
    Err(Error::malformed(
        file,
        "network",
        format!("{pixels} inputs and {} classes, as in {}", data.classes, shown(&data.folder)),
        format!("{inputs} and {classes}"),
    ))
}
