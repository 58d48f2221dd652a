//! The layer as a training step uses it: with the activation after it, and with all its gradients at once. Where a backend
//! has kernels for that, nothing between the layer and its activation reaches memory; elsewhere the parts follow each
//! other.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};

use super::training::{self, Activation};
use super::{check_countable, check_dtype, check_shape, grad_specs, mps_linear, output_shape};
use crate::mps::MpsSpec;
use crate::{Error, Result};

/// The layer and what follows it, on a backend without autodiff. Shapes are those of [`super::MpsOps`]; `y` is the output of
/// [`Self::mps_activated`], and `scale` by what an element was multiplied that was kept.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait FusedOps: Backend {
    /// The layer, then the activation.
    #[fusion(dtype = x, shape = output_shape(x, a, c))]
    fn mps_activated(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// `grad_x`, `grad_a`, `grad_c` and `grad_bias`.
    #[fusion(meta = |x, a, c, grad_y| all(x, grad_specs(x, a, c, grad_y)))]
    fn mps_all_grads(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `grad_a`, `grad_c` and `grad_bias` of the layer and a ReLU after it.
    #[fusion(meta = |x, a, c, _y, grad_y, _scale| grad_specs(x, a, c, grad_y))]
    fn mps_relu_grads(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same and `grad_x`, which comes first.
    #[fusion(meta = |x, a, c, _y, grad_y, _scale| all(x, grad_specs(x, a, c, grad_y)))]
    fn mps_relu_all_grads(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn all(
    x: &TensorSpec,
    (a, c, bias): (TensorSpec, TensorSpec, TensorSpec),
) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
    (x.clone(), a, c, bias)
}

/// The gradients of the layer.
#[derive(Debug, Clone)]
pub struct MpsGrads {
    /// By the input, `[batch, J, L]`, where it was wanted.
    pub x: Option<Tensor<3>>,
    /// By core `A`, `[M, K, J]`.
    pub a: Tensor<3>,
    /// By core `C`, `[L, K, N]`.
    pub c: Tensor<3>,
    /// By the bias, `[M, N]`.
    pub bias: Tensor<2>,
}

/// [`mps_linear`] and an activation, on a device without autodiff.
///
/// # Errors
///
/// As [`mps_linear`].
pub fn mps_layer(
    x: Tensor<3>,
    a: Tensor<3>,
    c: Tensor<3>,
    bias: Option<Tensor<2>>,
    activation: Activation,
) -> Result<Tensor<3>> {
    let (Some(bias), true) = (&bias, activation != Activation::NONE) else {
        let y = mps_linear(x, a, c, bias)?;
        let [batch, m, n] = y.dims();
        let y = training::activate(y.reshape([batch, m * n]), activation)?;
        return Ok(y.reshape([batch, m, n]));
    };
    let (spec, _) = check(&x, &a, &c)?;
    spec.check_bias(bias.dims())?;
    check_dtype("bias", DType::F32, bias.dtype())?;
    let bias = bias.clone().into_dispatch();
    let [x, a, c] = [x, a, c].map(Tensor::into_dispatch);
    Ok(Tensor::from_dispatch(Dispatch::mps_activated(x, a, c, bias, activation)))
}

/// The gradients of [`mps_layer`] from the gradient by its output and, where [`Activation::needs_output`] says so, that
/// output `y`, both `[batch, M, N]`.
///
/// # Errors
///
/// As [`mps_linear`]; [`Error::Argument`] naming `y` when it is needed and missing.
pub fn mps_layer_grads(
    x: Tensor<3>,
    [a, c]: [Tensor<3>; 2],
    y: Option<Tensor<3>>,
    grad_y: Tensor<3>,
    activation: Activation,
    wants_grad_x: bool,
) -> Result<MpsGrads> {
    let (spec, batch) = check(&x, &a, &c)?;
    check_dtype("grad_y", DType::F32, grad_y.dtype())?;
    spec.check_grad_y(batch, grad_y.dims())?;
    if !activation.needs_output() {
        let MpsSpec { m, n, .. } = spec;
        let grad_y = training::activate_grad(None, grad_y.reshape([batch, m * n]), activation)?;
        let grad_y = grad_y.reshape::<3, _>([batch, m, n]).into_dispatch();
        let [x, a, c] = [x, a, c].map(Tensor::into_dispatch);
        return Ok(match wants_grad_x {
            true => MpsGrads::with_x(Dispatch::mps_all_grads(x, a, c, grad_y)),
            false => MpsGrads::without_x(<Dispatch as super::MpsOps>::mps_grads(x, a, c, grad_y)),
        });
    }
    let y = y.ok_or_else(|| Error::argument("y", "none: the gradient of ReLU needs its output"))?;
    check_dtype("y", DType::F32, y.dtype())?;
    check_shape("y", y.dims(), grad_y.dims())?;
    let scale = activation.scale();
    let [x, a, c, y, grad_y] = [x, a, c, y, grad_y].map(Tensor::into_dispatch);
    Ok(match wants_grad_x {
        true => MpsGrads::with_x(Dispatch::mps_relu_all_grads(x, a, c, y, grad_y, scale)),
        false => MpsGrads::without_x(Dispatch::mps_relu_grads(x, a, c, y, grad_y, scale)),
    })
}

type Tensors = FloatTensor<Dispatch>;

impl MpsGrads {
    fn with_x((x, a, c, bias): (Tensors, Tensors, Tensors, Tensors)) -> Self {
        Self { x: Some(Tensor::from_dispatch(x)), ..Self::without_x((a, c, bias)) }
    }

    fn without_x((a, c, bias): (Tensors, Tensors, Tensors)) -> Self {
        let [a, c] = [a, c].map(Tensor::from_dispatch);
        Self { x: None, a, c, bias: Tensor::from_dispatch(bias) }
    }
}

/// Checks `x` and the cores; the layer and the batch.
fn check(x: &Tensor<3>, a: &Tensor<3>, c: &Tensor<3>) -> Result<(MpsSpec, usize)> {
    let (spec, batch) = MpsSpec::from_shapes(x.dims(), a.dims(), c.dims())?;
    for (operand, tensor) in [("x", x), ("a", a), ("c", c)] {
        check_dtype(operand, DType::F32, tensor.dtype())?;
    }
    check_countable(&spec, batch)?;
    Ok((spec, batch))
}
