//! The layer of a chain of cores: its operands, and the functions that check them.
//!
//! All weights lie in one tensor, which a [`ChainLayer`] describes. How it is computed on any backend is in `layer`.

mod autodiff;
mod layer;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor};

pub(crate) use layer::{ChainKernels, CoreGrads, PlacedStep, reversed};

use super::activation::Activation;
use super::state::{Betas, Layout};
use super::training::{ReluBefore, check_words, relu_before};
use super::words::StepWords;
use super::{check_dtype, check_shape, forward_plan, target_of};
use crate::mps::chain::{Chain, ChainPlan, End, Way};
use crate::mps::strategy::Target;
use crate::{Error, Result};

/// A chain, and where its weights begin in one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainLayer {
    /// The extents.
    chain: Chain,
    /// Where each core begins.
    begins: Vec<usize>,
    /// Where the bias begins, if there is one.
    bias: Option<usize>,
    /// Numbers in a row of all of them.
    stride: usize,
    /// How it is computed, where the plan does not decide.
    way: Option<Way>,
}

impl ChainLayer {
    /// With the weights that a layout has: the cores, and the bias after them if `bias` says so.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming `weights` when the layout has others.
    pub fn new(chain: Chain, layout: &Layout) -> Result<Self> {
        let cores = (0..chain.cores()).map(|core| chain.core_shape(core).iter().product());
        let mut counts: Vec<usize> = cores.collect();
        let found: Vec<usize> = layout.weights.iter().map(|[_, count]| *count).collect();
        if found.len() > counts.len() {
            counts.push(chain.output());
        }
        if found != counts {
            let [expected, found] = [&counts, &found].map(|counts| format!("{counts:?} numbers"));
            return Err(Error::Shape { operand: "weights", expected, found });
        }
        let begins: Vec<usize> = layout.weights.iter().map(|[begin, _]| *begin).collect();
        let (begins, bias) = begins.split_at(chain.cores());
        let (begins, bias) = (begins.to_vec(), bias.first().copied());
        Ok(Self { chain, begins, bias, stride: layout.stride, way: None })
    }

    /// The same, computed in one way whatever the plan says.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `way` when the chain has no such cut.
    pub fn by(self, way: Way) -> Result<Self> {
        let cores = self.chain.cores();
        match way {
            Way::Folded { cut } if cut == 0 || cut >= cores => {
                let problem = format!("{way}: expected a cut from 1 to {}", cores - 1);
                Err(Error::argument("way", problem))
            }
            _ => Ok(Self { way: Some(way), ..self }),
        }
    }
}

/// A training step of a chain, besides its tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChainUpdate {
    /// The layer.
    pub layer: ChainLayer,
    /// By what the ReLU after the layer multiplied what it kept, where there is one that the gradient has not passed.
    pub relu: Option<f32>,
    /// Of Adam.
    pub betas: Betas,
}

