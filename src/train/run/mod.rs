//! The run folder: `config.toml`, `metrics.csv`, `curves.svg`, `last.safetensors`, `previous.safetensors`,
//! `best.safetensors`, `log.txt`.

mod folder;
mod read;

pub use folder::{RunFolder, is_taken};
pub use read::{
    Newest, best, config_beside, config_of, history_beside, history_of, newest, to_read, to_resume,
    to_study, train_images,
};

/// Where new runs are put.
const RUNS: &str = "runs";

const CONFIG: &str = "config.toml";
/// What it holds, for errors.
const OPTIONS: &str = "the options of a training run";
const METRICS: &str = "metrics.csv";
const CURVES: &str = "curves.svg";
const LAST: &str = "last.safetensors";
const PREVIOUS: &str = "previous.safetensors";
const BEST: &str = "best.safetensors";
/// A `last.safetensors` that could not be read, kept under another name.
const DAMAGED: &str = "damaged.safetensors";
const LOG: &str = "log.txt";

/// The files that a run writes whole.
const WRITTEN: [&str; 6] = [CONFIG, METRICS, CURVES, LAST, PREVIOUS, BEST];
