//! `tnet-gpu eval`: measure a trained network on the test images.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{introduce, out, say};
use crate::data::{DataSet, Resident, fashion_mnist};
use crate::device::{self, DeviceChoice};
use crate::train::checkpoint::Checkpoint;
use crate::train::{Evaluation, Network, evaluate};
use crate::{Error, Result};

/// Options of `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A run folder (its best network where one was chosen, else its last), or a checkpoint
    #[arg(value_name = "RUN|FILE")]
    run: PathBuf,

    /// Where to compute: auto, cpu, vulkan, metal, dx12 or gl, the last four with :N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    /// Folder with the four files of a data set [default: $TNET_DATA, else the cache folder, else
    /// Debian's package, else downloaded]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a Path,
    epoch: usize,
    #[serde(flatten)]
    evaluation: Evaluation,
}

/// Runs the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    let file = checkpoint_of(&args.run)?;
    let opened = device::open(args.device)?;
    let checkpoint = Checkpoint::read(&file, &opened.device)?;
    let data = fashion_mnist::load(args.data.as_deref())?;
    check_fit(&file, &checkpoint, &data)?;
    introduce(&opened);
    say!("data: {} ({} test images)", data.folder.display(), data.test.count);

    let Checkpoint { classifier, epoch, model, .. } = checkpoint;
    let network = Network::new(classifier, model.into_weights());
    let evaluation = evaluate(&network, &Resident::new(&data.test, &opened.device))?;
    if args.json {
        let line = serde_json::to_string(&Line { file: &file, epoch, evaluation })
            .map_err(|error| Error::compute("writing JSON", error))?;
        return out(&line);
    }
    let Evaluation { loss, accuracy } = evaluation;
    out(&format!("network: {}, after epoch {epoch}", file.display()))?;
    out(&format!("test accuracy: {accuracy:.4}"))?;
    out(&format!("test loss: {loss:.4}"))
}

/// The file that a run folder's network is in.
fn checkpoint_of(run: &Path) -> Result<PathBuf> {
    if !run.is_dir() {
        return Ok(run.to_path_buf());
    }
    let candidates = ["best.safetensors", "last.safetensors"].map(|name| run.join(name));
    candidates.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        Error::malformed(run, "run folder", "best.safetensors or last.safetensors", "neither")
    })
}

/// A network classifies images of one size into classes it was trained on.
fn check_fit(file: &Path, checkpoint: &Checkpoint, data: &DataSet) -> Result<()> {
    let [j, l] = checkpoint.classifier.in_factors;
    let pixels = data.test.height * data.test.width;
    if j * l == pixels && checkpoint.classifier.classes == data.classes {
        return Ok(());
    }
    Err(Error::malformed(
        file,
        "network",
        format!("{pixels} inputs and {} classes, as in {}", data.classes, data.folder.display()),
        format!("{} and {}", j * l, checkpoint.classifier.classes),
    ))
}
