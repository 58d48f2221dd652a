//! The layer of a chain of cores, on any backend: folded into a layer of two cores, or core by core, as
//! [`crate::mps::chain::plan`] says.
//!
//! All weights lie in one tensor, which a [`ChainLayer`] describes. The gradients by the two cores of a folded chain are pulled
//! back by the same steps that folded it, transposed.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Dispatch, TensorMetadata, backend_extension,
};
use burn::tensor::{DType, Device, Shape, Tensor};

use super::activation::Activation;
use super::kernels::LayerOps;
use super::layer::{activate, before_relu, forward};
use super::state::{Betas, Layout};
use super::training::{ReluBefore, check_words, relu_before};
use super::words::StepWords;
use super::{MpsOps, check_dtype, check_shape, forward_plan, target_of};
use crate::mps::chain::{Chain, ChainPlan, End, Step, Way};
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

/// A step, and where its core begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PlacedStep {
    pub step: Step,
    pub begin: usize,
}

/// The gradients by some cores, and where each core begins.
pub(crate) type CoreGrads<B> = Vec<(FloatTensor<B>, usize)>;

/// The kernels of a backend for chains.
pub(crate) trait ChainKernels: LayerOps {
    /// All steps, applied one after the other to a batch of samples; then the bias that begins at an index, if one is named.
    fn apply(
        steps: &[PlacedStep],
        weights: &FloatTensor<Self>,
        x: FloatTensor<Self>,
        batch: usize,
        bias: Option<usize>,
    ) -> FloatTensor<Self>;

    /// The gradients by the cores of all steps, and where each core begins, from what [`Self::apply`] was applied to and the
    /// gradient by what it gave; and the gradient by the former, if it is wanted.
    fn core_grads(
        steps: &[PlacedStep],
        weights: &FloatTensor<Self>,
        x: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        batch: usize,
        wants_x: bool,
    ) -> (CoreGrads<Self>, Option<FloatTensor<Self>>);

    /// One step of a fold; without `t`, which is the number 1 then.
    fn fold(
        step: &PlacedStep,
        weights: &FloatTensor<Self>,
        t: Option<&FloatTensor<Self>>,
    ) -> FloatTensor<Self>;

    /// The gradient by the core of that step, from the gradient by what it gave.
    fn fold_grad(
        step: &PlacedStep,
        t: Option<&FloatTensor<Self>>,
        grad: &FloatTensor<Self>,
    ) -> FloatTensor<Self>;
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

/// Half of a chain, folded into one core.
struct Fold<B: Backend> {
    steps: Vec<PlacedStep>,
    /// What each step gives.
    given: Vec<FloatTensor<B>>,
}

impl<B: ChainKernels> Fold<B> {
    /// The gradients by its cores, from that by the core into which it was folded.
    fn pulled_back(self, weights: &FloatTensor<B>, grad: FloatTensor<B>) -> CoreGrads<B> {
        let Self { steps, given } = self;
        let mut grad = B::float_reshape(grad, Shape::new([steps[steps.len() - 1].step.output()]));
        let mut grads = Vec::with_capacity(steps.len());
        for (at, placed) in steps.iter().enumerate().rev() {
            let t = at.checked_sub(1).map(|before| &given[before]);
            grads.push((B::fold_grad(placed, t, &grad), placed.begin));
            if at > 0 {
                let back = PlacedStep { step: placed.step.transposed(), ..*placed };
                grad = B::fold(&back, weights, Some(&grad));
            }
        }
        grads
    }
}

impl ChainLayer {
    fn way<B: LayerOps>(&self, batch: usize, like: &FloatTensor<B>) -> Way {
        self.way.unwrap_or_else(|| ChainPlan::of(&self.chain, batch, B::target(like)).way)
    }

    fn placed(&self, steps: Vec<Step>) -> Vec<PlacedStep> {
        steps.into_iter().map(|step| PlacedStep { step, begin: self.begins[step.core] }).collect()
    }

    /// The steps of the whole chain.
    fn steps(&self, from: End) -> Vec<PlacedStep> {
        self.placed(self.chain.steps(from))
    }

    /// `A[m,k,j]` and `C[l,k,n]`, each as the last of what its steps give.
    fn folded<B: ChainKernels>(&self, cut: usize, weights: &FloatTensor<B>) -> [Fold<B>; 2] {
        End::BOTH.map(|end| {
            let mut fold =
                Fold { steps: self.placed(self.chain.folds(cut, end)), given: Vec::new() };
            for step in &fold.steps {
                fold.given.push(B::fold(step, weights, fold.given.last()));
            }
            fold
        })
    }

