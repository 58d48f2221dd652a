//! `tnet-gpu compare`: finished runs side by side.

use std::path::PathBuf;

use clap::Args;

use super::report::ReportFolder;
use super::runs::RunsArgs;
use super::{drivers, introduce, json, out, run_data, say};
use crate::data::ImageSet;
use crate::device::{DeviceChoice, OpenDevice};
use crate::model::ModelFile;
use crate::study::comparison::{self, GroupFigures, RunFigures};
use crate::study::{Comparison, FinishedRun, Group, groups, latency};
use crate::text::shown;
use crate::{Result, op, train};

/// The files that `--out` writes.
const FILES: [&str; 4] = ["compare.md", "compare.csv", "compare.json", "curves.svg"];

/// Options of `compare`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu train --seed 1",
    "tnet-gpu train --model dense",
    "tnet-gpu compare runs/*",
    "tnet-gpu compare runs/* --out comparison",
    "tnet-gpu compare --group 'bond 1=runs/mps-bond1-1,runs/mps-bond1-2' --json",
])]
pub struct CompareArgs {
    #[command(flatten)]
    runs: RunsArgs,

    /// Where the time of one image is measured: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,

    /// Write into this folder, new or empty: the table as Markdown, a CSV line for each run, all numbers as JSON, and a
    /// figure of test and training accuracy by epoch
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<()> {
    let groups = groups::group(args.runs.read()?)?;
    // Before anything is measured.
    let out_folder = args.out.as_deref().map(|folder| ReportFolder::create_new(folder, &FILES));
    let out_folder = out_folder.transpose()?;
    let opened = drivers::open(args.device)?;
    introduce(&opened);
    for group in &groups {
        if let Some([first, second]) = group.repeated() {
            let [first, second] = [first, second].map(|run| shown(&run.folder));
            say!("{}: {first} and {second} have the same seed and count twice", group.name);
        }
    }
    let figures = groups.iter().map(|group| figures(group, &opened)).collect::<Result<_>>()?;
    let comparison = Comparison::new(opened.description.clone(), figures);
    let written = match out_folder {
        Some(folder) => Some(folder.write(contents(&comparison, &groups)?)?),
        None => None,
    };
    if args.json {
        return out(&json(&comparison)?);
    }
    out(&comparison.table().to_string())?;
    comparison.notes().iter().try_for_each(|note| out(note))?;
    match written {
        Some(folder) => out(&format!("files: {}", shown(&folder))),
        None => Ok(()),
    }
}

/// What the runs of a group came to, and how long one image takes each of them now.
fn figures(group: &Group, opened: &OpenDevice) -> Result<GroupFigures> {
    let figures = |run: &FinishedRun| RunFigures::new(run, latency_of(run, opened)?);
    let runs = group.runs.iter().map(figures).collect::<Result<_>>()?;
    Ok(GroupFigures::new(group.name.clone(), runs))
}

/// The time of one image in seconds, computed as the run was.
fn latency_of(run: &FinishedRun, opened: &OpenDevice) -> Result<f64> {
    let model = ModelFile::read(&run.folder, None)?;
    let stack = model.snapshot.stack();
    let no_images: [&ImageSet; 0] = [];
    opened.check_buffers(train::buffers(stack, 0, no_images)?)?;
    op::choose(run_data::tuning(&model.file, opened).unwrap_or_default());
    latency(&model.snapshot.on(&opened.device)?, stack.input, &opened.device)
}

/// The contents of [`FILES`].
fn contents(comparison: &Comparison, groups: &[Group]) -> Result<[Vec<u8>; FILES.len()]> {
    let texts =
        [comparison.markdown(), comparison.csv(), comparison.json()?, comparison::figure(groups)?];
    Ok(texts.map(String::into_bytes))
}
