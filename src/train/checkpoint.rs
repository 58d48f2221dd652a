//! A trained network as one safetensors file: the weights by name, and in the metadata, as JSON under
//! the key `tnet-gpu`, what the network is and where its training stood.
//!
//! A file is never trusted: names, types, shapes and sizes are held against the network that its
//! metadata describes before anything is allocated for it, and weights must be finite.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::model::{Classifier, ClassifierConfig};
use crate::{Error, Result};

/// The key of the metadata by which a file is known to be ours.
const KEY: &str = "tnet-gpu";

/// The version of the format.
const FORMAT: u32 = 1;

/// Largest file that is read: 4 GiB, far above any network that this program can train today.
const MAX_BYTES: u64 = 4 << 30;

/// What is in the metadata. It is one key, because the order of several is not fixed and equal
/// networks shall give equal files.
#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    format: u32,
    classifier: ClassifierConfig,
    epoch: usize,
    seed: u64,
}

/// A network and where its training stood.
#[derive(Debug)]
pub struct Checkpoint {
    /// What the network is.
    pub classifier: ClassifierConfig,
    /// Epochs finished.
    pub epoch: usize,
    /// The training's seed.
    pub seed: u64,
    /// The network, on a device without autodiff.
    pub model: Classifier,
}

impl Checkpoint {
    /// The file's content.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] when the weights cannot be read from the device.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut collected = Collect { fields: Fields::default(), weights: Ok(Vec::new()) };
        self.model.visit(&mut collected);
        let weights = collected.weights?;
        let views: Vec<_> = weights
            .iter()
            .map(|(name, shape, values)| {
                TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values))
                    .map(|view| (name, view))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Error::compute("writing the weights", error))?;
        let Self { classifier, epoch, seed, .. } = *self;
        let metadata = Metadata { format: FORMAT, classifier, epoch, seed };
        let metadata = serde_json::to_string(&metadata)
            .map_err(|error| Error::compute("writing the weights", error))?;
        let metadata = HashMap::from([(KEY.to_owned(), metadata)]);
        safetensors::serialize(views, Some(metadata))
            .map_err(|error| Error::compute("writing the weights", error))
    }

    /// Reads a file and puts the network on `device`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read, [`Error::Malformed`] when it is not a checkpoint of
    /// this program or is damaged.
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::malformed(path, "size", "at most 4 GiB", "more"));
        }
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| Error::malformed(path, "content", "a safetensors file", error))?;
        let metadata = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let metadata = metadata.ok_or_else(|| {
            let expected = format!("the key '{KEY}', as in networks trained by this program");
            Error::malformed(path, "metadata", expected, "none")
        })?;
        let metadata: Metadata = serde_json::from_str(metadata)
            .map_err(|error| Error::malformed(path, "metadata", "a configuration", error))?;
        let Metadata { format, classifier, epoch, seed } = metadata;
        if format != FORMAT {
            return Err(Error::malformed(path, "format", FORMAT, format));
        }

        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| Error::malformed(path, "content", "a safetensors file", error))?;
        // Weights that are all there bound the network's size by the file's.
        let parameters = classifier.parameters().map(|parameters| parameters.total);
        let held: usize =
            tensors.iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
        match parameters {
            Ok(count) if count == held => {}
            Ok(count) => {
                return Err(Error::malformed(path, "weights", format!("{count} numbers"), held));
            }
            Err(error) => {
                return Err(Error::malformed(path, "classifier", "possible extents", error));
            }
        }
        let mut load = Load { path, tensors: &tensors, fields: Fields::default(), failed: None };
        let model = classifier.init(device)?.map(&mut load);
        match load.failed {
            Some(error) => Err(error),
            None => Ok(Self { classifier, epoch, seed, model }),
        }
    }
}

/// The fields that lead to a weight. A variant of an enum is no part of them: `first.a`, whichever
/// first layer it is.
#[derive(Debug, Default)]
struct Fields(Vec<Option<String>>);

impl Fields {
    fn enter(&mut self, name: &str, container: &str) {
        self.0.push((!container.starts_with("Enum:")).then(|| name.to_owned()));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn name(&self) -> String {
        self.0.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

/// Name, shape and values of one weight.
type Weight = (String, Vec<usize>, Vec<f32>);

/// Collects every weight of a network, up to the first that the device does not give.
struct Collect {
    fields: Fields,
    weights: Result<Vec<Weight>>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.fields.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.fields.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(weights) = &mut self.weights else { return };
        let weight = param.transform_for_save().val();
        let shape = weight.dims().to_vec();
        match weight.try_to_vec_as::<f32>() {
            Ok(values) => weights.push((self.fields.name(), shape, values)),
            Err(error) => self.weights = Err(Error::compute("reading the weights", error)),
        }
    }
}

/// Puts the weights of a file into a network, up to the first that does not fit.
struct Load<'a> {
    path: &'a Path,
    tensors: &'a SafeTensors<'a>,
    fields: Fields,
    failed: Option<Error>,
}

impl Load<'_> {
    fn weight(&self, shape: &[usize]) -> Result<TensorData> {
        let name = self.fields.name();
        let wrong = |expected: String, found: String| {
            Error::malformed(self.path, format!("tensor '{name}'"), expected, found)
        };
        let expected = format!("F32 {shape:?}");
        let Ok(view) = self.tensors.tensor(&name) else {
            return Err(wrong(expected, "none".into()));
        };
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(wrong(expected, format!("{} {:?}", view.dtype(), view.shape())));
        }
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
        match values.iter().find(|value| !value.is_finite()) {
            Some(value) => Err(wrong("finite numbers".into(), value.to_string())),
            None => Ok(TensorData::new(values, shape.to_vec())),
        }
    }
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.fields.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.fields.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failed.is_some() {
            return param;
        }
        match self.weight(param.lazy_shape().as_slice()) {
            Ok(data) => {
                let weight = Tensor::from_data(data, &param.lazy_device());
                let id = param.id;
                param.transform_for_load(weight, id)
            }
            Err(error) => {
                self.failed = Some(error);
                param
            }
        }
    }
}