    /// `A` and `C` in their shapes.
    fn two_cores<B: ChainKernels>(&self, cut: usize, folds: &[Fold<B>; 2]) -> [FloatTensor<B>; 2] {
        let spec = self.chain.folded(cut);
        let [a, c] = folds.each_ref().map(|fold| fold.given[fold.given.len() - 1].clone());
        [
            B::float_reshape(a, Shape::new(spec.a_shape())),
            B::float_reshape(c, Shape::new(spec.c_shape())),
        ]
    }

    fn forward<B: ChainKernels>(
        &self,
        x: FloatTensor<B>,
        weights: FloatTensor<B>,
        active: Option<(IntTensor<B>, Activation)>,
    ) -> FloatTensor<B> {
        let [batch, _] = x.shape().dims();
        match self.way::<B>(batch, &x) {
            Way::Folded { cut } => {
                let spec = self.chain.folded(cut);
                let [a, c] = self.two_cores(cut, &self.folded::<B>(cut, &weights));
                let x = B::float_reshape(x, Shape::new([batch, spec.j, spec.l]));
                let bias = |begin| B::part(weights, begin, Shape::new(spec.bias_shape()));
                let y = forward::<B>(x, a, c, self.bias.map(bias), active);
                B::float_reshape(y, Shape::new([batch, spec.outputs()]))
            }
            Way::CoreByCore { from } => {
                let y = B::apply(&self.steps(from), &weights, x, batch, self.bias);
                activate::<B>(y, active)
            }
        }
    }

    /// The gradients by all weights, `[1, stride]`, and by the input where it is wanted.
    fn grads<B: ChainKernels>(
        &self,
        x: FloatTensor<B>,
        weights: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        wants_x: bool,
    ) -> (FloatTensor<B>, Option<FloatTensor<B>>) {
        let [batch, _] = x.shape().dims();
        let (mut grads, grad_bias, grad_x) = match self.way::<B>(batch, &x) {
            Way::Folded { cut } => {
                let spec = self.chain.folded(cut);
                let folds = self.folded::<B>(cut, &weights);
                let [a, c] = self.two_cores(cut, &folds);
                let d = B::float_reshape(grad_y, Shape::new([batch, spec.m, spec.n]));
                let grad_x = wants_x.then(|| {
                    let grad_x = B::mps_grad_x(a.clone(), c.clone(), d.clone());
                    B::float_reshape(grad_x, Shape::new([batch, spec.inputs()]))
                });
                let x = B::float_reshape(x, Shape::new([batch, spec.j, spec.l]));
                let (grad_a, grad_c, grad_bias) = B::mps_grads(x, a, c, d);
                let [left, right] = folds;
                let mut grads = left.pulled_back(&weights, grad_a);
                grads.extend(right.pulled_back(&weights, grad_c));
                (grads, grad_bias, grad_x)
            }
            Way::CoreByCore { from } => {
                let grad_bias = B::column_sums(grad_y.clone());
                let (grads, grad_x) =
                    B::core_grads(&self.steps(from), &weights, x, grad_y, batch, wants_x);
                (grads, grad_bias, grad_x)
            }
        };
        grads.extend(self.bias.map(|begin| (grad_bias, begin)));
        (B::side_by_side(grads, self.stride), grad_x)
    }

    fn grad_x<B: ChainKernels>(
        &self,
        weights: FloatTensor<B>,
        grad_y: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let [batch, _] = grad_y.shape().dims();
        match self.way::<B>(batch, &grad_y) {
            Way::Folded { cut } => {
                let spec = self.chain.folded(cut);
                let [a, c] = self.two_cores(cut, &self.folded::<B>(cut, &weights));
                let d = B::float_reshape(grad_y, Shape::new([batch, spec.m, spec.n]));
                let grad_x = B::mps_grad_x(a, c, d);
                B::float_reshape(grad_x, Shape::new([batch, spec.inputs()]))
            }
            Way::CoreByCore { from } => {
                let steps = reversed(&self.steps(from));
                B::apply(&steps, &weights, grad_y, batch, None)
            }
        }
    }
}

/// The steps by which a gradient goes back.
pub(crate) fn reversed(steps: &[PlacedStep]) -> Vec<PlacedStep> {
    let transposed = |placed: &PlacedStep| PlacedStep { step: placed.step.transposed(), ..*placed };
    steps.iter().rev().map(transposed).collect()
}

impl<B: ChainKernels> ChainOps for B {
    fn chain_linear(
        x: FloatTensor<B>,
        weights: FloatTensor<B>,
        layer: ChainLayer,
    ) -> FloatTensor<B> {
        layer.forward::<B>(x, weights, None)
    }

