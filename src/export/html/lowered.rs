//! A network as launches of this program's WGSL kernels for one image: what a web page needs to compute it.
//!
//! ```text
//! Stack ─ stages ─▶ launches: kernel, parameters, buffers, workgroups
//!                   dense   chain_step.wgsl, a matrix as a core
//!                   mps     contract.wgsl of two cores, chain_step.wgsl for each of more
//!                   conv2d  patches.wgsl; the same as of dense or mps, over the positions; chain_step.wgsl to put channels first
//!                   pools   pool.wgsl
//!                   ReLU    activate.wgsl
//! ```
//!
//! These are the plain kernels, which every layer can take. Those for GPUs (`gpu/`) have barriers below branches on what they
//! read from buffers, which browsers refuse; and their tiles are for batches: one image leaves most of a tile empty.

use crate::mps::MpsSpec;
use crate::mps::Order;
use crate::mps::chain::{Chain, End, Step};
use crate::mps::conv::Window;
use crate::mps::plan::{Contraction, Plan};
use crate::mps::strategy::{Strategy, Target};
use crate::net::{Layer, Mps, Stack, Stage, features};
use crate::op::conv::Kernel;
use crate::op::gpu::chain::step_launches;
use crate::op::gpu::launch::workgroups;
use crate::op::gpu::params::{ActivateParams, PatchesParams, PoolParams, count};
use crate::op::gpu::plain::contractions;
use crate::op::gpu::shader::{Params, Shader};
use crate::{Error, Result};

/// A buffer of numbers of 32 bits: 0 at first, if it is not a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// How many.
    pub numbers: usize,
    /// Which of the network's weights it holds.
    pub weight: Option<usize>,
}

/// A launch of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The names of the layers that it computes, or a part of.
    pub stage: String,
    /// The kernel.
    pub shader: Shader,
    /// Its parameters, as the WGSL struct has them.
    pub params: Vec<u8>,
    /// The buffers in the order of its bindings. Those that it does not read are some that it reads anyway.
    pub buffers: Vec<usize>,
    /// Workgroups along both dimensions.
    pub workgroups: [u32; 2],
}

/// A network as launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// The first one is the image.
    pub buffers: Vec<Buffer>,
    /// In their order.
    pub launches: Vec<Launch>,
    /// The buffer of the logits.
    pub logits: usize,
}

/// The binding that a kernel writes to; the others it only reads. None of a kernel that no network is lowered to.
pub fn written(shader: Shader) -> Option<&'static str> {
    match shader {
        Shader::Contract | Shader::Pool => Some("y"),
        Shader::ChainStep => Some("out"),
        Shader::Patches => Some("patches"),
        Shader::Activate => Some("x"),
        _ => None,
    }
}

impl Lowered {
    /// The launches of a network for one image.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`]; [`Error::Layer`] naming a layer for which there is no kernel.
    pub fn new(stack: &Stack) -> Result<Self> {
        let mut lowering = Lowering::default();
        let mut state = lowering.buffer(features(stack.input));
        for (_, weight) in stack.weights()? {
            let buffer = Buffer { numbers: weight.count(), weight: Some(lowering.weights.len()) };
            lowering.weights.push(lowering.buffers.len());
            lowering.buffers.push(buffer);
        }
        for stage in stack.stages()? {
            state = lowering.stage(&stage, state)?;
        }
        let Lowering { buffers, launches, .. } = lowering;
        Ok(Self { buffers, launches, logits: state })
    }

    /// Every kernel once.
    pub fn shaders(&self) -> Vec<Shader> {
        let used = |shader: &Shader| self.launches.iter().any(|launch| launch.shader == *shader);
        Shader::ALL.iter().copied().filter(used).collect()
    }
}

#[derive(Default)]
struct Lowering {
    buffers: Vec<Buffer>,
    launches: Vec<Launch>,
    /// The buffer of each weight.
    weights: Vec<usize>,
    /// The words of a step, which `activate.wgsl` has a binding for, and does not read where nothing is dropped.
    words: Option<usize>,
    stage: String,
}

impl Lowering {
    fn buffer(&mut self, numbers: usize) -> usize {
        self.buffers.push(Buffer { numbers, weight: None });
        self.buffers.len() - 1
    }

    fn launch<P: Params>(&mut self, (invocations, params): (usize, P), buffers: &[usize]) {
        self.launches.push(Launch {
            stage: self.stage.clone(),
            shader: P::SHADER,
            params: bytemuck::bytes_of(&params).to_vec(),
            buffers: buffers.to_vec(),
            workgroups: workgroups(invocations, P::SHADER),
        });
    }

