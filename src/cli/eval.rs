//! `tnet-gpu eval`: measure a trained network on the test images.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::model::ModelArgs;
use super::paths::lossy;
use super::{drivers, introduce, json, out, run_data, say};
use crate::data::Resident;
use crate::device::DeviceChoice;
use crate::text::shown;
use crate::train::{self, Evaluation, evaluate};
use crate::{Result, op};

/// Options of `eval`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu eval runs/mps-bond1-1",
    "tnet-gpu eval runs/mps-bond1-1/last.safetensors --device cpu --json",
])]
pub struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,

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
    /// Finished epochs, of a training run's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<usize>,
    #[serde(flatten)]
    evaluation: Evaluation,
    #[serde(serialize_with = "lossy")]
    data: &'a Path,
    /// Whether the test images are those of the run, where its checkpoint tells.
    own_data: Option<bool>,
}

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    let model = args.model.read()?;
    let file = &model.file;
    let opened = drivers::open(args.device)?;
    op::choose(run_data::tuning(file, &opened).unwrap_or_default());
    let (data, own_data) = run_data::for_model(args.data.as_deref(), &model)?;
    opened.check_buffers(train::buffers(model.snapshot.stack(), 0, [&data.test])?)?;
    introduce(&opened);
    say!("data: {} ({} test images)", shown(&data.folder), data.test.count);

    let network = model.snapshot.on(&opened.device)?;
    let evaluation = evaluate(&network, &Resident::new(&data.test, &opened.device))?;
    let epoch = model.trained.as_ref().map(|trained| trained.epoch);
    if args.json {
        let data = &data.folder;
        return out(&json(&Line { file, epoch, evaluation, data, own_data })?);
    }
    let Evaluation { loss, accuracy } = evaluation;
    let after = epoch.map_or_else(String::new, |epoch| format!(", after epoch {epoch}"));
    out(&format!("network: {}{after}", shown(file)))?;
    out(&format!("test accuracy: {accuracy:.4}"))?;
    out(&format!("test loss: {loss:.4}"))
}