    fn chain_grads(
        x: FloatTensor<B>,
        weights: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        layer: ChainLayer,
    ) -> FloatTensor<B> {
        layer.grads::<B>(x, weights, grad_y, false).0
    }

    fn chain_grad_x(
        weights: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        layer: ChainLayer,
    ) -> FloatTensor<B> {
        layer.grad_x::<B>(weights, grad_y)
    }
}

/// A step of Adam of a chain's state, and the gradient by its input where it is wanted.
fn update<B: ChainKernels>(
    state: FloatTensor<B>,
    x: FloatTensor<B>,
    [y, grad_y]: [FloatTensor<B>; 2],
    words: IntTensor<B>,
    update: ChainUpdate,
    wants_x: bool,
) -> (Option<FloatTensor<B>>, FloatTensor<B>) {
    let ChainUpdate { layer, relu, betas } = update;
    let weights = B::part(state.clone(), 0, Shape::new([layer.stride]));
    let grad_y = before_relu::<B>(y, grad_y, relu);
    let (grads, grad_x) = layer.grads::<B>(x, weights, grad_y, wants_x);
    (grad_x, B::adam(state, grads, words, betas))
}

impl<B: ChainKernels> ChainTraining for B {
    fn chain_activated(
        x: FloatTensor<B>,
        weights: FloatTensor<B>,
        words: IntTensor<B>,
        layer: ChainLayer,
        activation: Activation,
    ) -> FloatTensor<B> {
        layer.forward::<B>(x, weights, Some((words, activation)))
    }

    fn chain_update(
        state: FloatTensor<B>,
        x: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        words: IntTensor<B>,
        update: ChainUpdate,
    ) -> FloatTensor<B> {
        self::update::<B>(state, x, [y, grad_y], words, update, false).1
    }

    #[expect(clippy::expect_used, reason = "`update` gives one where its last argument is true")]
    fn chain_update_x(
        state: FloatTensor<B>,
        x: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        words: IntTensor<B>,
        update: ChainUpdate,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let (grad_x, state) = self::update::<B>(state, x, [y, grad_y], words, update, true);
        (grad_x.expect("a gradient by the input"), state)
    }
}

/// Backward step of the layer with parents `x` and `weights`.
#[derive(Debug)]
struct ChainBackward;

impl<B: ChainOps> Backward<B, 2> for ChainBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, ChainLayer);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad_y = grads.consume::<B>(&ops.node);
        let (x, weights, layer) = ops.state;
        let [of_x, of_weights] = ops.parents;
        if let Some(node) = of_x {
            grads.register::<B>(
                node.id,
                B::chain_grad_x(weights.clone(), grad_y.clone(), layer.clone()),
            );
        }
        if let Some(node) = of_weights {
            let numbers = weights.shape().num_elements();
            let grad = B::chain_grads(x, weights, grad_y, layer);
            grads.register::<B>(node.id, B::float_reshape(grad, Shape::new([numbers])));
        }
    }
}

impl<B: ChainOps, C: CheckpointStrategy> ChainOps for Autodiff<B, C> {
    fn chain_linear(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self> {
        let [(x, of_x), (weights, of_weights)] = [x, weights].map(|tensor| tensor.into_parts());
        let prepared = ChainBackward.prepare::<C>([of_x, of_weights]).compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(prepared) => {
                let y = B::chain_linear(x.clone(), weights.clone(), layer.clone());
                prepared.finish((x, weights, layer), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::chain_linear(x, weights, layer)),
        }
    }

    fn chain_grads(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self> {
        let [x, weights, grad_y] = [x, weights, grad_y].map(|tensor| tensor.into_primitive());
        Self::from_inner(B::chain_grads(x, weights, grad_y, layer))
    }

    fn chain_grad_x(
        weights: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self> {
        let [weights, grad_y] = [weights, grad_y].map(|tensor| tensor.into_primitive());
        Self::from_inner(B::chain_grad_x(weights, grad_y, layer))
    }
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
