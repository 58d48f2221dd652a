//! A network in training: its weights, Adam's moments, and one training step.
//!
//! The step is written out: forward, loss, the gradients of each layer, Adam. No autodiff records
//! anything, nothing is copied, and every operation is one of ours ([`crate::op`]), so a step gives
//! the same bits in every run on one device. Tests check it against Burn's autodiff and Adam.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::Resident;
use crate::model::{ClassifierConfig, DROPOUT, FirstLayer, HIDDEN};
use crate::mps::MpsSpec;
use crate::op::training::{self, AdamStep, Dropout};
use crate::op::{mps_linear, mps_linear_grads, submit_to_software};
use crate::{Error, Result};

use super::TrainConfig;
use super::profile::{Marks, Profile};

/// Decay of Adam's mean of the gradients.
const BETA_1: f32 = 0.9;

/// Decay of Adam's mean of their squares.
const BETA_2: f32 = 0.999;

/// What Adam adds to the root: the default of Keras, which the article used.
const EPSILON: f64 = 1e-7;

/// One weight and its moments, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its name: `first.a`, `second.weight`, ….
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
    /// Adam's mean of its gradients.
    pub mean: Vec<f32>,
    /// Adam's mean of their squares.
    pub square: Vec<f32>,
}

/// Everything that the next step depends on except the batch, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Steps taken so far.
    pub steps: u64,
    /// The weights, in the order of [`ClassifierConfig::weights`].
    pub weights: Vec<Weight>,
}

/// A weight and its moments on the device, flat.
#[derive(Debug)]
struct Variable {
    name: &'static str,
    shape: Vec<usize>,
    value: Tensor<1>,
    mean: Tensor<1>,
    square: Tensor<1>,
}

impl Variable {
    /// The weight in its shape of `D` dimensions.
    fn view<const D: usize>(&self) -> Tensor<D> {
        self.value.clone().reshape::<D, [usize; D]>(std::array::from_fn(|mode| self.shape[mode]))
    }
}

/// An Adam step of one weight: its value and moments before and after.
type Update = Box<dyn FnOnce([Tensor<1>; 3]) -> Result<[Tensor<1>; 3]>>;

/// The Adam step for a gradient.
fn update(grad: Tensor<1>, step: AdamStep) -> Update {
    Box::new(move |state| training::adam(state, grad, step))
}

/// The Adam steps of a dense layer's weight and bias, from its input and the gradient with respect to
/// its output. The weight's gradient is computed inside its step, so it need not be kept.
fn update_linear(x: Tensor<2>, grad_y: Tensor<2>, step: AdamStep) -> Result<[Update; 2]> {
    let grad_bias = training::column_sums(grad_y.clone())?;
    let weight = Box::new(move |state| training::linear_adam(state, x, grad_y, step));
    Ok([weight, update(grad_bias, step)])
}

/// A network for evaluation.
#[derive(Debug, Clone)]
pub struct Network {
    config: ClassifierConfig,
    values: Vec<Tensor<1>>,
}

impl Network {
    /// The network with these weights, each flat, in the order of [`ClassifierConfig::weights`].
    pub fn new(config: ClassifierConfig, values: Vec<Tensor<1>>) -> Self {
        Self { config, values }
    }

