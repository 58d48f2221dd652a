//! The state of a training run as one safetensors file: the weights by name, Adam's moments as
//! `adam.mean.NAME` and `adam.square.NAME`, the mean of the weights, if the recipe has one, as
//! `average.NAME`, and in the metadata, as JSON under the key `tnet-gpu`,
//! the configuration, the progress, and a checksum of the whole file.
//!
//! Files are not trusted. The header is checked against the network that its metadata describes and
//! against the file's length before anything is allocated for the content; then the checksum is
//! compared, and every number must be finite. Equal runs give equal files: they contain no times.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::learner::{State, Weight};
use super::{Recipe, TrainConfig};
use crate::mps::MpsInit;
use crate::net::{Snapshot, Stack};
use crate::tensor_file::{self, Header, TensorFile, header_of};
use crate::{Error, Result, hex};

/// The metadata key that identifies a file as written by this program.
pub(crate) const KEY: &str = "tnet-gpu";

/// The version of the format. No other version is read.
const FORMAT: u32 = 4;

/// Hexadecimal digits of a checksum.
const DIGITS: usize = 64;

/// What precedes the checksum in the header: JSON within JSON.
const BEFORE_CHECKSUM: &[u8] = br#"\"checksum\":\""#;

/// Prefixes of the tensors of a weight: its values and Adam's moments, and their mean where there is one.
const PREFIXES: [&str; 4] = ["", "adam.mean.", "adam.square.", "average."];

/// Those of a run's weights.
fn prefixes(recipe: &Recipe) -> &'static [&'static str] {
    let moments = PREFIXES.len() - usize::from(recipe.average.is_none());
    &PREFIXES[..moments]
}

/// A snapshot of a training run between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The network and how it is trained.
    pub config: TrainConfig,
    /// The data it is trained on: [`super::Splits::sha256`].
    pub data: String,
    /// The test images alone: [`crate::data::ImageSet::sha256`]. None in files of earlier versions.
    pub test: Option<String>,
    /// A name for each class. Empty in files of earlier versions.
    pub classes: Vec<String>,
    /// [`crate::data::ImageSet::border`] of the training images. None in files of earlier versions, and where the network has
    /// not met any data.
    pub border: Option<u8>,
    /// Finished epochs.
    pub epoch: usize,
    /// Steps done in the unfinished epoch.
    pub step: usize,
    /// Sum of the losses over these steps.
    pub loss: f64,
    /// Correctly classified images in these steps.
    pub right: u64,
    /// Epoch and held-out accuracy of the best network so far, if images are held out.
    pub best: Option<(usize, f64)>,
    /// The weights and the optimizer's state.
    pub state: State,
}

/// The metadata, in this order. All of it is under one key because the order of several keys is not
/// fixed. Numbers are read back to the bit (`serde_json` with `float_roundtrip`).
#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    format: u32,
    epochs: usize,
    batch_size: usize,
    lr: f64,
    seed: u64,
    validation: usize,
    init: MpsInit,
    #[serde(default, skip_serializing_if = "is_default")]
    recipe: Recipe,
    network: Stack,
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    border: Option<u8>,
    epoch: usize,
    step: usize,
    optimizer_steps: u64,
    loss: f64,
    right: u64,
    best: Option<(usize, f64)>,
    /// SHA-256 of the file with these digits replaced by zeros.
    checksum: String,
}

/// Whether a recipe is none, as in files of earlier versions.
fn is_default(recipe: &Recipe) -> bool {
    *recipe == Recipe::default()
}

impl Checkpoint {
    /// The beginning of a run whose weights are given: Adam's moments are 0, and nothing is known of the images' border. `data` and `test` are empty and none where the
    /// network has not met any data.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for an impossible network.
    pub fn beginning(
        config: TrainConfig,
        weights: &[Vec<f32>],
        classes: Vec<String>,
        data: String,
        test: Option<String>,
    ) -> Result<Self> {
        let named = config.network.weights()?.into_iter().zip(weights);
        let weights = named.map(|((name, weight), values)| {
            let zeros = vec![0.0; values.len()];
            let (shape, values) = (weight.shape, values.clone());
            let average = config.recipe.average.map(|_| values.clone());
            Weight { name, shape, values, mean: zeros.clone(), square: zeros, average }
        });
        let state = State { steps: 0, weights: weights.collect() };
        Ok(Self {
            config,
            data,
            test,
            classes,
            border: None,
            epoch: 0,
            step: 0,
            loss: 0.0,
            right: 0,
            best: None,
            state,
        })
    }

    /// The first weight or moment that is NaN or infinite, if any, as in `mps1.a has a number that is
    /// NaN`.
    pub fn not_finite(&self) -> Option<String> {
        self.state.weights.iter().find_map(|weight| {
            weight.tensors().into_iter().zip(PREFIXES).find_map(|(values, prefix)| {
                let value = values.iter().find(|value| !value.is_finite())?;
                Some(format!("{prefix}{} has a number that is {value}", weight.name))
            })
        })
    }

