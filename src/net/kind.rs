//! What every kind of layer has.

use std::fmt;

use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;

use super::{Layer, Shape, features};
use crate::mps::{Fan, MpsInit};
use crate::op::activation::Activation;
use crate::op::conv::Pool;
use crate::op::state::{Betas, Layout};
use crate::op::training::{self, ReluBefore};
use crate::op::words::StepWords;
use crate::random::{normal, unit};
use crate::{Error, Result};

/// A kind of layer: what it makes of a sample of a given shape, its weights, and how it is computed.
///
/// Tensors between layers are `[batch, features]`, the features of a sample in row-major order of its [`Shape`].
pub trait Kind: fmt::Debug {
    /// The shape of the output.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] naming the field of the layer that does not fit, or `input`.
    fn output(&self, input: Shape) -> Result<Shape>;

    /// The weights, in the order in which they are drawn, stored, and passed to the other methods.
    fn weights(&self, _input: Shape) -> Vec<Weight> {
        Vec::new()
    }

    /// The multiply-adds for one sample.
    fn multiply_adds(&self, _input: Shape) -> MultiplyAdds {
        MultiplyAdds::default()
    }

    /// Numbers per sample of every buffer that a step needs besides the layer's input.
    fn buffers(&self, input: Shape) -> Vec<usize> {
        self.output(input).into_iter().map(features).collect()
    }

    /// Numbers of a buffer that an adapter needs for a single sample, whatever the batch.
    fn buffer_of_one(&self, _input: Shape) -> Option<usize> {
        None
    }

    /// Numbers that a batch needs on the CPU besides the layer's input, output and weights: `[forward, backward]`.
    fn scratch(&self, _input: Shape, _batch: usize) -> [u64; 2] {
        [0; 2]
    }

    /// The dense layer that this one replaces, if it replaces one.
    fn dense(&self) -> Option<Layer> {
        None
    }

    /// What it does if it only acts on each element, in a way that kernels apply to what they write anyway.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// Whether a ReLU before it may as well come after it, with the same bits: the largest of some ReLUs is the ReLU of the
    /// largest. A pass over the output of a pooling layer is over a quarter of the numbers, or fewer.
    fn takes_relu_after(&self) -> bool {
        false
    }

    /// What a reader needs to know besides its name, as in `28x28 -> 32x16, bond 1`.
    fn summary(&self, input: Shape) -> String;

    /// The output of a batch, the activation after the layer included.
    ///
    /// # Errors
    ///
    /// As the operations that it calls.
    fn forward(&self, call: &Call, x: Tensor<2>) -> Result<Tensor<2>> {
        call.activate(x)
    }

    /// The gradient by the input, if it is wanted, and a step of the optimizer: from the input, the gradient by the
    /// output, and the output where [`Activation::needs_output`] says so.
    ///
    /// # Errors
    ///
    /// As the operations that it calls.
    fn backward(&self, call: &Call, step: Backward) -> Result<Stepped> {
        let grad_x = call.activate_grad(step.y, step.grad_y)?;
        Ok(Stepped { grad_x: Some(grad_x), state: step.state })
    }

    /// The layer in Burn's own operations, without the activation after it: what tests compare with, through Burn's
    /// autodiff, and what `bench` calls composed.
    fn composed(&self, input: Shape, weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2>;
}

/// One use of a layer: the weights it has, and what else the caller decides.
#[derive(Debug)]
pub struct Call<'a> {
    /// The shape of a sample of its input.
    pub input: Shape,
    /// Its weights, in the order of [`Kind::weights`]; in a backward pass they are in the state.
    pub weights: &'a Weights,
    /// What is done to the output after the layer.
    pub activation: Activation,
    /// What changes from step to step.
    pub words: &'a StepWords,
    /// Whether the gradient by its input is needed.
    pub wants_grad_x: bool,
    /// The pooling after a convolution that is computed with it, before the activation: see [`Stack::stages_for`].
    ///
    /// [`Stack::stages_for`]: super::Stack::stages_for
    pub pool: Option<Pool>,
}

impl Call<'_> {
    /// Applies the activation.
    ///
    /// # Errors
    ///
    /// As [`training::activate`].
    pub fn activate(&self, y: Tensor<2>) -> Result<Tensor<2>> {
        training::activate(y, self.activation, self.words)
    }

    /// The gradient before the activation from that after it.
    ///
    /// # Errors
    ///
    /// As [`training::activate_grad`].
    pub fn activate_grad(&self, y: Option<Tensor<2>>, grad_y: Tensor<2>) -> Result<Tensor<2>> {
        training::activate_grad(y, grad_y, self.activation, self.words)
    }

    /// The same, for operations that take the gradient of a ReLU themselves.
    ///
    /// # Errors
    ///
    /// As [`training::before_relu`].
    pub fn before_relu(
        &self,
        y: Option<Tensor<2>>,
        grad_y: Tensor<2>,
    ) -> Result<(Option<ReluBefore>, Tensor<2>)> {
        training::before_relu(y, grad_y, self.activation, self.words)
    }
}

