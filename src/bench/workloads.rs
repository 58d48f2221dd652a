//! What is timed: the layer and its rivals, and a training step of the classifier with each.

use burn::module::{Module, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Int, Tensor};
use clap::ValueEnum;
use serde::Serialize;

use super::Subject;
use super::stats::Workload;
use crate::data::{ImageSet, Resident};
use crate::mps::{MpsInit, MpsSpec};
use crate::net::{Kind, Mps, Stack, features};
use crate::op::mps_linear;
use crate::train::{Learner, Recipe, Schedule, TrainConfig};
use crate::{Error, Result};

/// Seed of the weights of all networks.
const SEED: u64 = 1;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Pass {
    /// The output.
    Forward,
    /// The gradients of both cores (a dense layer's weight) and the bias, through autodiff.
    Backward,
    /// The same and the gradient of the input.
    BackwardX,
    /// A training step of the network: forward, loss, backward, Adam. A rival's step is made of Burn's
    /// operations alone.
    Step,
    /// A training step of the network with dense layers in place of tensor networks; composed is the whole step in
    /// Burn's operations.
    StepDense,
}

impl Pass {
    /// Whether the layer, or the network's, is dense: this crate's (without a `rival`) or a rival's.
    pub fn is_dense(self, rival: Option<Rival>) -> bool {
        self == Self::StepDense || rival == Some(Rival::Dense)
    }
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::BackwardX => "backward_x",
            Self::Step => "step",
            Self::StepDense => "step_dense",
        })
    }
}

/// What this crate is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Rival {
    /// The same layer composed from Burn's tensor operations, in the cheaper order.
    Composed,
    /// A dense layer of the same size: Burn's `Linear`.
    Dense,
}

/// A layer to be timed on one device.
#[derive(Debug, Clone)]
enum Layer {
    Fused(Cores),
    Composed(Cores),
    Dense(Linear),
}

/// The operands of the two-core layer.
#[derive(Debug, Clone)]
struct Cores {
    a: Tensor<3>,
    c: Tensor<3>,
    bias: Tensor<2>,
}

impl Layer {
    fn new(rival: Option<Rival>, spec: &MpsSpec, device: &Device) -> Self {
        let normal = Distribution::Normal(0.0, MpsInit::He.core_std(spec));
        let cores = || Cores {
            a: Tensor::random(spec.a_shape(), normal, device),
            c: Tensor::random(spec.c_shape(), normal, device),
            bias: Tensor::zeros(spec.bias_shape(), device),
        };
        match rival {
            None => Self::Fused(cores()),
            Some(Rival::Composed) => Self::Composed(cores()),
            Some(Rival::Dense) => {
                Self::Dense(LinearConfig::new(spec.inputs(), spec.outputs()).init(device))
            }
        }
    }

    fn require_grad(self) -> Self {
        let tracked = |Cores { a, c, bias }| Cores {
            a: Tensor::require_grad(a),
            c: Tensor::require_grad(c),
            bias: Tensor::require_grad(bias),
        };
        match self {
            Self::Fused(cores) => Self::Fused(tracked(cores)),
            Self::Composed(cores) => Self::Composed(tracked(cores)),
            // Parameters of a module are always tracked.
            Self::Dense(linear) => Self::Dense(linear),
        }
    }

    /// `[batch, J·L]` to `[batch, M·N]`.
    fn forward(&self, x: Tensor<2>, spec: &MpsSpec) -> Result<Tensor<2>> {
        let [batch, _] = x.dims();
        let folded = |x: Tensor<2>| x.reshape([batch, spec.j, spec.l]);
        let y = match self {
            Self::Fused(Cores { a, c, bias }) => {
                mps_linear(folded(x), a.clone(), c.clone(), Some(bias.clone()))?
            }
            Self::Composed(Cores { a, c, bias }) => {
                let weights =
                    [a.clone().flatten(0, 2), c.clone().flatten(0, 2), bias.clone().flatten(0, 1)];
                let layer = Mps::new([spec.j, spec.l], [spec.m, spec.n], spec.k);
                return Ok(layer.composed([spec.inputs(), 1, 1], &weights, x));
            }
            Self::Dense(linear) => return Ok(linear.forward(x)),
        };
        Ok(y.reshape([batch, spec.outputs()]))
    }
}