    /// Logits `[batch, classes]` of images `[batch, J·L]` with values in `[0, 1]`, without dropout.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the images do not have the network's input size.
    pub fn logits(&self, images: Tensor<2>) -> Result<Tensor<2>> {
        let spec = self.config.spec()?;
        let none = Dropout { rate: 0.0, seed: 0 };
        let view = |index: usize| self.values[index].clone();
        let second = self.values.len() - 4;
        let matrix = |index: usize, extents: [usize; 2]| view(index).reshape(extents);
        let hidden = match self.config.model {
            FirstLayer::Mps => {
                let [batch, _] = images.dims();
                let images = images.reshape([batch, spec.j, spec.l]);
                let [a, c] = [view(0).reshape(spec.a_shape()), view(1).reshape(spec.c_shape())];
                let bias = view(2).reshape(spec.bias_shape());
                mps_linear(images, a, c, Some(bias))?.reshape([batch, spec.outputs()])
            }
            FirstLayer::Dense => {
                training::linear(images, matrix(0, [spec.inputs(), spec.outputs()]), view(1))?
            }
        };
        let hidden = training::relu_dropout(hidden, none)?;
        let weight = matrix(second, [spec.outputs(), HIDDEN]);
        let hidden = training::linear(hidden, weight, view(second + 1))?;
        let hidden = training::relu_dropout(hidden, none)?;
        let weight = matrix(second + 2, [HIDDEN, self.config.classes]);
        training::linear(hidden, weight, view(second + 3))
    }
}

/// A network in training.
#[derive(Debug)]
pub struct Learner {
    config: ClassifierConfig,
    spec: MpsSpec,
    lr: f64,
    steps: u64,
    variables: Vec<Variable>,
    profile: Option<Profile>,
}

impl Learner {
    /// A new network, its weights drawn from `config.seed`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an impossible network.
    pub fn new(config: &TrainConfig, device: &Device) -> Result<Self> {
        let values = config.classifier.draw(config.seed)?;
        let variables = config.classifier.weights()?.into_iter().zip(values);
        let variables = variables.map(|((name, shape), values)| {
            // Copied rather than filled there: compiling a fill kernel takes a software adapter 40 ms.
            let zeros = vec![0.0; values.len()];
            let [value, mean, square] =
                [&values, &zeros, &zeros].map(|values| Tensor::from_data(&values[..], device));
            Variable { name, shape, mean, square, value }
        });
        Self::with(config, 0, variables.collect())
    }

    /// Restores a network from its state.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an impossible network.
    ///
    /// # Panics
    ///
    /// In the first step, if `state` does not belong to the network of `config`. The reader of a
    /// checkpoint has checked names and shapes.
    pub fn resume(config: &TrainConfig, state: &State, device: &Device) -> Result<Self> {
        let flat = |values: &[f32]| {
            Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
        };
        let variables = state.weights.iter().map(|weight| Variable {
            name: weight.name,
            shape: weight.shape.clone(),
            value: flat(&weight.values),
            mean: flat(&weight.mean),
            square: flat(&weight.square),
        });
        Self::with(config, state.steps, variables.collect())
    }

    fn with(config: &TrainConfig, steps: u64, variables: Vec<Variable>) -> Result<Self> {
        let spec = config.classifier.spec()?;
        Ok(Self { config: config.classifier, spec, lr: config.lr, steps, variables, profile: None })
    }

    /// The current state of the network, on the host.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] when the device fails.
    pub fn state(&self) -> Result<State> {
        let read = |tensor: &Tensor<1>| {
            let values = tensor.clone().try_to_vec_as::<f32>();
            values.map_err(|error| Error::compute("reading the weights", error))
        };
        let weights = self.variables.iter().map(|variable| {
            Ok(Weight {
                name: variable.name,
                shape: variable.shape.clone(),
                values: read(&variable.value)?,
                mean: read(&variable.mean)?,
                square: read(&variable.square)?,
            })
        });
        Ok(State { steps: self.steps, weights: weights.collect::<Result<_>>()? })
    }

    /// Times the parts of every step from now on.
    pub fn profile(&mut self, device: &Device) {
        self.profile = Some(Profile::new(device));
    }

