//! A network in training: its weights, Adam's moments, and one training step.
//!
//! The step is written out: every layer forward, the loss, every layer backward, Adam. No autodiff records
//! anything, nothing is copied, and every operation is one of ours ([`crate::op`]), so a step gives
//! the same bits in every run on one device. Tests check it against Burn's autodiff and Adam.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::TrainConfig;
use super::profile::{Marks, Profile};
use crate::data::Resident;
use crate::net::{Gradient, Network, Stack, Stage};
use crate::op::submit_to_software;
use crate::op::training::{self, AdamStep};
use crate::{Error, Result};

/// Decay of Adam's mean of the gradients.
const BETA_1: f32 = 0.9;

/// Decay of Adam's mean of their squares.
const BETA_2: f32 = 0.999;

/// What Adam adds to the root: the default of Keras, which the article used.
const EPSILON: f64 = 1e-7;

/// One weight and its moments, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its name: `mps1.a`, `dense4.weight`, ….
    pub name: String,
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
    /// The weights, in the order of [`Stack::weights`].
    pub weights: Vec<Weight>,
}

/// A network in training.
#[derive(Debug)]
pub struct Learner {
    stack: Stack,
    stages: Vec<Stage>,
    lr: f64,
    steps: u64,
    /// Name and shape of every weight.
    names: Vec<(String, Vec<usize>)>,
    /// The weights, flat.
    values: Vec<Tensor<1>>,
    /// Adam's means of the gradients and of their squares.
    moments: Vec<[Tensor<1>; 2]>,
    profile: Option<Profile>,
}

impl Learner {
    /// A new network, its weights drawn from `config.seed`.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for an impossible network.
    pub fn new(config: &TrainConfig, device: &Device) -> Result<Self> {
        Self::new_while(config, device, &|| Ok(()))
    }

    /// The same, as long as `go_on` lets it draw.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for an impossible network, and that of `go_on`.
    pub fn new_while(
        config: &TrainConfig,
        device: &Device,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let drawn = config.network.draw_while(config.init, config.seed, go_on)?;
        let flat = |values: &[f32]| Tensor::from_data(values, device);
        // Copied rather than filled there: compiling a fill kernel takes a software adapter 40 ms.
        let zeros = |values: &Vec<f32>| flat(&vec![0.0; values.len()]);
        let moments = drawn.iter().map(|values| [zeros(values), zeros(values)]).collect();
        Self::with(config, 0, drawn.iter().map(|values| flat(values)).collect(), moments)
    }

    /// Restores a network from its state.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for an impossible network, [`Error::Argument`] when `state` does not belong to it.
    pub fn resume(config: &TrainConfig, state: &State, device: &Device) -> Result<Self> {
        let expected = config.network.weights()?;
        let fits = |(weight, (name, of)): (&Weight, &(String, crate::net::Weight))| {
            let lengths = [&weight.values, &weight.mean, &weight.square].map(Vec::len);
            weight.name == *name && weight.shape == of.shape && lengths == [of.count(); 3]
        };
        if state.weights.len() != expected.len() || !state.weights.iter().zip(&expected).all(fits) {
            return Err(Error::argument("state", "its weights are not those of the network"));
        }
        let flat = |values: &[f32]| {
            Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
        };
        let values = state.weights.iter().map(|weight| flat(&weight.values)).collect();
        let moments =
            state.weights.iter().map(|weight| [flat(&weight.mean), flat(&weight.square)]).collect();
        Self::with(config, state.steps, values, moments)
    }

    fn with(
        config: &TrainConfig,
        steps: u64,
        values: Vec<Tensor<1>>,
        moments: Vec<[Tensor<1>; 2]>,
    ) -> Result<Self> {
        let stack = config.network.clone();
        let names =
            stack.weights()?.into_iter().map(|(name, weight)| (name, weight.shape)).collect();
        let stages = stack.stages()?;
        Ok(Self { stack, stages, lr: config.lr, steps, names, values, moments, profile: None })
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
        let weights = self.names.iter().zip(&self.values).zip(&self.moments);
        let weights = weights.map(|(((name, shape), value), [mean, square])| {
            Ok(Weight {
                name: name.clone(),
                shape: shape.clone(),
                values: read(value)?,
                mean: read(mean)?,
                square: read(square)?,
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
        Network::of(self.stages.clone(), self.values.clone())
    }

    /// One Adam step on the mean loss of the images `order[b]`. `seeds` are those of the dropout layers, in their order.
    ///
    /// Returns `[sum of losses, correctly classified images]` before the step, on the device.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the images do not have the network's input size, [`Error::Argument`] when there is not a
    /// seed for each dropout layer.
    pub fn step(
        &mut self,
        data: &Resident,
        order: Tensor<1, Int>,
        seeds: &[u64],
    ) -> Result<Tensor<1>> {
        let Self { stack, stages, values, moments, .. } = self;
        let dropouts = stack.dropouts();
        if seeds.len() != dropouts {
            let problem =
                format!("{}: expected one for each of {dropouts} dropout layers", seeds.len());
            return Err(Error::argument("seeds", problem));
        }
        let mut marks = Marks::begin(self.profile.as_mut())?;

        // The input of every stage.
        let mut inputs = Vec::with_capacity(stages.len());
        let mut x = data.gather(order.clone())?;
        marks.end("batch", "")?;
        for stage in stages.iter() {
            inputs.push(x.clone());
            x = stage.forward(values, Some(seeds), x)?;
            marks.end(&stage.name, "")?;
        }
        // The loss's gradient takes the place of the logits, unless they are needed.
        let mut output = stages.last().filter(|stage| stage.needs_output()).map(|_| x.clone());
        let (mut grad, sums) = training::softmax_cross_entropy(x, data.labels(), order)?;
        marks.end("loss", "")?;

        // From the last weight to the first; before that, nothing asks for a gradient.
        let mut gradients = Vec::with_capacity(values.len());
        for (stage, x) in stages.iter().zip(inputs).rev() {
            let backward = stage.backward(values, seeds, [x.clone(), grad], output)?;
            output = Some(x);
            gradients.extend(backward.weights.into_iter().rev());
            marks.end(&stage.name, ", gradients")?;
            if !stage.wants_grad_x() {
                break;
            }
            grad = backward.grad_x.ok_or_else(|| {
                let missing = format!("{} gives none by its input", stage.name);
                Error::internal("computing gradients", missing)
            })?;
        }
        gradients.reverse();

        self.steps += 1;
        let step = AdamStep::new(self.lr, [BETA_1, BETA_2], EPSILON, self.steps);
        let variables = std::mem::take(values).into_iter().zip(std::mem::take(moments));
        for ((value, [mean, square]), gradient) in variables.zip(gradients) {
            let state = [value, mean, square];
            let [value, mean, square] = match gradient {
                Gradient::Of(grad) => training::adam(state, grad, step)?,
                Gradient::Product { x, grad_y } => training::linear_adam(state, x, grad_y, step)?,
            };
            values.push(value);
            moments.push([mean, square]);
        }
        marks.end("Adam, with dense weights' gradients", "")?;
        submit_to_software(&sums.device())?;
        Ok(sums)
    }
}
