//! The classifier: the article's network, whose first layer is dense or a tensor network.
//!
//! ```text
//! first layer (784 → 512) ▸ ReLU ▸ dropout 0.2 ▸ 512 → 512 ▸ ReLU ▸ dropout 0.2 ▸ 512 → classes
//! ```

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::mps::{MpsInit, MpsSpec};
use crate::nn::MpsLinear;
use crate::random::{Purpose, normal, random, unit};

/// Width of the second layer.
pub const HIDDEN: usize = 512;

/// Fraction of activations that dropout sets to 0 after each hidden layer.
pub const DROPOUT: f64 = 0.2;

/// The kind of first layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum FirstLayer {
    /// Two cores joined by a bond.
    #[default]
    Mps,
    /// One matrix.
    Dense,
}

/// Everything that determines a network, except its weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassifierConfig {
    /// The kind of first layer.
    pub model: FirstLayer,
    /// Extents `[J, L]` of the input; their product is the number of pixels.
    pub in_factors: [usize; 2],
    /// Extents `[M, N]` of the first layer's output.
    pub out_factors: [usize; 2],
    /// Size of the bond; ignored by a dense first layer.
    pub bond: usize,
    /// Distribution of the weights before training. Dense layers are drawn by He's rule for `he`, and
    /// by Glorot's for `glorot` and `article` (the default of the article's framework).
    pub init: MpsInit,
    /// Number of classes.
    pub classes: usize,
}

/// Counts of trainable parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Of the first layer.
    pub first: usize,
    /// Of the whole network.
    pub total: usize,
}

impl ClassifierConfig {
    /// The extents of the first layer.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] naming the field whose value is impossible.
    pub fn spec(&self) -> Result<MpsSpec> {
        let bond = if self.model == FirstLayer::Dense { 1 } else { self.bond };
        MpsSpec::new(self.in_factors, self.out_factors, bond)
    }

    /// Counts the trainable parameters without building the network.
    ///
    /// # Errors
    ///
    /// As [`ClassifierConfig::spec`].
    pub fn parameters(&self) -> Result<Parameters> {
        let spec = self.spec()?;
        let first = match self.model {
            FirstLayer::Mps => spec.parameters(),
            FirstLayer::Dense => spec.dense_parameters(),
        };
        let second = spec.outputs() * HIDDEN + HIDDEN;
        Ok(Parameters { first, total: first + second + HIDDEN * self.classes + self.classes })
    }

    /// Name and shape of every weight, in layer order.
    ///
    /// # Errors
    ///
    /// As [`ClassifierConfig::spec`].
    pub fn weights(&self) -> Result<Vec<(&'static str, Vec<usize>)>> {
        let spec = self.spec()?;
        let mut weights: Vec<(&str, Vec<usize>)> = match self.model {
            FirstLayer::Mps => vec![
                ("first.a", spec.a_shape().into()),
                ("first.c", spec.c_shape().into()),
                ("first.bias", spec.bias_shape().into()),
            ],
            FirstLayer::Dense => vec![
                ("first.weight", vec![spec.inputs(), spec.outputs()]),
                ("first.bias", vec![spec.outputs()]),
            ],
        };
        weights.extend([
            ("second.weight", vec![spec.outputs(), HIDDEN]),
            ("second.bias", vec![HIDDEN]),
            ("output.weight", vec![HIDDEN, self.classes]),
            ("output.bias", vec![self.classes]),
        ]);
        Ok(weights)
    }

    /// The network with these weights, each flat, in the order of [`ClassifierConfig::weights`].
    ///
    /// # Errors
    ///
    /// As [`ClassifierConfig::spec`].
    ///
    /// # Panics
    ///
    /// If a weight is missing or of the wrong size.
    pub fn with_weights(&self, values: Vec<Tensor<1>>) -> Result<Classifier> {
        let spec = self.spec()?;
        let mut values = values.into_iter();
        #[expect(clippy::expect_used, reason = "documented: the caller has a weight for each name")]
        let mut next = || values.next().expect("a weight for each name");
        let first = match self.model {
            FirstLayer::Mps => First::Mps(MpsLinear {
                a: Param::from_tensor(next().reshape(spec.a_shape())),
                c: Param::from_tensor(next().reshape(spec.c_shape())),
                bias: Some(Param::from_tensor(next().reshape(spec.bias_shape()))),
            }),
            FirstLayer::Dense => First::Dense(dense(&mut next, [spec.inputs(), spec.outputs()])),
        };
        Ok(Classifier {
            first,
            second: dense(&mut next, [spec.outputs(), HIDDEN]),
            output: dense(&mut next, [HIDDEN, self.classes]),
            dropout: DropoutConfig::new(DROPOUT).init(),
        })
    }

