//! A trained network as one safetensors file: the weights by name, the network's configuration and
//! where training stood in the metadata.
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

use crate::model::{Classifier, ClassifierConfig};
use crate::{Error, Result};

/// The value of the metadata key `format`, by which a file is known to be ours.
const FORMAT: &str = "tnet-gpu 1";

/// Largest file that is read: 4 GiB, far above any network that this program can train today.
const MAX_BYTES: u64 = 4 << 30;

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
        let classifier = serde_json::to_string(&self.classifier)
            .map_err(|error| Error::compute("writing the weights", error))?;
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("classifier".to_owned(), classifier),
            ("epoch".to_owned(), self.epoch.to_string()),
            ("seed".to_owned(), self.seed.to_string()),
        ]);
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
        let metadata = header.metadata().clone().unwrap_or_default();
        let get = |key: &str| {
            metadata.get(key).ok_or_else(|| {
                Error::malformed(
                    path,
                    "metadata",
                    format!("the key '{key}' of a network trained by this program"),
                    "none",
                )
            })
        };
        let format = get("format")?;
        if format != FORMAT {
            return Err(Error::malformed(path, "format", FORMAT, format));
        }
        let wrong = |key: &'static str, text: &str| Error::malformed(path, key, "a number", text);
        let (epoch, seed, classifier) = (get("epoch")?, get("seed")?, get("classifier")?);
        let epoch = epoch.parse().map_err(|_| wrong("epoch", epoch))?;
        let seed = seed.parse().map_err(|_| wrong("seed", seed))?;
        let classifier: ClassifierConfig = serde_json::from_str(classifier)
            .map_err(|error| Error::malformed(path, "classifier", "a configuration", error))?;

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
