//! Which data a run is resumed with and measured on.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::data::DataArgs;
use super::progress::load;
use super::{paths, say};
use crate::data::{DataSet, LoadOptions, class_names, fashion_mnist};
use crate::device::OpenDevice;
use crate::model::{ModelFile, Trained};
use crate::net::{Stack, features};
use crate::op::Choices;
use crate::text::{excerpt, shown};
use crate::train::run;
use crate::{Error, Result};

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
    #[serde(default)]
    images: LoadOptions,
}

/// Where the data was on which a network was trained, and how it was taken, if its file lies in the folder of its run;
/// `data` is what the file says of it.
fn own(file: &Path, data: &str) -> Option<(PathBuf, LoadOptions)> {
    let text = fs::read_to_string(run::config_beside(file)).ok()?;
    let config: Config = toml::from_str(&text).ok()?;
    (config.data_sha256 == data && !data.is_empty()).then_some((config.data, config.images))
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

/// The data to measure a network on.
pub struct Found {
    /// The images.
    pub data: DataSet,
    /// How they were taken.
    pub options: LoadOptions,
    /// Whether the test images are those on which the network was measured in training, where its file tells.
    pub own_data: Option<bool>,
}

/// The data to measure a network on. Other test images than those on which it was measured in training must be asked for.
pub fn for_model(args: &DataArgs, model: &ModelFile) -> Result<Found> {
    let file = &model.file;
    let (own, test) = match &model.trained {
        Some(Trained { data, test, .. }) => (own(file, data), test.as_deref()),
        None => (None, None),
    };
    let (own, images) = own.unzip();
    let typed = args.path();
    let options = args.options(images.as_ref(), Some(model.snapshot.stack().input));
    let folder = folder(typed, own.as_deref(), test);
    let data = load(folder, &options).map_err(explain(typed, folder))?;
    let own_data = test.map(|test| data.test.sha256() == test);
    let is_met = model.trained.as_ref().is_some_and(|trained| !trained.data.is_empty());
    if own_data.is_none() && typed.is_none() && own.is_none() && is_met {
        say!("{} is of an earlier version and does not tell its data set", shown(file));
    }
    if own_data == Some(false) {
        let other = Error::OtherData { folder: data.folder.clone(), file: file.clone() };
        if typed.is_none() {
            return Err(other);
        }
        say!("{other}");
    }
    check_fit(file, model.snapshot.stack(), &data)?;
    let names = model.classes.iter().zip(&data.classes);
    let are_called = |names: &[String]| names != class_names(None, names.len());
    if let Some((own, other)) = names.into_iter().find(|(own, other)| own != other)
        && are_called(&model.classes)
        && are_called(&data.classes)
    {
        say!(
            "the classes are called otherwise in {}: {} where the network has {}",
            shown(&data.folder),
            excerpt(other),
            excerpt(own)
        );
    }
    Ok(Found { data, options, own_data })
}

/// Checks that data has the image size and the classes of a network.
pub fn check_fit(file: &Path, network: &Stack, data: &DataSet) -> Result<()> {
    let (inputs, classes) = (features(network.input), network.outputs()?);
    let pixels = data.test.size();
    let expected = data.classes.len();
    if inputs == pixels && classes == expected {
        return Ok(());
    }
    Err(Error::malformed(
        file,
        "network",
        format!("{pixels} inputs and {expected} classes, as in {}", shown(&data.folder)),
        format!("{inputs} and {classes}"),
    ))
}
