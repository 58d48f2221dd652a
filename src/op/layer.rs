//! The layer on any backend: the operands are checked, a plan is made and executed.
//!
//! A backend brings the kernels ([`LayerOps`]); by way of `W` the layer is made of matrix products
//! ([`rebuilt`]).

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape};

use super::fused::FusedOps;
use super::training::{Activation, TrainingOps};
use super::{MpsOps, check_countable, forced_strategy, rebuilt};
use crate::mps::MpsSpec;
use crate::mps::plan::{Contraction, Gradients, Plan, Strategy, Target};

/// The kernels of a backend. Operands fit each other and the plan.
pub(crate) trait LayerOps: TrainingOps {
    /// What computes on the device of a tensor.
    fn target(tensor: &FloatTensor<Self>) -> Target;

    /// A tensor with other extents: shorter ones leave elements out, longer ones add zeros. Called with other
    /// extents only where [`Plan`] pads.
    fn resize<const D: usize>(tensor: FloatTensor<Self>, shape: [usize; D]) -> FloatTensor<Self>;

    /// The contraction of `x` with the cores `[a, c]`, plus the bias where there is one, as `[batch, w·v]`
    /// numbers in the shape given, and the activation.
    fn contract(
        plan: &Plan<Contraction>,
        x: FloatTensor<Self>,
        cores: [FloatTensor<Self>; 2],
        bias: Option<FloatTensor<Self>>,
        activation: Activation,
        shape: [usize; 3],
    ) -> FloatTensor<Self>;

    /// The gradients by the cores `[a, c]` and the bias.
    fn grads(
        plan: &Plan<Gradients>,
        x: FloatTensor<Self>,
        cores: [FloatTensor<Self>; 2],
        grad_y: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same of the layer and a ReLU after it, and `grad_x` if it is wanted: in one pass, if there is one for this
    /// plan; else the operands are given back.
    fn all_grads(
        _plan: &Plan<Gradients>,
        operands: Operands<Self>,
        _wants_x: bool,
    ) -> Result<AllGrads<Self>, Operands<Self>> {
        Err(operands)
    }
}

/// The operands of a backward pass.
pub(crate) struct Operands<B: Backend> {
    pub x: FloatTensor<B>,
    pub a: FloatTensor<B>,
    pub c: FloatTensor<B>,
    /// The output of the ReLU after the layer, if there is one, and by what it multiplied what it kept.
    pub relu: Option<(FloatTensor<B>, f32)>,
    pub grad_y: FloatTensor<B>,
}

/// The results of a backward pass.
pub(crate) struct AllGrads<B: Backend> {
    pub x: Option<FloatTensor<B>>,
    pub a: FloatTensor<B>,
    pub c: FloatTensor<B>,
    pub bias: FloatTensor<B>,
}

/// The extents of an operand, whose elements the kernels take for f32.
fn dims<B: LayerOps, const D: usize>(tensor: &FloatTensor<B>) -> [usize; D] {
    assert!(tensor.dtype() == DType::F32, "elements of type {:?}, not f32", tensor.dtype());
    tensor.shape().dims()
}

/// Stops a call with operands that do not fit, which would make the kernels read and write outside their
/// buffers. The public functions of [`super`] return these errors before they get here.
#[expect(clippy::panic, reason = "a backend's operations cannot return errors; Burn's panic too")]
fn fits<T>(checked: crate::Result<T>) -> T {
    checked.unwrap_or_else(|error| panic!("{error}"))
}

/// The layer that the shapes of `x`, `a` and `c` imply, and the batch.
fn spec_of<B: LayerOps>(x: [usize; 3], a: &FloatTensor<B>, c: &FloatTensor<B>) -> (MpsSpec, usize) {
    let (spec, batch) = fits(MpsSpec::from_shapes(x, dims::<B, 3>(a), dims::<B, 3>(c)));
    fits(check_countable(&spec, batch));
    (spec, batch)
}

fn forward<B: LayerOps>(
    x: FloatTensor<B>,
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    activation: Activation,
) -> FloatTensor<B> {
    let (spec, batch) = spec_of::<B>(dims::<B, 3>(&x), &a, &c);
    if let Some(bias) = &bias {
        fits(spec.check_bias(dims::<B, 2>(bias)));
    }
    let plan = Plan::forward(&spec, batch, B::target(&x), forced_strategy());
    let layer = &plan.layer;
    let x = B::resize(x, [batch, layer.j, layer.l]);
    let (a, c) = (B::resize(a, layer.a_shape()), B::resize(c, layer.c_shape()));
    let bias = bias.map(|bias| B::resize(bias, layer.bias_shape()));
    // What is dropped follows from an element's index, which padding changes.
    let (within, after) = match plan.strategy {
        Strategy::Plain | Strategy::Tiled if *layer == spec => (activation, Activation::NONE),
        _ => (Activation::NONE, activation),
    };
    let y = match plan.strategy {
        Strategy::Rebuilt => rebuilt::forward::<B>(x, a, c, bias, layer, batch),
        Strategy::Plain | Strategy::Tiled => {
            B::contract(&plan, x, [a, c], bias, within, [batch, layer.m, layer.n])
        }
    };
    activate::<B>(B::resize(y, [batch, spec.m, spec.n]), after)
}

/// The activation, if it does anything.
pub(crate) fn activate<B: TrainingOps>(
    y: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    match activation {
        Activation::NONE => y,
        activation => B::activate(y, activation),
    }
}

/// All gradients: in one pass where the backend has one, else one after the other.
fn backward<B: LayerOps>(operands: Operands<B>, wants_x: bool) -> AllGrads<B> {
    let Operands { x, a, c, grad_y, relu } = &operands;
    let (spec, batch) = spec_of::<B>(dims::<B, 3>(x), a, c);
    fits(spec.check_grad_y(batch, dims::<B, 3>(grad_y)));
    if let Some((y, _)) = relu {
        fits(spec.check_grad_y(batch, dims::<B, 3>(y)));
    }
    let plan = Plan::grads(&spec, batch, B::target(x), forced_strategy());
    let operands = match B::all_grads(&plan, operands, wants_x) {
        Ok(grads) => return grads,
        Err(operands) => operands,
    };
    let Operands { x, a, c, relu, grad_y } = operands;
    let grad_y = match relu {
        Some((y, scale)) => B::relu_grad(y, grad_y, scale),
        None => grad_y,
    };
    let grad_x = wants_x.then(|| B::mps_grad_x(a.clone(), c.clone(), grad_y.clone()));
    let (a, c, bias) = B::mps_grads(x, a, c, grad_y);
    AllGrads { x: grad_x, a, c, bias }
}

/// All four, of a pass in which `grad_x` was wanted.
fn four<B: LayerOps>(
    operands: Operands<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let AllGrads { x, a, c, bias } = backward::<B>(operands, true);
    #[expect(clippy::expect_used, reason = "it was wanted")]
    (x.expect("a gradient by the input"), a, c, bias)
}

impl<B: LayerOps> FusedOps for B {
    fn mps_activated(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        bias: FloatTensor<B>,
        activation: Activation,
    ) -> FloatTensor<B> {
        forward::<B>(x, a, c, Some(bias), activation)
    }

