//! Where a training stands, as one safetensors file: the weights by name, Adam's moments as
//! `adam.mean.NAME` and `adam.square.NAME`, and in the metadata, as JSON under the key `tnet-gpu`,
//! what is trained, how far it is, and a checksum of the whole file.
//!
//! A file is never trusted. What its header promises is held against the network that its metadata
//! describes, and against the file's length, before anything is allocated for it; then the checksum
//! is compared, and every number must be finite. Equal trainings give equal files: there is no time
//! in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::Dtype;
use safetensors::tensor::{Metadata as Tensors, TensorView};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::TrainConfig;
use super::learner::{Network, State, Weight};
use crate::hex;
use crate::model::ClassifierConfig;
use crate::{Error, Result};

/// The key of the metadata by which a file is known to be ours.
const KEY: &str = "tnet-gpu";

/// The version of the format. Version 1 held the weights alone.
const FORMAT: u32 = 2;

/// Bytes in which a safetensors file gives the length of its header.
const LENGTH: usize = 8;

/// Longest header that is read; ours have some three thousand bytes.
const MAX_HEADER: u64 = 1 << 20;

/// Hexadecimal digits of a checksum.
const DIGITS: usize = 64;

/// What comes before the checksum in the header: JSON within JSON.
const BEFORE_CHECKSUM: &[u8] = br#"\"checksum\":\""#;

/// What the tensors of a weight are called: itself and Adam's moments.
const PREFIXES: [&str; 3] = ["", "adam.mean.", "adam.square."];

/// A training that stands still between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// What is trained, and how.
    pub config: TrainConfig,
    /// What it is trained on: [`super::Splits::sha256`].
    pub data: String,
    /// Epochs finished.
    pub epoch: usize,
    /// Steps done in the epoch after those.
    pub step: usize,
    /// Sum of the losses in these steps.
    pub loss: f64,
    /// Images classified right in these steps.
    pub right: u64,
    /// Epoch and accuracy on the held-out images of the best network so far, where there are any.
    pub best: Option<(usize, f64)>,
    /// The weights and the optimizer.
    pub state: State,
}

/// What is in the metadata, in this order. It is one key, because the order of several is not fixed.
#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    format: u32,
    epochs: usize,
    batch_size: usize,
    lr: Exact,
    seed: u64,
    validation: usize,
    classifier: ClassifierConfig,
    data: String,
    epoch: usize,
    step: usize,
    optimizer_steps: u64,
    loss: Exact,
    right: u64,
    best: Option<(usize, Exact)>,
    /// SHA-256 of the file with zeros in place of these digits.
    checksum: String,
}

/// The part of the metadata that every version has.
#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

/// A number that keeps its bits. It is written as text, because what `serde_json` reads as a number
/// may be off in the last bit.
#[derive(Debug, Clone, Copy)]
struct Exact(f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:e}", self.0))
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Self).ok_or_else(|| serde::de::Error::custom(format!("no number: '{text}'")))
    }
}