    /// What a stage makes of the buffer `x`.
    fn stage(&mut self, stage: &Stage, x: usize) -> Result<usize> {
        self.stage.clone_from(&stage.name);
        let own = self.weights[stage.weights.clone()].to_vec();
        let inputs = features(stage.input);
        let y = match &stage.layer {
            Layer::Dense(dense) => {
                self.steps(&[(Step::matrix(inputs, dense.out), own[0])], x, 1, own.get(1))
            }
            Layer::Mps(mps) => self.mps(mps, x, inputs, &own),
            Layer::Conv2d(conv) => {
                self.conv(x, &conv.window(stage.input), &conv.kernel(stage.input), &own)
            }
            Layer::MaxPool(pool) => self.pool(x, &pool.window(stage.input)?, false),
            Layer::AvgPool(pool) => self.pool(x, &pool.window(stage.input)?, true),
            Layer::Relu(_) | Layer::Dropout(_) => x,
            Layer::Gelu(_) => {
                let problem = "a page cannot compute it: expected only layers with kernels of this program, mps, dense, \
                               conv2d, maxpool, avgpool, relu and dropout"
                    .to_owned();
                return Err(Error::Layer { layer: stage.name.clone(), problem });
            }
        };
        if stage.has_relu() {
            let numbers = self.buffers[y].numbers;
            let params = ActivateParams {
                count: count(numbers),
                relu: 1,
                seed: 0,
                threshold: 0,
                scale: 1.0,
            };
            let words = match self.words {
                Some(words) => words,
                None => self.buffer(2),
            };
            self.words = Some(words);
            self.launch((numbers, params), &[y, words]);
        }
        Ok(y)
    }

    /// Steps, each with the buffer of its core, applied one after the other to samples.
    fn steps(
        &mut self,
        steps: &[(Step, usize)],
        mut t: usize,
        samples: usize,
        bias: Option<&usize>,
    ) -> usize {
        for (at, (step, core)) in steps.iter().enumerate() {
            let bias = bias.filter(|_| at + 1 == steps.len());
            let out = self.buffer(samples * step.output());
            for launch in step_launches(step, samples, false, bias.is_some()) {
                self.launch(launch, &[*core, t, *bias.unwrap_or(core), out]);
            }
            t = out;
        }
        t
    }

    /// A matrix `[rows, columns]` at the beginning of a buffer, transposed, in one of its own of so many numbers.
    fn transposed(&mut self, from: usize, extents: [usize; 2], numbers: usize) -> usize {
        let out = self.buffer(numbers);
        for launch in step_launches(&Step::transposition(extents), 1, true, false) {
            self.launch(launch, &[from, from, from, out]);
        }
        out
    }

    /// Two cores, applied to samples.
    fn two_cores(&mut self, spec: &MpsSpec, x: usize, samples: usize, own: &[usize]) -> usize {
        let plan: Plan<Contraction> =
            Plan::forward(spec, samples, Target::Gpu, Some(Strategy::Plain));
        let (a, c, bias) = (own[0], own[1], own.get(2));
        let [f, g] = match plan.order {
            Order::CFirst => [c, a],
            Order::AFirst => [a, c],
        };
        let y = self.buffer(samples * spec.outputs());
        for launch in contractions(&plan.pass, samples, bias.is_some()) {
            self.launch(launch, &[x, f, g, *bias.unwrap_or(&g), y]);
        }
        y
    }

    fn mps(&mut self, mps: &Mps, x: usize, inputs: usize, own: &[usize]) -> usize {
        let (chain, [zeros, cut]) = (mps.chain(), mps.pad);
        // Zeros follow the input; what is cut off goes, since zeros may follow the output too.
        let x = if zeros == 0 { x } else { self.transposed(x, [1, inputs], inputs + zeros) };
        let y = match chain.two_cores() {
            Some(spec) => self.two_cores(&spec, x, 1, own),
            None => {
                let steps = by_core(&chain);
                let steps: Vec<_> = steps.into_iter().map(|step| (step, own[step.core])).collect();
                self.steps(&steps, x, 1, own.get(chain.cores()))
            }
        };
        let outputs = mps.outputs();
        if cut == 0 { y } else { self.transposed(y, [1, outputs], outputs) }
    }

    fn conv(&mut self, x: usize, window: &Window, kernel: &Kernel, own: &[usize]) -> usize {
        let positions: usize = window.output().iter().product();
        let patch = window.input[0] * window.taps();
        let patches = self.buffer(positions * patch);
        let params = PatchesParams { count: count(positions * patch), window: window.into() };
        self.launch((positions * patch, params), &[x, patches]);
        let (y, outputs) = match kernel {
            Kernel::Matrix { outputs } => {
                let step = Step::matrix(patch, *outputs);
                (self.steps(&[(step, own[0])], patches, positions, own.get(1)), *outputs)
            }
            Kernel::TwoCores(spec) => {
                (self.two_cores(spec, patches, positions, own), spec.outputs())
            }
        };
        self.transposed(y, [positions, outputs], positions * outputs)
    }

    fn pool(&mut self, x: usize, window: &Window, mean: bool) -> usize {
        let [rows, columns] = window.output();
        let numbers = window.input[0] * rows * columns;
        let y = self.buffer(numbers);
        let params =
            PoolParams { count: count(numbers), window: window.into(), mean: u32::from(mean) };
        self.launch((numbers, params), &[x, y]);
        y
    }
}

/// The steps from the end at which they take fewer multiply-adds.
fn by_core(chain: &Chain) -> Vec<Step> {
    let multiply_adds = |steps: &Vec<Step>| steps.iter().map(Step::multiply_adds).sum::<usize>();
    let [left, right] = End::BOTH.map(|from| chain.steps(from));
    if multiply_adds(&left) < multiply_adds(&right) { left } else { right }
}
