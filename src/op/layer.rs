//! The layer on any backend: the operands are checked, a plan is made and executed.
//!
//! A backend brings the kernels ([`LayerOps`]); by way of `W` the layer is made of matrix products
//! ([`rebuilt`]).

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};

use super::activation::Activation;
use super::choice::{Pass, strategy};
use super::fused::{FusedOps, MpsUpdate};
use super::kernels::{LayerOps, Operands, Updated};
use super::training::TrainingOps;
use super::{MpsOps, check_countable, rebuilt};
use crate::mps::MpsSpec;
use crate::mps::plan::Plan;
use crate::mps::strategy::Strategy;

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

/// The layer, and the activation after it.
pub(super) fn forward<B: LayerOps>(
    x: FloatTensor<B>,
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    active: Option<(IntTensor<B>, Activation)>,
) -> FloatTensor<B> {
    let (spec, batch) = spec_of::<B>(dims::<B, 3>(&x), &a, &c);
    if let Some(bias) = &bias {
        fits(spec.check_bias(dims::<B, 2>(bias)));
    }
    let plan = Plan::forward(&spec, batch, B::target(&x), strategy(Pass::Forward, &spec, batch));
    let layer = &plan.layer;
    let x = B::resize(x, [batch, layer.j, layer.l]);
    let (a, c) = (B::resize(a, layer.a_shape()), B::resize(c, layer.c_shape()));
    let bias = bias.map(|bias| B::resize(bias, layer.bias_shape()));
    // What is dropped follows from an element's index, which padding changes.
    let (within, after) = match plan.strategy {
        Strategy::Plain | Strategy::Tiled if *layer == spec => (active, None),
        _ => (None, active),
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
    active: Option<(IntTensor<B>, Activation)>,
) -> FloatTensor<B> {
    match active {
        None => y,
        Some((words, activation)) => B::activate(y, words, activation),
    }
}

/// The gradient by the output of a layer from that by the output `y` of the ReLU after it, if there is one.
pub(super) fn before_relu<B: TrainingOps>(
    y: FloatTensor<B>,
    grad_y: FloatTensor<B>,
    relu: Option<f32>,
) -> FloatTensor<B> {
    match relu {
        Some(scale) => B::relu_grad(y, grad_y, scale),
        None => grad_y,
    }
}

/// A training step: in as few passes as the backend has for it, else one part after the other.
fn update<B: LayerOps>(operands: Operands<B>, wants_x: bool) -> Updated<B> {
    let Operands { state, x, y, grad_y, update, .. } = &operands;
    let spec = update.spec;
    let ([batch, _], [numbers]) = (dims::<B, 2>(x), dims::<B, 1>(state));
    let plan = Plan::grads(&spec, batch, B::target(x), strategy(Pass::Grads, &spec, batch));
    assert!(dims::<B, 2>(grad_y) == dims::<B, 2>(y), "a gradient unlike its output");
    let operands = match B::update(&plan, operands, wants_x) {
        Ok(updated) => return updated,
        Err(operands) => operands,
    };
    let Operands { state, x, y, grad_y, words, update } = operands;
    let grad_y = before_relu::<B>(y, grad_y, update.relu);
    let stride = numbers / 3;
    let shaped = |tensor, shape: [usize; 3]| B::float_reshape(tensor, Shape::new(shape));
    let grad_y = shaped(grad_y, [batch, spec.m, spec.n]);
    let a = B::part(state.clone(), 0, Shape::new(spec.a_shape()));
    let c = B::part(state.clone(), update.c, Shape::new(spec.c_shape()));
    let grad_x = wants_x.then(|| {
        let grad_x = B::mps_grad_x(a.clone(), c.clone(), grad_y.clone());
        B::float_reshape(grad_x, Shape::new([batch, spec.inputs()]))
    });
    let x = shaped(x, [batch, spec.j, spec.l]);
    let (grad_a, grad_c, grad_bias) = B::mps_grads(x, a, c, grad_y);
    let mut grads = vec![(grad_a, 0), (grad_c, update.c)];
    grads.extend(update.bias.map(|begin| (grad_bias, begin)));
    let grads = B::side_by_side(grads, stride);
    Updated { grad_x, state: B::adam(state, grads, words, update.betas) }
}

impl<B: LayerOps> FusedOps for B {
    fn mps_activated(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        bias: FloatTensor<B>,
        words: IntTensor<B>,
        activation: Activation,
    ) -> FloatTensor<B> {
        forward::<B>(x, a, c, Some(bias), Some((words, activation)))
    }

    fn mps_update(
        state: FloatTensor<B>,
        x: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        words: IntTensor<B>,
        update: MpsUpdate,
    ) -> FloatTensor<B> {
        self::update::<B>(Operands { state, x, y, grad_y, words, update }, false).state
    }

    #[expect(clippy::expect_used, reason = "`update` gives one where its last argument is true")]
    fn mps_update_x(
        state: FloatTensor<B>,
        x: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        words: IntTensor<B>,
        update: MpsUpdate,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let operands = Operands { state, x, y, grad_y, words, update };
        let Updated { grad_x, state } = self::update::<B>(operands, true);
        (grad_x.expect("a gradient by the input"), state)
    }
}

impl<B: LayerOps> MpsOps for B {
    fn mps_linear(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        bias: FloatTensor<B>,
    ) -> FloatTensor<B> {
        forward::<B>(x, a, c, Some(bias), None)
    }

    fn mps_contract(x: FloatTensor<B>, a: FloatTensor<B>, c: FloatTensor<B>) -> FloatTensor<B> {
        forward::<B>(x, a, c, None, None)
    }

    fn mps_grads(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        grad_y: FloatTensor<B>,
    ) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        let (spec, batch) = spec_of::<B>(dims::<B, 3>(&x), &a, &c);
        fits(spec.check_grad_y(batch, dims::<B, 3>(&grad_y)));
        let plan = Plan::grads(&spec, batch, B::target(&x), strategy(Pass::Grads, &spec, batch));
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
        let plan =
            Plan::grad_x(&spec, batch, B::target(&grad_y), strategy(Pass::GradX, &spec, batch));
        let layer = &plan.layer;
        let (a, c) = (B::resize(a, layer.a_shape()), B::resize(c, layer.c_shape()));
        let grad_y = B::resize(grad_y, [batch, layer.m, layer.n]);
        let grad_x = match plan.strategy {
            Strategy::Rebuilt => rebuilt::grad_x::<B>(a, c, grad_y, layer, batch),
            Strategy::Plain | Strategy::Tiled => {
                B::contract(&plan, grad_y, [a, c], None, None, [batch, layer.j, layer.l])
            }
        };
        B::resize(grad_x, [batch, j, l])
    }
}