    /// The file's content.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when a weight's values do not fill its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let tensors = self.state.weights.iter().flat_map(|weight| {
            let tensors = weight.tensors().into_iter().zip(PREFIXES);
            tensors.map(|(values, prefix)| {
                (format!("{prefix}{}", weight.name), weight.shape.clone(), values)
            })
        });
        let metadata = serde_json::to_string(&self.metadata())
            .map_err(|error| Error::internal("writing a checkpoint", error))?;
        let metadata = HashMap::from([(KEY.to_owned(), metadata)]);
        let mut bytes = tensor_file::to_bytes(tensors, metadata)?;
        let at = checksum_at(&bytes)
            .ok_or_else(|| Error::internal("writing a checkpoint", "it has no checksum"))?;
        let checksum = checksum(&bytes, at);
        bytes[at..at + DIGITS].copy_from_slice(checksum.as_bytes());
        Ok(bytes)
    }

    fn metadata(&self) -> Metadata {
        let TrainConfig { epochs, batch_size, lr, seed, validation, init, recipe, ref network } =
            self.config;
        Metadata {
            format: FORMAT,
            epochs,
            batch_size,
            lr,
            seed,
            validation,
            init,
            recipe,
            network: network.clone(),
            data: self.data.clone(),
            test: self.test.clone(),
            classes: self.classes.clone(),
            border: self.border,
            epoch: self.epoch,
            step: self.step,
            optimizer_steps: self.state.steps,
            loss: self.loss,
            right: self.right,
            best: self.best,
            checksum: "0".repeat(DIGITS),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read, [`Error::Malformed`] when it is not a checkpoint of this
    /// program or is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let described = Described::by(path, file.header())?;
        let (header, bytes) = file.content()?;
        described.content(path, &header, &bytes)
    }

    /// Reads a file's content. Errors name `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is not a checkpoint of this program or is damaged.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let header = Header::parse(path, bytes, bytes.len() as u64)?;
        Described::by(path, &header)?.content(path, &header, bytes)
    }

    /// Its network and weights: their mean, where the recipe has one.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for an impossible network, which the reader of a file has refused.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let weights = self.state.weights.iter().map(|weight| weight.network().to_vec());
        Snapshot::new(self.config.network.clone(), weights.collect())
    }
}

impl Weight {
    /// Its values and moments, and their mean where there is one, in the order of [`PREFIXES`].
    fn tensors(&self) -> Vec<&[f32]> {
        let moments = [&self.values, &self.mean, &self.square].into_iter().chain(&self.average);
        moments.map(Vec::as_slice).collect()
    }
}

/// What a header says of a training run, checked against the tensors that it lists.
pub(crate) struct Described {
    metadata: Metadata,
    weights: Vec<(String, Vec<usize>)>,
}

impl Described {
    pub(crate) fn by(path: &Path, header: &Header) -> Result<Self> {
        let wrong = |what: &str, expected: &str, found: &dyn std::fmt::Display| {
            Error::malformed(path, what, expected, found)
        };
        let metadata: Metadata = header.described(path, KEY, FORMAT, "a training run")?;
        let config = metadata.config();
        config.check().map_err(|error| wrong("metadata", "a possible training run", &error))?;
        let best = metadata.best.map_or(0, |(epoch, _)| epoch);
        if metadata.epoch > config.epochs || best > metadata.epoch {
            let found = format!("{} of {}, the best {best}", metadata.epoch, config.epochs);
            return Err(wrong("epoch", "one of the run's epochs", &found));
        }

        let weights = config.network.weights();
        let weights = weights.map_err(|error| wrong("network", "a possible one", &error))?;
        let (outputs, named) = (config.network.outputs()?, metadata.classes.len());
        if named != 0 && named != outputs {
            return Err(wrong("classes", &outputs.to_string(), &named));
        }
        let weights: Vec<(String, Vec<usize>)> =
            weights.into_iter().map(|(name, weight)| (name, weight.shape)).collect();
        let prefixes = prefixes(&metadata.recipe);
        let expected = weights.iter().flat_map(|(name, shape)| {
            prefixes.iter().map(move |prefix| (format!("{prefix}{name}"), &shape[..]))
        });
        header.check_holds(path, expected)?;
        Ok(Self { metadata, weights })
    }

