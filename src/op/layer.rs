//! The layer on any backend: the operands are checked, a plan is made and executed.
//!
//! A backend brings the kernels ([`LayerOps`]); by way of `W` the layer is made of matrix products
//! ([`rebuilt`]).

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};

use super::training::TrainingOps;
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
    /// numbers in the shape given.
    fn contract(
        plan: &Plan<Contraction>,
        x: FloatTensor<Self>,
        cores: [FloatTensor<Self>; 2],
        bias: Option<FloatTensor<Self>>,
        shape: [usize; 3],
    ) -> FloatTensor<Self>;

    /// The gradients by the cores `[a, c]` and the bias.
    fn grads(
        plan: &Plan<Gradients>,
        x: FloatTensor<Self>,
        cores: [FloatTensor<Self>; 2],
        grad_y: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
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
    let y = match plan.strategy {
        Strategy::Rebuilt => rebuilt::forward::<B>(x, a, c, bias, layer, batch),
        Strategy::Plain | Strategy::Tiled => {
            B::contract(&plan, x, [a, c], bias, [batch, layer.m, layer.n])
        }
    };
    B::resize(y, [batch, spec.m, spec.n])
}

impl<B: LayerOps> MpsOps for B {
    fn mps_linear(
        x: FloatTensor<B>,
        a: FloatTensor<B>,
        c: FloatTensor<B>,
        bias: FloatTensor<B>,
    ) -> FloatTensor<B> {
        forward::<B>(x, a, c, Some(bias))
    }

    fn mps_contract(x: FloatTensor<B>, a: FloatTensor<B>, c: FloatTensor<B>) -> FloatTensor<B> {
        forward::<B>(x, a, c, None)
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
            Strategy::Plain | Strategy::Tiled => {
                B::contract(&plan, grad_y, [a, c], None, [batch, layer.j, layer.l])
            }
        };
        B::resize(grad_x, [batch, j, l])
    }
}