    fn mps_all_grads(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        grad_y: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        four::<B>(Operands { x, a, c, relu: None, grad_y })
    }

    fn mps_relu_grads(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        scale: f32,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let operands = Operands { x, a, c, relu: Some((y, scale)), grad_y };
        let AllGrads { a, c, bias, .. } = backward::<B>(operands, false);
        (a, c, bias)
    }

    fn mps_relu_all_grads(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        scale: f32,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        four::<B>(Operands { x, a, c, relu: Some((y, scale)), grad_y })
    }
}

impl<B: LayerOps> MpsOps for B {
    fn mps_linear(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        bias: FloatTensor<B>,
    ) -> FloatTensor<B> {
        forward::<B>(x, a, c, Some(bias), Activation::NONE)
    }

    fn mps_contract(x: FloatTensor<B>, a: FloatTensor<B>, c: FloatTensor<B>) -> FloatTensor<B> {
        forward::<B>(x, a, c, None, Activation::NONE)
    }

    fn mps_grads(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        grad_y: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let (spec, batch) = spec_of::<B>(dims::<B, 3>(&x), &a, &c);
        fits(spec.check_grad_y(batch, dims::<B, 3>(&grad_y)));
        let plan = Plan::grads(&spec, batch, B::target(&x), forced_strategy());
        let layer = &plan.layer;
        let x = B::resize(x, [batch, layer.j, layer.l]);
        let (a, c) = (B::resize(a, layer.a_shape()), B::resize(c, layer.c_shape()));
        let grad_y = B::resize(grad_y, [batch, layer.m, layer.n]);
        let (grad_a, grad_c, grad_bias) = match plan.strategy {
            Strategy::Rebuilt => rebuilt::grads::<B>(x, a, c, grad_y, layer, batch),
            Strategy::Plain | Strategy::Tiled => B::grads(&plan, x, [a, c], grad_y),
        };
        (
            B::resize(grad_a, spec.a_shape()),
            B::resize(grad_c, spec.c_shape()),
            B::resize(grad_bias, spec.bias_shape()),
        )
    }

    fn mps_grad_bias(grad_y: FloatTensor<B>) -> FloatTensor<B> {
        let [batch, m, n] = dims::<B, 3>(&grad_y);
        let grad_y = B::float_reshape(grad_y, Shape::new([batch, m * n]));
        B::float_reshape(B::column_sums(grad_y), Shape::new([m, n]))
    }

    fn mps_grad_x(a: FloatTensor<B>, c: FloatTensor<B>, grad_y: FloatTensor<B>) -> FloatTensor<B> {
        let ([batch, ..], [_, _, j]) = (dims::<B, 3>(&grad_y), dims::<B, 3>(&a));
        let [l, _, _] = dims::<B, 3>(&c);
        let (spec, batch) = spec_of::<B>([batch, j, l], &a, &c);
        fits(spec.check_grad_y(batch, dims::<B, 3>(&grad_y)));
        let plan = Plan::grad_x(&spec, batch, B::target(&grad_y), forced_strategy());
        let layer = &plan.layer;
        let (a, c) = (B::resize(a, layer.a_shape()), B::resize(c, layer.c_shape()));
        let grad_y = B::resize(grad_y, [batch, layer.m, layer.n]);
        let grad_x = match plan.strategy {
            Strategy::Rebuilt => rebuilt::grad_x::<B>(a, c, grad_y, layer, batch),
            Strategy::Plain | Strategy::Tiled => B::contract(
                &plan,
                grad_y,
                [a, c],
                None,
                Activation::NONE,
                [batch, layer.j, layer.l],
            ),
        };
        B::resize(grad_x, [batch, j, l])
    }
}
