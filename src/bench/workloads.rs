//! What is timed: the layer and its rivals, and a training step of the classifier with each.

use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Int, Tensor};
use clap::ValueEnum;
use serde::Serialize;

use super::stats::Workload;
use crate::data::{ImageSet, Resident, resident};
use crate::model::{Classifier, ClassifierConfig, First, FirstLayer};
use crate::mps::{MpsInit, MpsSpec, Order};
use crate::op::mps_linear;
use crate::train::{Learner, TrainConfig};
use crate::{Error, Result};

/// Classes of the classifier whose step is timed, as in the article.
const CLASSES: usize = 10;

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
    /// A training step of the classifier: forward, loss, backward, Adam. A rival's step is made of Burn's
    /// operations alone.
    Step,
    /// A training step of the classifier whose first layer is dense; composed is the whole step in Burn's
    /// operations.
    StepDense,
}

impl Pass {
    /// Whether the first layer is dense, in this crate's network (without a `rival`) or in a rival's.
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
                composed(folded(x), a.clone(), c.clone(), bias.clone())
            }
            Self::Dense(linear) => return Ok(linear.forward(x)),
        };
        Ok(y.reshape([batch, spec.outputs()]))
    }
}

/// The layer as a user of Burn would compose it: two matrix products in the cheaper order, with the core
/// permuted instead of the larger intermediate.
pub fn composed(x: Tensor<3>, a: Tensor<3>, c: Tensor<3>, bias: Tensor<2>) -> Tensor<3> {
    let [batch, j, l] = x.dims();
    let [m, k, _] = a.dims();
    let n = c.dims()[2];
    let y = match Order::cheaper(&MpsSpec { m, n, j, l, k }) {
        Order::CFirst => {
            let u = x.reshape([batch * j, l]).matmul(c.reshape([l, k * n]));
            let a = a.swap_dims(1, 2).reshape([1, m, j * k]);
            a.matmul(u.reshape([batch, j * k, n]))
        }
        Order::AFirst => {
            let t = a.reshape([1, m * k, j]).matmul(x);
            let c = c.swap_dims(0, 1).reshape([k * l, n]);
            t.reshape([batch * m, k * l]).matmul(c).reshape([batch, m, n])
        }
    };
    y + bias.unsqueeze()
}

/// Waits for the device.
fn wait(device: &Device) -> Result<()> {
    device.sync().map_err(|error| Error::compute("waiting for the device", error))
}

/// The workload of a row, ready to be measured; without a `rival`, this crate's own operation.
///
/// # Errors
///
/// [`Error::Argument`] for an impossible layer, [`Error::Compute`] when the device fails.
pub fn workload(
    pass: Pass,
    rival: Option<Rival>,
    spec: &MpsSpec,
    batch: usize,
    device: &Device,
) -> Result<Box<dyn Workload>> {
    let uniform = Distribution::Uniform(0.0, 1.0);
    let autodiff = device.clone().autodiff();
    let workload: Box<dyn Workload> = match pass {
        Pass::Forward => Box::new(Forward {
            layer: Layer::new(rival, spec, device),
            x: Tensor::random([batch, spec.inputs()], uniform, device),
            spec: *spec,
            executions: 0,
        }),
        Pass::Backward | Pass::BackwardX => {
            let x = Tensor::random([batch, spec.inputs()], uniform, &autodiff);
            Box::new(Backward {
                layer: Layer::new(rival, spec, &autodiff).require_grad(),
                x: if pass == Pass::BackwardX { x.require_grad() } else { x },
                spec: *spec,
                outputs: Vec::new(),
            })
        }
        Pass::Step | Pass::StepDense => {
            let classifier = ClassifierConfig {
                model: if pass.is_dense(rival) { FirstLayer::Dense } else { FirstLayer::Mps },
                in_factors: [spec.j, spec.l],
                out_factors: [spec.m, spec.n],
                bond: spec.k,
                init: MpsInit::He,
                classes: CLASSES,
            };
            if rival.is_none() {
                return Ok(Box::new(OwnStep::new(classifier, batch, device)?));
            }
            let labels = Tensor::<1, Int>::arange(0..batch as i64, &autodiff) % CLASSES as i64;
            Box::new(Step {
                network: classifier.init(SEED, &autodiff)?,
                optimizer: AdamConfig::new().init(),
                images: Tensor::random([batch, spec.inputs()], uniform, &autodiff),
                labels,
                executions: 0,
            })
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
    order: Tensor<1, Int>,
    device: Device,
    executions: usize,
}

impl OwnStep {
    fn new(classifier: ClassifierConfig, batch: usize, device: &Device) -> Result<Self> {
        let [height, width] = classifier.in_factors;
        let pixels = (0..batch * height * width).map(|at| (at * 31 % 256) as u8).collect();
        let labels = (0..batch).map(|image| (image % CLASSES) as u8).collect();
        let images = ImageSet { count: batch, height, width, pixels, labels };
        let config = TrainConfig {
            epochs: 1,
            batch_size: batch,
            lr: 1e-3,
            seed: SEED,
            validation: 0,
            classifier,
        };
        let order: Vec<u32> = (0..batch as u32).collect();
        Ok(Self {
            learner: Learner::new(&config, device)?,
            images: Resident::new(&images, device),
            order: resident::order(&order, device),
            device: device.clone(),
            executions: 0,
        })
    }
}

impl Workload for OwnStep {
    fn prepare(&mut self, executions: usize) -> Result<()> {
        self.executions = executions;
        wait(&self.device)
    }

    fn execute(&mut self) -> Result<()> {
        for step in 0..self.executions as u64 {
            self.learner.step(&self.images, self.order.clone(), [2 * step, 2 * step + 1])?;
        }
        wait(&self.device)
    }
}

/// A step of the same network in Burn's operations: its dropout, loss, autodiff and Adam.
struct Step {
    network: Classifier,
    optimizer: ModuleOptimizer,
    images: Tensor<2>,
    labels: Tensor<1, Int>,
    executions: usize,
}

impl Step {
    fn forward(&self) -> Tensor<2> {
        let images = self.images.clone();
        match &self.network.first {
            First::Mps(layer) => {
                let MpsSpec { j, l, .. } = layer.spec();
                let x = images.reshape([-1, j as i64, l as i64]);
                let bias = layer.bias.as_ref().map(|bias| bias.val());
                let bias = bias.unwrap_or_else(|| Tensor::zeros([1, 1], &self.images.device()));
                let y = composed(x, layer.a.val(), layer.c.val(), bias);
                self.network.after_first(y.flatten(1, 2))
            }
            First::Dense(_) => self.network.forward(images),
        }
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
                .forward(self.forward(), self.labels.clone());
            let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
            let network = self.network.clone();
            self.network = self.optimizer.step(1e-3, network, gradients);
        }
        wait(&self.images.device())
    }
}