/// The layer on a backend: `x[b, I]`, `weights[stride]`, `grad_y[b, O]`, all f32. Nothing is checked here.
#[backend_extension(Cube, Flex, Fusion, Autodiff)]
pub trait ChainOps: Backend {
    /// The output `[b, O]`.
    #[fusion(dtype = x, shape = Shape::new([x[0], layer.chain.output()]))]
    fn chain_linear(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self>;

    /// The gradients by all weights, `[1, stride]`.
    #[fusion(dtype = x, shape = Shape::new([1, layer.stride]))]
    fn chain_grads(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self>;

    /// The gradient by the input, `[b, I]`.
    #[fusion(dtype = grad_y, shape = Shape::new([grad_y[0], layer.chain.input()]))]
    fn chain_grad_x(
        weights: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self>;
}

/// The layer in training, on a backend without autodiff.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait ChainTraining: Backend {
    /// The layer, then the activation.
    #[fusion(dtype = x, shape = Shape::new([x[0], layer.chain.output()]))]
    fn chain_activated(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        words: IntTensor<Self>,
        layer: ChainLayer,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// The state after a step of Adam.
    #[fusion(dtype = state, shape = state)]
    fn chain_update(
        state: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        words: IntTensor<Self>,
        update: ChainUpdate,
    ) -> FloatTensor<Self>;

    /// The same after `grad_x`, which comes first.
    #[fusion(meta = |state, x, _y, _grad_y, _words, _update| -> (TensorSpec, TensorSpec) { (x.clone(), state.clone()) })]
    fn chain_update_x(
        state: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        words: IntTensor<Self>,
        update: ChainUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The layer of a chain, `y[b, O] = Σ G_1 G_2 … G_d x + bias`.
///
/// # Shapes
///
/// - `x`: `[batch, I]`, the product of the cores' `I_t`, row-major
/// - `cores`: `[K_{t-1}, O_t, I_t, K_t]`, two or more, the first bond and the last one 1
/// - `bias`: `[O]`, or none
/// - output: `[batch, O]`
///
/// # Errors
///
/// [`Error::Shape`] or [`Error::ElementType`] naming the operand that does not fit, before anything is launched.
pub fn mps_chain(x: Tensor<2>, cores: &[Tensor<4>], bias: Option<Tensor<1>>) -> Result<Tensor<2>> {
    mps_chain_by(None, x, cores, bias)
}

/// The same in one way, if one is named.
///
/// # Errors
///
/// As [`mps_chain`] and [`ChainLayer::by`].
pub fn mps_chain_by(
    way: Option<Way>,
    x: Tensor<2>,
    cores: &[Tensor<4>],
    bias: Option<Tensor<1>>,
) -> Result<Tensor<2>> {
    let shapes: Vec<[usize; 4]> = cores.iter().map(Tensor::dims).collect();
    let chain = Chain::from_shapes(&shapes)?;
    if let Some(bias) = &bias {
        check_shape("bias", bias.dims(), [chain.output()])?;
    }
    let flat = cores.iter().map(|core| core.clone().reshape([-1])).chain(bias);
    let flat: Vec<Tensor<1>> = flat.collect();
    let layout = Layout::new(flat.iter().map(|weight| weight.dims()[0]));
    let mut parts = Vec::new();
    let mut end = 0;
    for ([begin, count], weight) in layout.weights.iter().zip(flat) {
        check_dtype("cores", DType::F32, weight.dtype())?;
        // Zeros in front, so that a kernel can bind each weight where it begins.
        parts.extend((*begin > end).then(|| Tensor::zeros([begin - end], &x.device())));
        parts.push(weight);
        end = begin + count;
    }
    parts.extend((layout.stride > end).then(|| Tensor::zeros([layout.stride - end], &x.device())));
    let layer = ChainLayer::new(chain, &layout)?;
    let layer = way.map_or(Ok(layer.clone()), |way| layer.by(way))?;
    check_operands(&layer, &x)?;
    let weights = Tensor::cat(parts, 0).into_dispatch();
    Ok(Tensor::from_dispatch(Dispatch::chain_linear(x.into_dispatch(), weights, layer)))
}

/// The layer of a chain and an activation, on a device without autodiff, from all its weights as a [`Layout`] has them.
///
/// # Errors
///
/// As [`mps_chain`].
pub fn chain_layer(
    x: Tensor<2>,
    weights: Tensor<1>,
    layer: &ChainLayer,
    activation: Activation,
    words: &StepWords,
) -> Result<Tensor<2>> {
    check_operands(layer, &x)?;
    check_dtype("weights", DType::F32, weights.dtype())?;
    check_shape("weights", weights.dims(), [layer.stride])?;
    check_words(words, activation)?;
    let [x, weights] = [x.into_dispatch(), weights.into_dispatch()];
    let (words, layer) = (words.0.clone().into_dispatch(), layer.clone());
    Ok(Tensor::from_dispatch(Dispatch::chain_activated(x, weights, words, layer, activation)))
}

/// Adam's step of a chain's state, and `grad_x[batch, I]` if it is wanted, from its input and the gradient by its output or,
/// with `relu`, by the output of the ReLU after it.
///
/// # Errors
///
/// As [`mps_chain`].
#[expect(clippy::too_many_arguments, reason = "the operands of a step")]
pub fn chain_update(
    state: Tensor<1>,
    layer: &ChainLayer,
    x: Tensor<2>,
    relu: Option<ReluBefore>,
    grad_y: Tensor<2>,
    words: &StepWords,
    betas: Betas,
    wants_grad_x: bool,
) -> Result<(Option<Tensor<2>>, Tensor<1>)> {
    check_operands(layer, &x)?;
    for (operand, dtype) in [("state", state.dtype()), ("grad_y", grad_y.dtype())] {
        check_dtype(operand, DType::F32, dtype)?;
    }
    check_shape("state", state.dims(), [3 * layer.stride])?;
    check_shape("grad_y", grad_y.dims(), [x.dims()[0], layer.chain.output()])?;
    let (y, relu) = relu_before(relu, &grad_y)?;
    let update = ChainUpdate { layer: layer.clone(), relu, betas };
    let (state, words) = (state.into_dispatch(), words.0.clone().into_dispatch());
    let [x, y, grad_y] = [x, y, grad_y].map(Tensor::into_dispatch);
    if !wants_grad_x {
        let state = Dispatch::chain_update(state, x, y, grad_y, words, update);
        return Ok((None, Tensor::from_dispatch(state)));
    }
    let (grad_x, state) = Dispatch::chain_update_x(state, x, y, grad_y, words, update);
    Ok((Some(Tensor::from_dispatch(grad_x)), Tensor::from_dispatch(state)))
}

/// `x[batch, I]`, of as many numbers as kernels count.
fn check_operands(layer: &ChainLayer, x: &Tensor<2>) -> Result<()> {
    let ([batch, _], chain) = (x.dims(), &layer.chain);
    check_dtype("x", DType::F32, x.dtype())?;
    check_shape("x", x.dims(), [batch.max(1), chain.input()])?;
    let between = End::BOTH.into_iter().flat_map(|from| chain.steps(from));
    let largest = between.map(|step| step.input().max(step.output())).max().unwrap_or(1);
    if batch.saturating_mul(largest) <= 1 << 31 {
        return Ok(());
    }
    Err(Error::Shape {
        operand: "x",
        expected: format!("a batch of at most {} samples", (1 << 31) / largest),
        found: format!("{:?}", x.dims()),
    })
}

/// How the forward pass of a chain is computed on a device, in words.
pub fn chain_plan(chain: &Chain, batch: usize, device: &Device) -> String {
    let way = ChainPlan::of(chain, batch, target_of(device)).way;
    match way {
        Way::Folded { cut } => {
            format!("{way}: {}", forward_plan(&chain.folded(cut), batch, device))
        }
        Way::CoreByCore { .. } => way.to_string(),
    }
}

/// Numbers that a chain needs on the CPU device besides operands and results, at most, forward and for its gradients.
pub(crate) fn scratch_on_cpu(chain: &Chain, batch: usize) -> [u64; 2] {
    match ChainPlan::of(chain, batch, Target::Cpu).way {
        Way::Folded { cut } => {
            let spec = chain.folded(cut);
            let cores = spec.parameters() as u64;
            super::scratch_on_cpu(&spec, batch).map(|numbers| numbers + 2 * cores)
        }
        // Of every thread's block.
        Way::CoreByCore { from } => {
            let steps = chain.steps(from);
            let between: usize = steps.iter().map(|step| step.input() + step.output()).sum();
            let sums = super::cpu::partials(batch) * chain.parameters();
            [(BLOCKS * between) as u64, (BLOCKS * (2 * between + sums)) as u64]
        }
    }
}

/// Samples of a block on the CPU, and blocks at once, at most.
const BLOCKS: usize = 16;
