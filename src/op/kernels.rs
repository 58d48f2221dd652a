//! What a backend brings for the layer: its kernels.

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::activation::Activation;
use super::fused::MpsUpdate;
use super::training::TrainingOps;
use crate::mps::plan::{Contraction, Gradients, Plan};
use crate::mps::strategy::Target;

/// The kernels of a backend. Operands fit each other and the plan.
pub(crate) trait LayerOps: TrainingOps {
    /// What computes on the device of a tensor.
    fn target(tensor: &FloatTensor<Self>) -> Target;

    /// A tensor with other extents: shorter ones leave elements out, longer ones add zeros. Called with other
    /// extents only where [`Plan`] pads.
    fn resize<const D: usize>(tensor: FloatTensor<Self>, shape: [usize; D]) -> FloatTensor<Self>;

    /// `x[b,i] weight[i,o]`, plus `bias[o]` where there is one.
    fn biased_product(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self>;

    /// The contraction of `x` with the cores `[a, c]`, plus the bias where there is one, as `[batch, w·v]`
    /// numbers in the shape given, and the activation.
    fn contract(
        plan: &Plan<Contraction>,
        x: FloatTensor<Self>,
        cores: [FloatTensor<Self>; 2],
        bias: Option<FloatTensor<Self>>,
        active: Option<(IntTensor<Self>, Activation)>,
        shape: [usize; 3],
    ) -> FloatTensor<Self>;

    /// The gradients by the cores `[a, c]` and the bias.
    fn grads(
        plan: &Plan<Gradients>,
        x: FloatTensor<Self>,
        cores: [FloatTensor<Self>; 2],
        grad_y: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `grad_x`, if it is wanted, and the state after a step of Adam: in as few passes as there are kernels for, if
    /// there are any for this plan; else the operands are given back.
    fn update(
        plan: &Plan<Gradients>,
        operands: Operands<Self>,
        wants_x: bool,
    ) -> Result<Updated<Self>, Operands<Self>>;

    /// One row of `stride` numbers that holds the gradients from the indices given on.
    fn side_by_side(grads: Vec<(FloatTensor<Self>, usize)>, stride: usize) -> FloatTensor<Self>;
}

/// The operands of a training step of the layer: `x[batch, J·L]`, and `y` and `grad_y`, both `[batch, M·N]`.
pub(crate) struct Operands<B: Backend> {
    pub state: FloatTensor<B>,
    pub x: FloatTensor<B>,
    pub y: FloatTensor<B>,
    pub grad_y: FloatTensor<B>,
    pub words: IntTensor<B>,
    pub update: MpsUpdate,
}

/// The results of a training step.
pub(crate) struct Updated<B: Backend> {
    pub grad_x: Option<FloatTensor<B>>,
    pub state: FloatTensor<B>,
}