    /// Reads the content.
    pub(crate) fn content(self, path: &Path, header: &Header, bytes: &[u8]) -> Result<Checkpoint> {
        let Self { metadata, weights } = self;
        let whole = checksum_at(bytes)
            .is_some_and(|at| bytes[at..at + DIGITS] == *checksum(bytes, at).as_bytes());
        if !whole {
            let found = "another: the file is damaged";
            return Err(Error::malformed(path, "checksum", "that of the content", found));
        }
        let weights = weights.into_iter().map(|(name, shape)| {
            let numbers = |prefix: &str| header.numbers(path, &format!("{prefix}{name}"), bytes);
            let [of_values, of_mean, of_square, of_average] = PREFIXES;
            let (values, mean) = (numbers(of_values)?, numbers(of_mean)?);
            let (square, averages) = (numbers(of_square)?, metadata.recipe.average.is_some());
            let average = averages.then(|| numbers(of_average)).transpose()?;
            Ok(Weight { name, shape, values, mean, square, average })
        });
        let weights = weights.collect::<Result<_>>()?;
        Ok(Checkpoint {
            config: metadata.config(),
            data: metadata.data,
            test: metadata.test,
            classes: metadata.classes,
            border: metadata.border,
            epoch: metadata.epoch,
            step: metadata.step,
            loss: metadata.loss,
            right: metadata.right,
            best: metadata.best,
            state: State { steps: metadata.optimizer_steps, weights },
        })
    }
}

impl Metadata {
    fn config(&self) -> TrainConfig {
        TrainConfig {
            epochs: self.epochs,
            batch_size: self.batch_size,
            lr: self.lr,
            seed: self.seed,
            validation: self.validation,
            init: self.init,
            recipe: self.recipe,
            network: self.network.clone(),
        }
    }
}

/// Offset of the checksum's digits: at the end of the metadata, within the header.
fn checksum_at(bytes: &[u8]) -> Option<usize> {
    let start = header_of(bytes)?;
    let found = start.windows(BEFORE_CHECKSUM.len()).rposition(|part| part == BEFORE_CHECKSUM)?;
    let at = found + BEFORE_CHECKSUM.len();
    (at + DIGITS <= start.len()).then_some(at)
}

/// SHA-256 of a file with the digits at `at` replaced by zeros.
fn checksum(bytes: &[u8], at: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(&bytes[..at]);
    hash.update([b'0'; DIGITS]);
    hash.update(&bytes[at + DIGITS..]);
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Model, Preset};
    use crate::train::RateSchedule;

    /// A checkpoint of a network as small as possible, with all weights 0.
    fn checkpoint(lr: f64, loss: f64, accuracy: f64) -> Checkpoint {
        let preset = Preset { model: Model::Mps, hidden: vec![1], ..Preset::default() };
        let network = preset.stack([1, 2, 1], 2).unwrap();
        let weights = network.weights().unwrap().into_iter().map(|(name, weight)| {
            let zeros = vec![0.0; weight.count()];
            let (shape, values) = (weight.shape, zeros.clone());
            let [mean, square, average] = [0, 1, 2].map(|_| zeros.clone());
            Weight { name, shape, values, mean, square, average: Some(average) }
        });
        let state = State { steps: 7, weights: weights.collect() };
        let config = TrainConfig {
            epochs: 3,
            batch_size: 4,
            lr,
            seed: 1,
            validation: 1,
            init: MpsInit::He,
            recipe: Recipe {
                schedule: RateSchedule::Cosine,
                warmup: lr.min(1.0),
                weight_decay: lr,
                label_smoothing: 0.1 + 0.2,
                average: Some(0.999),
                patience: Some(2),
            },
            network,
        };
        let best = Some((1, accuracy));
        Checkpoint {
            config,
            data: String::new(),
            test: None,
            classes: vec!["a".into(), "b".into()],
            border: Some(7),
            epoch: 1,
            step: 2,
            loss,
            right: 5,
            best,
            state,
        }
    }

    /// 0.1 + 0.2 needs 17 digits, 1e-310 is subnormal. Without `float_roundtrip`, `serde_json` may get
    /// the last bit of such numbers wrong.
    #[test]
    fn numbers_survive_a_checkpoint_to_the_bit() {
        let numbers = [0.1 + 0.2, 1e-310, 0.012_345_678_901_234_567, 1.0 / 3.0, f64::MAX];
        for (at, &lr) in numbers.iter().enumerate() {
            let [loss, accuracy] = [1, 2].map(|next| numbers[(at + next) % numbers.len()]);
            let written = checkpoint(lr, loss, accuracy);
            let bytes = written.to_bytes().unwrap();
            let read = Checkpoint::parse(Path::new("file"), &bytes).unwrap();
            let bits =
                |of: &Checkpoint| [of.config.lr, of.loss, of.best.unwrap().1].map(f64::to_bits);
            assert_eq!(bits(&read), bits(&written), "{lr:e} {loss:e} {accuracy:e}");
            assert_eq!(read, written);
        }
    }

    #[test]
    fn another_version_is_refused() {
        let bytes = checkpoint(1e-3, 0.0, 0.0).to_bytes().unwrap();
        let from = format!(r#"format\":{FORMAT}"#);
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        for version in [1, 2, 3, 9] {
            let mut other = bytes.clone();
            let to = format!(r#"format\":{version}"#);
            other[at..at + to.len()].copy_from_slice(to.as_bytes());
            let error = Checkpoint::parse(Path::new("file"), &other).unwrap_err().to_string();
            let expected = format!(
                "file: format: expected {FORMAT}, found {version}, written by another version of \
                 this program"
            );
            assert_eq!(error, expected);
        }
    }
}
