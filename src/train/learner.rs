//! A network in training: its weights, Adam's moments, and one training step.
//!
//! The step is written out: every layer forward, the loss, every layer backward, Adam. No autodiff records
//! anything, nothing is copied, and every operation is one of ours ([`crate::op`]), so a step gives
//! the same bits in every run on one device. Tests check it against Burn's autodiff and Adam.

use burn::tensor::{Device, Tensor};

use super::profile::{Marks, Profile};
use super::schedule::{Schedule, StepInput};
use super::{Rate, Recipe, TrainConfig};
use crate::data::Resident;
use crate::net::{Backward, Network, Stack, Stage, Weights};
use crate::op::state::{AdamStep, Betas};
use crate::op::training;
use crate::op::{submit_to_software, target_of};
use crate::{Error, Result};

/// Decays of Adam's means, of the gradients and of their squares.
const BETAS: Betas = [0.9, 0.999];

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
    /// The mean of the values over the last steps, if the recipe has one.
    pub average: Option<Vec<f32>>,
}

impl Weight {
    /// What a network is made of: the mean, where there is one.
    pub fn network(&self) -> &[f32] {
        self.average.as_ref().unwrap_or(&self.values)
    }
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
    rate: Rate,
    recipe: Recipe,
    steps: u64,
    /// Name and shape of every weight.
    names: Vec<(String, Vec<usize>)>,
    /// The weights of each stage that has any, and Adam's moments.
    states: Vec<Option<Tensor<1>>>,
    /// The mean of each one's weights, where the recipe has it.
    averages: Vec<Option<Tensor<1>>>,
    device: Device,
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
        let zeros: Vec<Vec<f32>> = drawn.iter().map(|values| vec![0.0; values.len()]).collect();
        let weights: Vec<_> = drawn
            .iter()
            .zip(&zeros)
            .map(|(values, zero)| [&values[..], zero, zero, values])
            .collect();
        Self::with(config, 0, &weights, device)
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
            let averaged = weight.average.as_ref().map(Vec::len);
            let fits = lengths == [of.count(); 3]
                && averaged == config.recipe.average.is_some().then_some(of.count());
            weight.name == *name && weight.shape == of.shape && fits
        };
        if state.weights.len() != expected.len() || !state.weights.iter().zip(&expected).all(fits) {
            return Err(Error::argument("state", "its weights are not those of the network"));
        }
        let weights: Vec<[&[f32]; 4]> = state
            .weights
            .iter()
            .map(|weight| [&weight.values[..], &weight.mean, &weight.square, weight.network()])
            .collect();
        Self::with(config, state.steps, &weights, device)
    }

    /// With the values, Adam's means and squares, and the mean value of every weight.
    fn with(
        config: &TrainConfig,
        steps: u64,
        weights: &[[&[f32]; 4]],
        device: &Device,
    ) -> Result<Self> {
        let stack = config.network.clone();
        let names =
            stack.weights()?.into_iter().map(|(name, weight)| (name, weight.shape)).collect();
        let stages = stack.stages_for(target_of(device))?;
        let part = |stage: &Stage, part: usize| -> Vec<&[f32]> {
            weights[stage.weights.clone()].iter().map(|weight| weight[part]).collect()
        };
        let of_each = |numbers: &dyn Fn(&Stage) -> Vec<f32>| -> Vec<Option<Tensor<1>>> {
            let tensor = |stage: &Stage| {
                let own = (!stage.weights.is_empty()).then(|| numbers(stage));
                own.map(|numbers| Tensor::from_data(&numbers[..], device))
            };
            stages.iter().map(tensor).collect()
        };
        let states =
            of_each(&|stage| stage.layout().state([0, 1, 2].map(|at: usize| part(stage, at))));
        let averages = match config.recipe.average {
            Some(_) => of_each(&|stage| stage.layout().values(part(stage, 3))),
            None => vec![None; stages.len()],
        };
        Ok(Self {
            stack,
            stages,
            rate: Rate::constant(config.lr),
            recipe: config.recipe,
            steps,
            names,
            states,
            averages,
            device: device.clone(),
            profile: None,
        })
    }

    /// Sets the learning rate of every step; until then it is the configuration's for all.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// The current state of the network, on the host.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] when the device fails.
    pub fn state(&self) -> Result<State> {
        let mut weights = Vec::with_capacity(self.names.len());
        let mut names = self.names.iter();
        let read = |tensor: &Tensor<1>| {
            let read = tensor.clone().try_to_vec_as::<f32>();
            read.map_err(|error| Error::compute("reading the weights", error))
        };
        for ((stage, state), average) in self.stages.iter().zip(&self.states).zip(&self.averages) {
            let Some(state) = state else { continue };
            let (state, average) = (read(state)?, average.as_ref().map(read).transpose()?);
            let layout = stage.layout();
            for (at, (name, shape)) in names.by_ref().take(layout.weights.len()).enumerate() {
                let [values, mean, square] = layout.of_weight(&state, at).map(<[f32]>::to_vec);
                let average = average.as_ref().map(|all| layout.value(all, at).to_vec());
                let (name, shape) = (name.clone(), shape.clone());
                weights.push(Weight { name, shape, values, mean, square, average });
            }
        }
        Ok(State { steps: self.steps, weights })
    }

    /// Times the parts of every step from now on.
    pub fn profile(&mut self, device: &Device) {
        self.profile = Some(Profile::new(device));
    }

    /// The times measured, if profiling is on.
    pub fn profiled(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// The network with its current weights or, where the recipe has it, their mean.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] when the device fails.
    pub fn network(&self) -> Result<Network> {
        let stages = self.stages.iter().zip(&self.states).zip(&self.averages);
        let stages = stages.map(|((stage, state), average)| {
            let values = average.as_ref().or(state.as_ref()).cloned();
            (stage.clone(), Weights::new(values, stage.layout()))
        });
        Ok(Network::of(stages.collect(), &self.device))
    }

    /// What the next steps take, on the device: the images `order`, `batch_size` at a time, at most [`MOST_STEPS`] steps.
    /// `seeds` gives those of the dropout layers, in their order, for each step from the next one on, counted from 0.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there is not a seed for each dropout layer.
    ///
    /// [`MOST_STEPS`]: super::schedule::MOST_STEPS
    pub fn schedule(
        &self,
        order: &[u32],
        batch_size: usize,
        seeds: impl Fn(usize) -> Vec<u64>,
    ) -> Result<Schedule> {
        let (dropouts, given) = (self.stack.dropouts(), seeds(0).len());
        if given != dropouts {
            let problem = format!("{given}: expected one for each of {dropouts} dropout layers");
            return Err(Error::argument("seeds", problem));
        }
        let step = |at: usize| {
            let number = self.steps + 1 + at as u64;
            let lr = self.rate.of(number);
            let step = AdamStep::new(lr, BETAS, EPSILON, number)
                .decaying(lr, self.recipe.weight_decay)
                .averaging(self.recipe.average.unwrap_or_default(), number);
            (step, seeds(at))
        };
        Ok(Schedule::new(order, batch_size, step, &self.device))
    }

    /// One Adam step on the mean loss of a batch.
    ///
    /// Returns `[sum of losses, correctly classified images]` before the step, for each 64 images, on the device.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when the images do not have the network's input size.
    pub fn step(&mut self, data: &Resident, step: StepInput) -> Result<Tensor<2>> {
        let StepInput { order, words } = step;
        let Self { stages, states, averages, .. } = self;
        let mut marks = Marks::begin(self.profile.as_mut())?;

        // The input of every stage.
        let mut inputs = Vec::with_capacity(stages.len());
        let mut x = data.gather(order.clone())?;
        marks.end("batch", "")?;
        for (stage, state) in stages.iter().zip(&*states) {
            inputs.push(x.clone());
            let weights = Weights::new(state.clone(), stage.layout());
            x = stage.forward(&weights, &words, true, x)?;
            marks.end(&stage.name, "")?;
        }
        // The loss's gradient takes the place of the logits, unless they are needed.
        let mut output = stages.last().filter(|stage| stage.needs_output()).map(|_| x.clone());
        let smoothing = self.recipe.label_smoothing as f32;
        let (mut grad, sums) = training::softmax_cross_entropy(x, data.labels(), order, smoothing)?;
        marks.end("loss", "")?;

        // From the last weight to the first; before that, nothing asks for a gradient. A layer's weights change as soon as
        // nothing else needs them.
        let kept = states.iter_mut().zip(averages);
        for ((stage, (state, average)), x) in stages.iter().zip(kept).zip(inputs).rev() {
            let input = x.clone();
            let layout = stage.layout();
            let backward = Backward {
                x,
                y: output,
                grad_y: grad,
                state: state.take(),
                layout: &layout,
                betas: BETAS,
            };
            let stepped = stage.backward(&words, backward)?;
            *state = stepped.state;
            if let (Some(mean), Some(state)) = (average.take(), &*state) {
                *average = Some(training::average(mean, state, &words)?);
            }
            output = Some(input);
            marks.end(&stage.name, ", gradients and Adam")?;
            if !stage.wants_grad_x() {
                break;
            }
            grad = stepped.grad_x.ok_or_else(|| {
                let missing = format!("{} gives none by its input", stage.name);
                Error::internal("computing gradients", missing)
            })?;
        }
        self.steps += 1;
        submit_to_software(&self.device)?;
        Ok(sums)
    }
}
