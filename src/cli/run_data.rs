//! Which data a run is resumed with and measured on.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{paths, say};
use crate::Error;
use crate::data::fashion_mnist;
use crate::device::OpenDevice;
use crate::op::Choices;
use crate::text::shown;
use crate::train::checkpoint::Checkpoint;
use crate::train::run;

/// What `config.toml` says of how a run computes.
#[derive(Deserialize)]
struct Computing {
    device_description: String,
    tuning: Option<Choices>,
}

/// What was measured for a run on this device, so that its network is computed as it was there.
pub fn tuning(file: &Path, opened: &OpenDevice) -> Option<Choices> {
    let text = fs::read_to_string(run::config_beside(file)).ok()?;
    let Computing { device_description, tuning } = toml::from_str(&text).ok()?;
    tuning.filter(|_| device_description == opened.description)
}

/// What `config.toml` says of a run's data.
#[derive(Deserialize)]
struct Config {
    #[serde(with = "paths::stored")]
    data: PathBuf,
    data_sha256: String,
}

/// Where the data was on which a checkpoint was trained, if it lies in the folder of its run.
pub fn own_folder(file: &Path, checkpoint: &Checkpoint) -> Option<PathBuf> {
    let text = fs::read_to_string(run::config_beside(file)).ok()?;
    let config: Config = toml::from_str(&text).ok()?;
    (config.data_sha256 == checkpoint.data).then_some(config.data)
}

/// The folder to read: the one that was typed, else the run's own. None stands for the usual places of Fashion-MNIST:
/// where a run was trained on that and its folder is not there, as on another machine.
pub fn folder<'a>(
    typed: Option<&'a Path>,
    own: Option<&'a Path>,
    test: Option<&str>,
) -> Option<&'a Path> {
    let folder = typed.or(own)?;
    let gone = typed.is_none() && !folder.exists();
    if gone && test == Some(fashion_mnist::TEST_SHA256) {
        say!("{} is not there: looking for Fashion-MNIST elsewhere", shown(folder));
        return None;
    }
    Some(folder)
}

/// What a failure to read the run's own folder means; others stay what they are.
pub fn explain(typed: Option<&Path>, folder: Option<&Path>) -> impl FnOnce(Error) -> Error {
    let own = typed.is_none() && folder.is_some();
    move |error| if own { Error::RunData(Box::new(error)) } else { error }
}