/// Waits for the device.
fn wait(device: &Device) -> Result<()> {
    device.sync().map_err(|error| Error::compute("waiting for the device", error))
}

/// The workload of a row, ready to be measured; without a `rival`, this crate's own operation.
///
/// # Errors
///
/// [`Error::Argument`] and [`Error::Layer`] for an impossible layer, [`Error::Compute`] when the device fails.
pub fn workload(
    pass: Pass,
    rival: Option<Rival>,
    subject: &Subject,
    batch: usize,
    device: &Device,
) -> Result<Box<dyn Workload>> {
    let uniform = Distribution::Uniform(0.0, 1.0);
    let autodiff = device.clone().autodiff();
    let workload: Box<dyn Workload> = match (pass, subject) {
        (Pass::Forward, Subject::Layer(spec)) => Box::new(Forward {
            layer: Layer::new(rival, spec, device),
            x: Tensor::random([batch, spec.inputs()], uniform, device),
            spec: *spec,
            executions: 0,
        }),
        (Pass::Backward | Pass::BackwardX, Subject::Layer(spec)) => {
            let x = Tensor::random([batch, spec.inputs()], uniform, &autodiff);
            Box::new(Backward {
                layer: Layer::new(rival, spec, &autodiff).require_grad(),
                x: if pass == Pass::BackwardX { x.require_grad() } else { x },
                spec: *spec,
                outputs: Vec::new(),
            })
        }
        _ => {
            let network = subject.network()?;
            let network = if pass.is_dense(rival) { network.dense() } else { network };
            match rival {
                None => Box::new(OwnStep::new(network, batch, device)?),
                Some(_) => Box::new(Step::new(network, batch, &autodiff)?),
            }
        }
    };
    wait(device)?;
    Ok(workload)
}

struct Forward {
    layer: Layer,
    x: Tensor<2>,
    spec: MpsSpec,
    executions: usize,
}

impl Workload for Forward {
    fn prepare(&mut self, executions: usize) -> Result<()> {
        self.executions = executions;
        wait(&self.x.device())
    }

    fn execute(&mut self) -> Result<()> {
        // Outputs are kept until the end; otherwise Burn might never compute them.
        let mut outputs = Vec::with_capacity(self.executions);
        for _ in 0..self.executions {
            outputs.push(self.layer.forward(self.x.clone(), &self.spec)?);
        }
        wait(&self.x.device())
    }
}

struct Backward {
    layer: Layer,
    x: Tensor<2>,
    spec: MpsSpec,
    outputs: Vec<Tensor<2>>,
}

impl Workload for Backward {
    fn prepare(&mut self, executions: usize) -> Result<()> {
        for _ in 0..executions {
            self.outputs.push(self.layer.forward(self.x.clone(), &self.spec)?);
        }
        wait(&self.x.device())
    }

    fn execute(&mut self) -> Result<()> {
        let mut gradients = Vec::with_capacity(self.outputs.len());
        for y in self.outputs.drain(..) {
            // The gradient of the output is 1 everywhere.
            gradients.push(y.backward());
        }
        wait(&self.x.device())
    }
}

/// A step as `train` takes it.
struct OwnStep {
    learner: Learner,
    images: Resident,
    order: Vec<u32>,
    /// Dropout layers.
    dropouts: u64,
    device: Device,
    schedule: Option<Schedule>,
    executions: usize,
}