impl Checkpoint {
    /// The first weight or moment that is NaN or infinite, told as the subject of a sentence.
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
    /// [`Error::Compute`] when a weight's numbers do not fill its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let broken = |error: &dyn std::error::Error| Error::compute("writing a checkpoint", error);
        let mut views = Vec::with_capacity(PREFIXES.len() * self.state.weights.len());
        for weight in &self.state.weights {
            for (values, prefix) in weight.tensors().into_iter().zip(PREFIXES) {
                let values = bytemuck::cast_slice(values);
                let view = TensorView::new(Dtype::F32, weight.shape.clone(), values)
                    .map_err(|error| broken(&error))?;
                views.push((format!("{prefix}{}", weight.name), view));
            }
        }
        let metadata = serde_json::to_string(&self.metadata()).map_err(|error| broken(&error))?;
        let metadata = HashMap::from([(KEY.to_owned(), metadata)]);
        let mut bytes =
            safetensors::serialize(views, Some(metadata)).map_err(|error| broken(&error))?;
        let at = checksum_at(&bytes)
            .ok_or_else(|| Error::compute("writing a checkpoint", "it has no checksum"))?;
        let checksum = checksum(&bytes, at);
        bytes[at..at + DIGITS].copy_from_slice(checksum.as_bytes());
        Ok(bytes)
    }

    fn metadata(&self) -> Metadata {
        let TrainConfig { epochs, batch_size, lr, seed, validation, classifier } = self.config;
        Metadata {
            format: FORMAT,
            epochs,
            batch_size,
            lr: Exact(lr),
            seed,
            validation,
            classifier,
            data: self.data.clone(),
            epoch: self.epoch,
            step: self.step,
            optimizer_steps: self.state.steps,
            loss: Exact(self.loss),
            right: self.right,
            best: self.best.map(|(epoch, accuracy)| (epoch, Exact(accuracy))),
            checksum: "0".repeat(DIGITS),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read, [`Error::Malformed`] when it is no checkpoint of this
    /// program or is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut bytes = Vec::new();
        let mut read = |bytes: &mut Vec<u8>, count: u64| {
            file.by_ref().take(count).read_to_end(bytes).map_err(Error::io("read", path))
        };
        read(&mut bytes, LENGTH as u64)?;
        let header = header_length(&bytes).map_or(0, |length| length as u64).min(MAX_HEADER);
        read(&mut bytes, header)?;
        let header = Header::parse(path, &bytes, length)?;
        // The length was compared; what has grown since then is refused below.
        let rest = length - bytes.len() as u64;
        read(&mut bytes, rest + 1)?;
        header.content(path, &bytes)
    }

    /// Reads a file's content. `path` is named in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is no checkpoint of this program or is damaged.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        Header::parse(path, bytes, bytes.len() as u64)?.content(path, bytes)
    }

    /// The network, on `device`.
    pub fn network(&self, device: &Device) -> Network {
        let values = self.state.weights.iter().map(|weight| {
            let shape = [weight.values.len()];
            Tensor::from_data(TensorData::new(weight.values.clone(), shape), device)
        });
        Network::new(self.config.classifier, values.collect())
    }
}

impl Weight {
    /// Its numbers, in the order of [`PREFIXES`].
    fn tensors(&self) -> [&[f32]; 3] {
        [&self.values, &self.mean, &self.square]
    }
}

/// A header that fits its network and the length of its file.
struct Header {
    tensors: Tensors,
    metadata: Metadata,
    weights: Vec<(&'static str, Vec<usize>)>,
    /// Where the tensors begin.
    begin: usize,
    /// Bytes of the whole file.
    length: u64,
}

impl Header {
    /// Reads the header at the beginning of a file of `length` bytes.
    fn parse(path: &Path, start: &[u8], length: u64) -> Result<Self> {
        let wrong = |what: &str, expected: &str, found: &dyn std::fmt::Display| {
            Error::malformed(path, what, expected, found)
        };
        let safetensors = |found: &dyn std::fmt::Display| {
            wrong("content", "a safetensors file, as written by tnet-gpu train", found)
        };
        let header =
            header_length(start).ok_or_else(|| safetensors(&format!("{} bytes", start.len())))?;
        if header as u64 > MAX_HEADER {
            return Err(safetensors(&format!("a header of {header} bytes")));
        }
        let begin = LENGTH + header;
        let header = start.get(LENGTH..begin).ok_or_else(|| {
            safetensors(&format!("a header that ends after {} bytes", start.len()))
        })?;
        let tensors: Tensors =
            serde_json::from_slice(header).map_err(|error| safetensors(&error))?;

        let metadata = tensors.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let metadata = metadata.ok_or_else(|| {
            let expected = "the key 'tnet-gpu', as in checkpoints of this program";
            wrong("metadata", expected, &"none: another program's file")
        })?;
        let Version { format } = serde_json::from_str(metadata)
            .map_err(|error| wrong("metadata", "a version", &error))?;
        match format {
            FORMAT => {}
            1 => {
                let found = "1, of an older version of this program, which kept no optimizer state: \
                             train the network again";
                return Err(wrong("format", "2", &found));
            }
            _ => return Err(wrong("format", "2", &format)),
        }
        let metadata: Metadata = serde_json::from_str(metadata)
            .map_err(|error| wrong("metadata", "a training", &error))?;
        let config = metadata.config();
        config.check().map_err(|error| wrong("metadata", "a possible training", &error))?;
        let best = metadata.best.map_or(0, |(epoch, _)| epoch);
        if metadata.epoch > config.epochs || best > metadata.epoch {
            let found = format!("{} of {}, the best {best}", metadata.epoch, config.epochs);
            return Err(wrong("epoch", "one of the training's", &found));
        }

        let weights = config
            .classifier
            .weights()
            .map_err(|error| wrong("classifier", "possible extents", &error))?;
        for ((name, shape), prefix) in
            weights.iter().flat_map(|weight| PREFIXES.map(|prefix| (weight, prefix)))
        {
            let name = format!("{prefix}{name}");
            let expected = format!("F32 {shape:?}");
            let Some(info) = tensors.info(&name) else {
                return Err(wrong(&format!("tensor '{name}'"), &expected, &"none"));
            };
            if info.dtype != Dtype::F32 || info.shape != *shape {
                let found = format!("{} {:?}", info.dtype, info.shape);
                return Err(wrong(&format!("tensor '{name}'"), &expected, &found));
            }
        }
        let (count, held) = (PREFIXES.len() * weights.len(), tensors.offset_keys().len());
        if held != count {
            return Err(wrong("tensors", &format!("{count}"), &held));
        }
        let expected = begin as u64 + tensors.data_len() as u64;
        if expected != length {
            let found = match length < expected {
                true => format!("{length}: the file is cut short"),
                false => format!("{length}: something was appended"),
            };
            return Err(wrong("size", &format!("{expected} bytes"), &found));
        }
        Ok(Self { tensors, metadata, weights, begin, length })
    }

