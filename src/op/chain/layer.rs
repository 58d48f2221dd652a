//! The layer on any backend: folded into a layer of two cores, or core by core, as [`ChainPlan`] says.
//!
//! The gradients by the two cores of a folded chain are pulled back by the same steps that folded it, transposed.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Shape;

use super::{ChainLayer, ChainOps, ChainTraining, ChainUpdate};
use crate::mps::chain::{ChainPlan, End, Step, Way};
use crate::op::MpsOps;
use crate::op::activation::Activation;
use crate::op::kernels::LayerOps;
use crate::op::layer::{activate, before_relu, forward};

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