    /// The weights before training, each flat, in the order of [`ClassifierConfig::weights`]. They
    /// follow from `seed` alone and are the same for every device. Biases are 0.
    ///
    /// # Errors
    ///
    /// As [`ClassifierConfig::spec`].
    pub fn draw(&self, seed: u64) -> Result<Vec<Vec<f32>>> {
        let spec = self.spec()?;
        let mut random = random(Purpose::Weights, seed, 0);
        let draw = |(name, shape): (&str, Vec<usize>)| {
            let count = shape.iter().product();
            let mut numbers = |draw: fn(&mut ChaCha8Rng) -> f64, scale: f64| {
                (0..count).map(|_| (scale * draw(&mut random)) as f32).collect()
            };
            match (name, shape.as_slice()) {
                ("first.a" | "first.c", _) => numbers(normal, self.init.core_std(&spec)),
                // He et al. 2015, eq. 10, and Glorot and Bengio 2010, eq. 16.
                (_, &[inputs, outputs]) if name.ends_with(".weight") => match self.init {
                    MpsInit::He => numbers(normal, (2.0 / inputs as f64).sqrt()),
                    MpsInit::Glorot | MpsInit::Article => {
                        let most = (6.0 / (inputs + outputs) as f64).sqrt();
                        numbers(|random| 2.0 * unit(random) - 1.0, most)
                    }
                },
                _ => vec![0.0; count],
            }
        };
        Ok(self.weights()?.into_iter().map(draw).collect())
    }

    /// Creates the network with the weights that [`ClassifierConfig::draw`] draws.
    ///
    /// # Errors
    ///
    /// As [`ClassifierConfig::spec`].
    pub fn init(&self, seed: u64, device: &Device) -> Result<Classifier> {
        let values = self.draw(seed)?.into_iter();
        self.with_weights(values.map(|values| Tensor::from_data(&values[..], device)).collect())
    }
}

/// A dense layer made of the next two weights.
fn dense(next: &mut impl FnMut() -> Tensor<1>, extents: [usize; 2]) -> Linear {
    Linear {
        weight: Param::from_tensor(next().reshape(extents)),
        bias: Some(Param::from_tensor(next())),
    }
}

/// The first layer, of either kind.
#[derive(Module, Debug)]
pub enum First {
    /// Two cores joined by a bond.
    Mps(MpsLinear),
    /// One matrix.
    Dense(Linear),
}

/// The classifier.
#[derive(Module, Debug)]
pub struct Classifier {
    /// First layer, `[batch, J·L]` to `[batch, M·N]`.
    pub first: First,
    /// Second layer, `[batch, M·N]` to `[batch, HIDDEN]`.
    pub second: Linear,
    /// Output layer, `[batch, HIDDEN]` to `[batch, classes]`.
    pub output: Linear,
    dropout: Dropout,
}

impl Classifier {
    /// Logits `[batch, classes]` of images `[batch, J·L]` with values in `[0, 1]`.
    ///
    /// Dropout is active only on an autodiff device.
    pub fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.after_first(match &self.first {
            First::Mps(layer) => layer.forward(images),
            First::Dense(layer) => layer.forward(images),
        })
    }

    /// The same, starting from the first layer's output `[batch, M·N]`.
    pub fn after_first(&self, hidden: Tensor<2>) -> Tensor<2> {
        let hidden = self.dropout.forward(relu(hidden));
        let hidden = self.dropout.forward(relu(self.second.forward(hidden)));
        self.output.forward(hidden)
    }
}