    /// Reads what the header describes.
    fn content(self, path: &Path, bytes: &[u8]) -> Result<Checkpoint> {
        let Self { tensors, metadata, weights, begin, length } = self;
        if bytes.len() as u64 != length {
            let expected = format!("{length} bytes, as when it was opened");
            return Err(Error::malformed(path, "size", expected, bytes.len()));
        }
        let whole = checksum_at(bytes)
            .is_some_and(|at| bytes[at..at + DIGITS] == *checksum(bytes, at).as_bytes());
        if !whole {
            let found = "another: the file is damaged";
            return Err(Error::malformed(path, "checksum", "that of the content", found));
        }

        let data = &bytes[begin..];
        let read = |name: &str, prefix: &str| -> Result<Vec<f32>> {
            let name = format!("{prefix}{name}");
            let (from, to) = tensors.info(&name).map_or((0, 0), |info| info.data_offsets);
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&data[from..to]);
            match values.iter().find(|value| !value.is_finite()) {
                None => Ok(values),
                Some(value) => {
                    let what = format!("tensor '{name}'");
                    Err(Error::malformed(path, what, "finite numbers", value))
                }
            }
        };
        let weights = weights.into_iter().map(|(name, shape)| {
            let [values, mean, square] = PREFIXES.map(|prefix| read(name, prefix));
            Ok(Weight { name, shape, values: values?, mean: mean?, square: square? })
        });
        let weights = weights.collect::<Result<_>>()?;
        Ok(Checkpoint {
            config: metadata.config(),
            data: metadata.data,
            epoch: metadata.epoch,
            step: metadata.step,
            loss: metadata.loss.0,
            right: metadata.right,
            best: metadata.best.map(|(epoch, accuracy)| (epoch, accuracy.0)),
            state: State { steps: metadata.optimizer_steps, weights },
        })
    }
}

impl Metadata {
    fn config(&self) -> TrainConfig {
        TrainConfig {
            epochs: self.epochs,
            batch_size: self.batch_size,
            lr: self.lr.0,
            seed: self.seed,
            validation: self.validation,
            classifier: self.classifier,
        }
    }
}

/// The length of a safetensors file's header, where it is there and fits this machine.
fn header_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<LENGTH>()?;
    usize::try_from(u64::from_le_bytes(*length)).ok()
}

/// Where the digits of the checksum are: at the end of the metadata, within the header.
fn checksum_at(bytes: &[u8]) -> Option<usize> {
    let start = bytes.get(..LENGTH.checked_add(header_length(bytes)?)?)?;
    let found = start.windows(BEFORE_CHECKSUM.len()).rposition(|part| part == BEFORE_CHECKSUM)?;
    let at = found + BEFORE_CHECKSUM.len();
    (at + DIGITS <= start.len()).then_some(at)
}

/// SHA-256 of a file with zeros in place of the digits at `at`.
fn checksum(bytes: &[u8], at: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(&bytes[..at]);
    hash.update([b'0'; DIGITS]);
    hash.update(&bytes[at + DIGITS..]);
    hex(&hash.finalize())
}
