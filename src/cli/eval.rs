//! `tnet-gpu eval`: measure a trained network on the test images.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::data::DataArgs;
use super::model::ModelArgs;
use super::paths::{lossy, lossy_if_any};
use super::report::{self, ReportFolder};
use super::run_data::Found;
use super::{drivers, introduce, json, out, run_data, say};
use crate::data::Resident;
use crate::device::DeviceChoice;
use crate::report::eval::{FILES, PAGE};
use crate::text::shown;
use crate::train::{self, Evaluation, answers, evaluate};
use crate::{Result, op};

/// Options of `eval`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu eval runs/mps-bond1-1",
    "tnet-gpu eval runs/mps-bond1-1 --report report",
    "tnet-gpu eval runs/mps-bond1-1/last.safetensors --device cpu --json",
])]
pub struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Where to compute: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    #[command(flatten)]
    data: DataArgs,

    /// Write a report into this folder: a page, report.html, and tables and figures of classes, mistakes and probabilities.
    /// Files of an earlier report are replaced
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

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
    /// The folder of the report, if one was asked for.
    #[serde(serialize_with = "lossy_if_any", skip_serializing_if = "Option::is_none")]
    report: Option<&'a Path>,
}

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    let model = args.model.read()?;
    let file = &model.file;
    let folder =
        args.report.as_deref().map(|folder| ReportFolder::create(folder, &FILES)).transpose()?;
    let opened = drivers::open(args.device)?;
    op::choose(run_data::tuning(file, &opened).unwrap_or_default());
    let Found { data, own_data, .. } = run_data::for_model(&args.data, &model)?;
    opened.check_buffers(train::buffers(model.snapshot.stack(), 0, [&data.test])?)?;
    introduce(&opened);
    say!("data: {} ({} test images)", shown(&data.folder), data.test.count);

    let network = model.snapshot.on(&opened.device)?;
    let images = Resident::new(&data.test, &opened.device);
    let (evaluation, page) = match folder {
        None => (evaluate(&network, &images)?, None),
        Some(folder) => {
            let answers = answers(&network, &images)?;
            let report = report::of(&model, &data, own_data, &answers)?;
            let folder = folder.write(report.files()?)?;
            (answers.evaluation, Some(folder.join(PAGE)))
        }
    };
    let epoch = model.trained.as_ref().map(|trained| trained.epoch);
    if args.json {
        let (data, report) = (&data.folder, args.report.as_deref());
        return out(&json(&Line { file, epoch, evaluation, data, own_data, report })?);
    }
    let Evaluation { loss, accuracy } = evaluation;
    let after = epoch.map_or_else(String::new, |epoch| format!(", after epoch {epoch}"));
    out(&format!("network: {}{after}", shown(file)))?;
    out(&format!("test accuracy: {accuracy:.4}"))?;
    out(&format!("test loss: {loss:.4}"))?;
    match page {
        Some(page) => out(&format!("report: {}", shown(&page))),
        None => Ok(()),
    }
}