    /// The times measured, if profiling is on.
    pub fn profiled(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// The network with its current weights.
    pub fn network(&self) -> Network {
        let values = self.variables.iter().map(|variable| variable.value.clone());
        Network::new(self.config, values.collect())
    }

    /// One Adam step on the mean loss of the images `order[b]`. `dropout` seeds the masks of the two
    /// hidden layers.
    ///
    /// Returns `[sum of losses, correctly classified images]` before the step, on the device.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the images do not have the network's input size.
    pub fn step(
        &mut self,
        data: &Resident,
        order: Tensor<1, Int>,
        dropout: [u64; 2],
    ) -> Result<Tensor<1>> {
        let rate = DROPOUT as f32;
        let [drop_1, drop_2] = dropout.map(|seed| Dropout { rate, seed });
        let [batch] = order.dims();
        let MpsSpec { m, n, j, l, .. } = self.spec;
        // In the order of `ClassifierConfig::weights`: the first layer's, then two for each other layer.
        let (first, rest) = self.variables.split_at(self.variables.len() - 4);
        let [weight_2, bias_2, weight_3, bias_3] = rest else { unreachable!("four weights") };

        let mut marks = Marks::begin(self.profile.as_mut())?;

        // Forward.
        let x = data.gather(order.clone())?;
        marks.end("batch")?;
        let y_1 = match first {
            [a, c, bias] => {
                let x = x.clone().reshape([batch, j, l]);
                mps_linear(x, a.view(), c.view(), Some(bias.view()))?.reshape([batch, m * n])
            }
            [weight, bias, ..] => training::linear(x.clone(), weight.view(), bias.view())?,
            _ => unreachable!("a first layer"),
        };
        marks.end("first layer")?;
        let h_1 = training::relu_dropout(y_1, drop_1)?;
        marks.end("ReLU and dropout")?;
        let y_2 = training::linear(h_1.clone(), weight_2.view(), bias_2.view())?;
        marks.end("second layer")?;
        let h_2 = training::relu_dropout(y_2, drop_2)?;
        marks.end("ReLU and dropout")?;
        let logits = training::linear(h_2.clone(), weight_3.view(), bias_3.view())?;
        marks.end("output layer")?;
        let (grad_3, sums) = training::softmax_cross_entropy(logits, data.labels(), order)?;
        marks.end("loss")?;

        // Backward.
        let grad_2 = training::linear_grad_x(weight_3.view(), grad_3.clone())?;
        marks.end("output layer, gradients")?;
        let grad_2 = training::relu_dropout_grad(h_2.clone(), grad_2, rate)?;
        marks.end("ReLU and dropout, gradients")?;
        let grad_1 = training::linear_grad_x(weight_2.view(), grad_2.clone())?;
        marks.end("second layer, gradients")?;
        let grad_1 = training::relu_dropout_grad(h_1.clone(), grad_1, rate)?;
        marks.end("ReLU and dropout, gradients")?;
        let step = AdamStep::new(self.lr, [BETA_1, BETA_2], EPSILON, self.steps + 1);
        let mut updates = Vec::with_capacity(self.variables.len());
        match first {
            [a, c, _] => {
                let x = x.reshape([batch, j, l]);
                let grad_y = grad_1.reshape([batch, m, n]);
                let (grad_a, grad_c, grad_bias) = mps_linear_grads(x, a.view(), c.view(), grad_y)?;
                let grads = [grad_a.flatten(0, 2), grad_c.flatten(0, 2), grad_bias.flatten(0, 1)];
                updates.extend(grads.map(|grad| update(grad, step)));
            }
            _ => updates.extend(update_linear(x, grad_1, step)?),
        }
        marks.end("first layer, gradients")?;
        updates.extend(update_linear(h_1, grad_2, step)?);
        updates.extend(update_linear(h_2, grad_3, step)?);

        self.steps += 1;
        let variables = std::mem::take(&mut self.variables);
        for (variable, update) in variables.into_iter().zip(updates) {
            let Variable { name, shape, value, mean, square } = variable;
            let [value, mean, square] = update([value, mean, square])?;
            self.variables.push(Variable { name, shape, value, mean, square });
        }
        marks.end("dense weights' gradients, Adam")?;
        submit_to_software(&sums.device())?;
        Ok(sums)
    }
}