impl OwnStep {
    fn new(network: Stack, batch: usize, device: &Device) -> Result<Self> {
        let (classes, shape) = (network.outputs()?, network.input);
        let pixels = (0..batch * features(shape)).map(|at| (at * 31 % 256) as u8).collect();
        let labels = (0..batch).map(|image| (image % classes) as u8).collect();
        let images = ImageSet { count: batch, shape, pixels, labels };
        let dropouts = network.dropouts() as u64;
        let config = TrainConfig {
            epochs: 1,
            batch_size: batch,
            lr: 1e-3,
            seed: SEED,
            validation: 0,
            init: MpsInit::He,
            recipe: Recipe::default(),
            network,
        };
        Ok(Self {
            learner: Learner::new(&config, device)?,
            images: Resident::new(&images, device),
            order: (0..batch as u32).collect(),
            dropouts,
            device: device.clone(),
            schedule: None,
            executions: 0,
        })
    }
}

impl Workload for OwnStep {
    /// As `train` does at the beginning of an epoch, which has a few steps here.
    fn prepare(&mut self, executions: usize) -> Result<()> {
        const STEPS: usize = 8;
        self.executions = executions;
        let (dropouts, batch) = (self.dropouts, self.order.len());
        let seeds = |step: usize| (0..dropouts).map(|at| dropouts * step as u64 + at).collect();
        let order = self.order.repeat(executions.min(STEPS));
        self.schedule = Some(self.learner.schedule(&order, batch, seeds)?);
        wait(&self.device)
    }

    fn execute(&mut self) -> Result<()> {
        let Some(schedule) = &self.schedule else { return Ok(()) };
        for step in 0..self.executions {
            self.learner.step(&self.images, schedule.step(step % schedule.steps())?)?;
        }
        wait(&self.device)
    }
}

/// A step of the same network in Burn's operations: its dropout, loss, autodiff and Adam.
struct Step {
    stack: Stack,
    weights: Weights,
    optimizer: ModuleOptimizer,
    images: Tensor<2>,
    labels: Tensor<1, Int>,
    executions: usize,
}

/// The weights of a network, flat, as a Burn module.
#[derive(Module, Debug)]
struct Weights {
    values: Vec<Param<Tensor<1>>>,
}

impl Step {
    fn new(stack: Stack, batch: usize, autodiff: &Device) -> Result<Self> {
        let classes = stack.outputs()? as i64;
        let drawn = stack.draw(MpsInit::He, SEED)?.into_iter();
        let values = drawn
            .map(|values| Param::from_tensor(Tensor::from_data(&values[..], autodiff)))
            .collect();
        let shape = [batch, features(stack.input)];
        Ok(Self {
            weights: Weights { values },
            optimizer: AdamConfig::new().init(),
            images: Tensor::random(shape, Distribution::Uniform(0.0, 1.0), autodiff),
            labels: Tensor::<1, Int>::arange(0..batch as i64, autodiff) % classes,
            executions: 0,
            stack,
        })
    }

    fn forward(&self) -> Result<Tensor<2>> {
        let mut x = self.images.clone();
        let mut values = self.weights.values.iter();
        for placed in self.stack.placed()? {
            let count = placed.weights().len();
            let weights: Vec<Tensor<1>> = values.by_ref().take(count).map(Param::val).collect();
            x = placed.layer.kind().composed(placed.input, &weights, x);
        }
        Ok(x)
    }
}

impl Workload for Step {
    fn prepare(&mut self, executions: usize) -> Result<()> {
        self.executions = executions;
        wait(&self.images.device())
    }

    fn execute(&mut self) -> Result<()> {
        for _ in 0..self.executions {
            let loss = CrossEntropyLossConfig::new()
                .init(&self.images.device())
                .forward(self.forward()?, self.labels.clone());
            let gradients = GradientsParams::from_grads(loss.backward(), &self.weights);
            let weights = self.weights.clone();
            self.weights = self.optimizer.step(1e-3, weights, gradients);
        }
        wait(&self.images.device())
    }
}