/// The weights of a layer on a device: side by side in one tensor, as a [`Layout`] says.
#[derive(Debug, Clone)]
pub struct Weights {
    numbers: Option<Tensor<1>>,
    layout: Layout,
}

impl Weights {
    /// The first numbers of a tensor, which may go on: none of a layer without weights.
    pub fn new(numbers: Option<Tensor<1>>, layout: Layout) -> Self {
        Self { numbers, layout }
    }

    /// Where each lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// One of them, in its shape.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when there is none of that shape.
    pub fn get<const D: usize>(&self, index: usize, shape: [usize; D]) -> Result<Tensor<D>> {
        training::weight(self.numbers()?, &self.layout, index, shape)
    }

    /// The same, if the layer has it.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn optional<const D: usize>(
        &self,
        index: usize,
        shape: [usize; D],
    ) -> Result<Option<Tensor<D>>> {
        let has = index < self.layout.weights.len();
        has.then(|| self.get(index, shape)).transpose()
    }

    /// All of them, as the layout has them.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn all(&self) -> Result<Tensor<1>> {
        training::values(self.numbers()?, &self.layout)
    }

    fn numbers(&self) -> Result<&Tensor<1>> {
        let missing = || Error::internal("computing a layer", "it has no weights");
        self.numbers.as_ref().ok_or_else(missing)
    }
}

/// What a backward pass needs besides the [`Call`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// The input.
    pub x: Tensor<2>,
    /// The output, where it is needed.
    pub y: Option<Tensor<2>>,
    /// The gradient by the output.
    pub grad_y: Tensor<2>,
    /// The weights and Adam's moments, as `layout` says, of a layer that has weights.
    pub state: Option<Tensor<1>>,
    /// Where they are.
    pub layout: &'a Layout,
    /// Of Adam.
    pub betas: Betas,
}

/// What a backward pass gives.
#[derive(Debug)]
pub struct Stepped {
    /// The gradient by the input, where it is wanted.
    pub grad_x: Option<Tensor<2>>,
    /// The state after a step.
    pub state: Option<Tensor<1>>,
}

impl Backward<'_> {
    /// The state of a layer that has weights.
    pub(super) fn state(&mut self) -> Result<Tensor<1>> {
        let missing = || Error::internal("training a layer", "it has no state");
        self.state.take().ok_or_else(missing)
    }
}

/// A weight: its name within the layer, its shape, and how it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// `a`, `weight`, `bias`, ….
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values before training.
    pub draw: Draw,
}

impl Weight {
    /// Number of its elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The distribution of a weight before training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draw {
    /// All 0.
    Zeros,
    /// A matrix of so many inputs and outputs.
    Matrix {
        /// Number of inputs.
        inputs: usize,
        /// Number of outputs.
        outputs: usize,
    },
    /// A core of a tensor network.
    Core(Fan),
}

impl Draw {
    /// `count` numbers by the rule that `init` names. Zeros take nothing from `random`. Asks `go_on` once in a while.
    ///
    /// # Errors
    ///
    /// That of `go_on`.
    pub fn numbers(
        self,
        init: MpsInit,
        count: usize,
        random: &mut ChaCha8Rng,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Vec<f32>> {
        // Numbers between two questions: some 5 ms.
        const PIECE: usize = 1 << 18;
        let mut numbers = |draw: fn(&mut ChaCha8Rng) -> f64, scale: f64| {
            let mut numbers = Vec::with_capacity(count);
            while numbers.len() < count {
                go_on()?;
                let piece = PIECE.min(count - numbers.len());
                numbers.extend((0..piece).map(|_| (scale * draw(random)) as f32));
            }
            Ok(numbers)
        };
        match (self, init) {
            (Self::Zeros, _) => Ok(vec![0.0; count]),
            (Self::Core(fan), _) => numbers(normal, init.core_std(fan)),
            // He et al. 2015, eq. 10, and Glorot and Bengio 2010, eq. 16.
            (Self::Matrix { inputs, .. }, MpsInit::He) => {
                numbers(normal, (2.0 / inputs as f64).sqrt())
            }
            (Self::Matrix { inputs, outputs }, MpsInit::Glorot | MpsInit::Article) => {
                let most = (6.0 / (inputs + outputs) as f64).sqrt();
                numbers(|random| 2.0 * unit(random) - 1.0, most)
            }
        }
    }
}

/// Multiply-adds of a layer for one sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MultiplyAdds {
    /// Of the forward pass.
    pub forward: usize,
    /// Of the gradients by the weights.
    pub weights: usize,
    /// Of the gradient by the input, what the gradients by the weights have computed left out.
    pub grad_x: usize,
}
