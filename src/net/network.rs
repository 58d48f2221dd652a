//! A network on a device.

use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::{Backward, Call, Layer, Shape, Stack, Stepped, Weight, Weights};
use crate::op::activation::Activation;
use crate::op::conv::Pool;
use crate::op::state::Layout;
use crate::op::target_of;
use crate::op::words::StepWords;
use crate::{Error, Result};

/// A layer and the activation after it, computed in one go.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The names of its layers: `mps1, relu2, dropout3`.
    pub name: String,
    /// The layer.
    pub layer: Layer,
    /// The shape of its input.
    pub input: Shape,
    /// Which of the network's weights are its own.
    pub weights: Range<usize>,
    /// What follows it in the same pass, without a seed.
    pub(super) activation: Activation,
    /// Which of a step's seeds its dropout takes.
    pub(super) seed: Option<usize>,
    /// The pooling that is computed with a convolution, before the activation.
    pub(super) pool: Option<Pool>,
}

impl Stage {
    /// Whether a ReLU follows the layer.
    pub fn has_relu(&self) -> bool {
        self.activation.relu
    }

    /// Where its weights lie in its state.
    pub fn layout(&self) -> Layout {
        Layout::new(self.layer.kind().weights(self.input).iter().map(Weight::count))
    }

    fn call<'a>(&self, weights: &'a Weights, words: &'a StepWords, drops: bool) -> Call<'a> {
        let activation = match (drops, self.seed) {
            (true, Some(seed)) => self.activation.seeded(seed),
            _ => self.activation.without_dropout(),
        };
        let (input, wants_grad_x, pool) = (self.input, self.wants_grad_x(), self.pool);
        Call { input, weights, activation, words, wants_grad_x, pool }
    }

    /// The output of a batch. `weights` are those of this stage; unless it `drops`, nothing is dropped.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] when an operand does not fit.
    pub fn forward(
        &self,
        weights: &Weights,
        words: &StepWords,
        drops: bool,
        x: Tensor<2>,
    ) -> Result<Tensor<2>> {
        self.layer.kind().forward(&self.call(weights, words, drops), x)
    }

    /// The gradient by the input, if it is wanted, and the state after a step.
    ///
    /// # Errors
    ///
    /// As [`Stage::forward`].
    pub fn backward(&self, words: &StepWords, step: Backward) -> Result<Stepped> {
        let weights = Weights::new(None, step.layout.clone());
        self.layer.kind().backward(&self.call(&weights, words, true), step)
    }

    /// Whether a stage before it has weights, and so needs the gradient by its input.
    pub fn wants_grad_x(&self) -> bool {
        self.weights.start > 0
    }

    /// Whether [`Stage::backward`] needs the output.
    pub fn needs_output(&self) -> bool {
        self.activation.needs_output()
    }
}

/// A network for evaluation.
#[derive(Debug, Clone)]
pub struct Network {
    /// Each with its weights.
    stages: Vec<(Stage, Weights)>,
    /// Where nothing is dropped, no words are read.
    words: StepWords,
}

impl Network {
    /// The network with these weights, each flat, in the order of [`Stack::weights`].
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`]; [`Error::Argument`] naming `weights` when they are not as many, or of other sizes, than the
    /// network has.
    pub fn new(stack: &Stack, weights: &[Vec<f32>], device: &Device) -> Result<Self> {
        stack.check_weights(weights)?;
        let own = |stage: Stage| {
            let (own, layout) = (&weights[stage.weights.clone()], stage.layout());
            let numbers = (!own.is_empty()).then(|| {
                let values = layout.values(own.iter().map(Vec::as_slice).collect());
                Tensor::from_data(&values[..], device)
            });
            (stage, Weights::new(numbers, layout))
        };
        let stages = stack.stages_for(target_of(device))?.into_iter();
        Ok(Self::of(stages.map(own).collect(), device))
    }

    /// The network of these stages, each with its weights.
    pub(crate) fn of(stages: Vec<(Stage, Weights)>, device: &Device) -> Self {
        Self { stages, words: StepWords::none(device) }
    }

    /// Logits `[batch, classes]` of images `[batch, features]` with values in `[0, 1]`, without dropout.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] when the images do not have the network's input size.
    pub fn logits(&self, images: Tensor<2>) -> Result<Tensor<2>> {
        self.stages
            .iter()
            .try_fold(images, |x, (stage, weights)| stage.forward(weights, &self.words, false, x))
    }

    /// The class of each image `[batch, features]`, its values in `[0, 1]`: that of the largest logit.
    ///
    /// # Errors
    ///
    /// As [`Network::logits`]; [`Error::Compute`] when the device fails.
    pub fn predict(&self, images: Tensor<2>) -> Result<Vec<Prediction>> {
        let probabilities = self.probabilities(images)?;
        Ok(probabilities.iter().map(|of_image| Prediction::of(of_image)).collect())
    }

    /// For each image `[batch, features]`, its values in `[0, 1]`, the probability of every class: the softmax of its logits.
    ///
    /// # Errors
    ///
    /// As [`Network::predict`].
    pub fn probabilities(&self, images: Tensor<2>) -> Result<Vec<Vec<f32>>> {
        Ok(rows(self.logits(images)?)?.iter().map(|logits| softmax(logits)).collect())
    }
}

/// What a network takes an image for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The class, counted from 0.
    pub class: usize,
    /// Its probability.
    pub probability: f32,
}

impl Prediction {
    /// The most probable class of an image; of equal ones the first, as where accuracy is measured.
    pub fn of(probabilities: &[f32]) -> Self {
        let by_value = |(_, one): &(usize, &f32), (_, other): &(usize, &f32)| one.total_cmp(other);
        let largest = probabilities.iter().enumerate().rev().max_by(by_value);
        let (class, &probability) = largest.unwrap_or((0, &0.0));
        Self { class, probability }
    }
}

/// Logits `[batch, classes]`, read from their device: a row for each image.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub(crate) fn rows(logits: Tensor<2>) -> Result<Vec<Vec<f32>>> {
    let [_, classes] = logits.dims();
    let logits = logits.try_to_vec_as::<f32>();
    let logits = logits.map_err(|error| Error::compute("reading the logits", error))?;
    Ok(logits.chunks_exact(classes).map(<[f32]>::to_vec).collect())
}

/// `exp(x) / Σ exp(x)`. Without the largest logit taken off first, powers above 88 would overflow f32.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = || logits.iter().map(|logit| f64::from(logit - largest).exp());
    let sum: f64 = powers().sum();
    powers().map(|power| (power / sum) as f32).collect()
}
