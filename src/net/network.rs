//! A network on a device.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{Backward, Call, Layer, Shape, Stack};
use crate::op::training::Activation;
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
}

impl Stage {
    fn call<'a>(&self, values: &'a [Tensor<1>], seeds: Option<&[u64]>) -> Call<'a> {
        let activation = match (seeds, self.seed) {
            (Some(seeds), Some(seed)) => self.activation.seeded(seeds[seed]),
            _ => self.activation.without_dropout(),
        };
        Call {
            input: self.input,
            weights: &values[self.weights.clone()],
            activation,
            wants_grad_x: self.wants_grad_x(),
        }
    }

    /// The output of a batch. `values` are all of the network's weights; without `seeds`, nothing is dropped.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] when an operand does not fit.
    pub fn forward(
        &self,
        values: &[Tensor<1>],
        seeds: Option<&[u64]>,
        x: Tensor<2>,
    ) -> Result<Tensor<2>> {
        self.layer.kind().forward(&self.call(values, seeds), x)
    }

    /// The gradients, from the input, the output where [`Stage::needs_output`] says so, and the gradient by the output.
    ///
    /// # Errors
    ///
    /// As [`Stage::forward`].
    pub fn backward(
        &self,
        values: &[Tensor<1>],
        seeds: &[u64],
        [x, grad_y]: [Tensor<2>; 2],
        y: Option<Tensor<2>>,
    ) -> Result<Backward> {
        self.layer.kind().backward(&self.call(values, Some(seeds)), x, y, grad_y)
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
    stages: Vec<Stage>,
    values: Vec<Tensor<1>>,
}

impl Network {
    /// The network with these weights, each flat, in the order of [`Stack::weights`].
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`]; [`Error::Argument`] when there is not one for each weight.
    pub fn new(stack: &Stack, values: Vec<Tensor<1>>) -> Result<Self> {
        let weights = stack.weights()?.len();
        if values.len() != weights {
            let problem = format!("{}: expected one for each of {weights} weights", values.len());
            return Err(Error::argument("values", problem));
        }
        Ok(Self::of(stack.stages()?, values))
    }

    /// The network of these stages, with the weights that they have.
    pub(crate) fn of(stages: Vec<Stage>, values: Vec<Tensor<1>>) -> Self {
        Self { stages, values }
    }

    /// Logits `[batch, classes]` of images `[batch, features]` with values in `[0, 1]`, without dropout.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] when the images do not have the network's input size.
    pub fn logits(&self, images: Tensor<2>) -> Result<Tensor<2>> {
        self.stages.iter().try_fold(images, |x, stage| stage.forward(&self.values, None, x))
    }
}
