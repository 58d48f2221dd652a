//! The layer as a training step uses it: with the activation after it, and with its gradients and the step of the
//! optimizer in one operation. Where a backend has kernels for that, nothing between the parts reaches memory; elsewhere
//! they follow each other.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Tensor};

use super::activation::Activation;
use super::state::{Betas, Layout};
use super::training::{self, ReluBefore, check_words, relu_before};
use super::words::StepWords;
use super::{check_countable, check_dtype, check_shape, mps_linear, output_shape};
use crate::Result;
use crate::mps::MpsSpec;

/// A training step of the layer, besides its tensors. Core `A` lies at the beginning of the state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MpsUpdate {
    /// The layer.
    pub spec: MpsSpec,
    /// Where core `C` begins.
    pub c: usize,
    /// Where the bias begins, if there is one.
    pub bias: Option<usize>,
    /// By what the ReLU after the layer multiplied what it kept, where there is one that the gradient has not passed.
    pub relu: Option<f32>,
    /// Of Adam.
    pub betas: Betas,
}

impl MpsUpdate {
    /// Where the bias begins in a row of gradients, also if the layer has none: then at the end.
    pub(super) fn bias_or_end(&self, stride: usize) -> usize {
        self.bias.unwrap_or(stride)
    }
}

/// The layer and what follows it, on a backend without autodiff. Shapes are those of [`super::MpsOps`]; the state is laid
/// out by a [`Layout`], and `y` is the output of [`Self::mps_activated`].
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait FusedOps: Backend {
    /// The layer, then the activation.
    #[fusion(dtype = x, shape = output_shape(x, a, c))]
    fn mps_activated(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        words: IntTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// The state after a step of Adam.
    #[fusion(dtype = state, shape = state)]
    fn mps_update(
        state: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        words: IntTensor<Self>,
        update: MpsUpdate,
    ) -> FloatTensor<Self>;

    /// The same after `grad_x`, which comes first.
    #[fusion(meta = |state, x, _y, _grad_y, _words, _update| -> (TensorSpec, TensorSpec) { (x.clone(), state.clone()) })]
    fn mps_update_x(
        state: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        words: IntTensor<Self>,
        update: MpsUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
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
    words: &StepWords,
) -> Result<Tensor<3>> {
    let (Some(bias), true) = (&bias, activation != Activation::NONE) else {
        let y = mps_linear(x, a, c, bias)?;
        let [batch, m, n] = y.dims();
        let y = training::activate(y.reshape([batch, m * n]), activation, words)?;
        return Ok(y.reshape([batch, m, n]));
    };
    let (spec, batch) = MpsSpec::from_shapes(x.dims(), a.dims(), c.dims())?;
    for (operand, tensor) in [("x", &x), ("a", &a), ("c", &c)] {
        check_dtype(operand, DType::F32, tensor.dtype())?;
    }
    check_countable(&spec, batch)?;
    spec.check_bias(bias.dims())?;
    check_dtype("bias", DType::F32, bias.dtype())?;
    check_words(words, activation)?;
    let (bias, words) = (bias.clone().into_dispatch(), words.0.clone().into_dispatch());
    let [x, a, c] = [x, a, c].map(Tensor::into_dispatch);
    Ok(Tensor::from_dispatch(Dispatch::mps_activated(x, a, c, bias, words, activation)))
}

/// Adam's step of a layer's state, and `grad_x[batch, J·L]` if it is wanted, from its input `x[batch, J·L]` and the
/// gradient `[batch, M·N]` by its output or, with `relu`, by the output of the ReLU after it. The layout has `A`, `C` and,
/// if there is one, the bias.
///
/// # Errors
///
/// As [`mps_linear`].
#[expect(clippy::too_many_arguments, reason = "the operands of a step")]
pub fn mps_update(
    state: Tensor<1>,
    layout: &Layout,
    spec: MpsSpec,
    x: Tensor<2>,
    relu: Option<ReluBefore>,
    grad_y: Tensor<2>,
    words: &StepWords,
    betas: Betas,
    wants_grad_x: bool,
) -> Result<(Option<Tensor<2>>, Tensor<1>)> {
    let ([batch, _], outputs) = (x.dims(), spec.outputs());
    for (operand, dtype) in [("state", state.dtype()), ("x", x.dtype()), ("grad_y", grad_y.dtype())]
    {
        check_dtype(operand, DType::F32, dtype)?;
    }
    check_shape("x", x.dims(), [batch.max(1), spec.inputs()])?;
    check_shape("grad_y", grad_y.dims(), [batch, outputs])?;
    let expected = layout_of(&spec, layout.weights.len() > 2);
    check_shape("state", state.dims(), [3 * expected.stride])?;
    check_countable(&spec, batch)?;
    let (y, relu) = relu_before(relu, &grad_y)?;
    let begin = |weight: &[usize; 2]| weight[0];
    let (c, bias) = (begin(&layout.weights[1]), layout.weights.get(2).map(begin));
    let update = MpsUpdate { spec, c, bias, relu, betas };
    let (state, words) = (state.into_dispatch(), words.0.clone().into_dispatch());
    let [x, y, grad_y] = [x, y, grad_y].map(Tensor::into_dispatch);
    if !wants_grad_x {
        let state = Dispatch::mps_update(state, x, y, grad_y, words, update);
        return Ok((None, Tensor::from_dispatch(state)));
    }
    let (grad_x, state) = Dispatch::mps_update_x(state, x, y, grad_y, words, update);
    Ok((Some(Tensor::from_dispatch(grad_x)), Tensor::from_dispatch(state)))
}

fn layout_of(spec: &MpsSpec, bias: bool) -> Layout {
    let counts = [spec.a_shape().iter().product(), spec.c_shape().iter().product(), spec.outputs()];
    Layout::new(counts.into_iter().take(if bias { 3 } else { 2 }))
}

/// The gradients of the layer.
#[derive(Debug, Clone)]
pub struct MpsGrads {
    /// By the input, `[batch, J·L]`, where it was wanted.
    pub x: Option<Vec<f32>>,
    /// By core `A`, `[M, K, J]`.
    pub a: Vec<f32>,
    /// By core `C`, `[L, K, N]`.
    pub c: Vec<f32>,
    /// By the bias, `[M, N]`.
    pub bias: Vec<f32>,
}

/// The gradients as a training step computes them: what Adam's mean becomes where it forgets the past.
///
/// For tests: a training step does not give them away.
///
/// # Errors
///
/// As [`mps_linear`]; [`crate::Error::Compute`] when the device fails.
pub fn mps_step_grads(
    spec: MpsSpec,
    x: Tensor<2>,
    [a, c]: [&[f32]; 2],
    relu: Option<ReluBefore>,
    grad_y: Tensor<2>,
    wants_grad_x: bool,
) -> Result<MpsGrads> {
    let device: Device = x.device();
    let layout = layout_of(&spec, true);
    let zeros = |numbers: usize| vec![0.0; numbers];
    let [no_a, no_c, no_bias] = [zeros(a.len()), zeros(c.len()), zeros(spec.outputs())];
    let moments = || vec![&no_a[..], &no_c, &no_bias];
    let state = layout.state([vec![a, c, &no_bias], moments(), moments()]);
    let state = Tensor::from_data(&state[..], &device);
    let words = StepWords::none(&device);
    let (grad_x, state) =
        mps_update(state, &layout, spec, x, relu, grad_y, &words, [0.0; 2], wants_grad_x)?;
    let numbers = |error| crate::Error::compute("reading gradients", error);
    let state = state.try_to_vec_as::<f32>().map_err(numbers)?;
    let mean = |weight| layout.of_weight(&state, weight)[1].to_vec();
    let x = match grad_x {
        Some(grad_x) => Some(grad_x.try_to_vec_as::<f32>().map_err(numbers)?),
        None => None,
    };
    Ok(MpsGrads { x, a: mean(0), c: mean(1), bias: mean(2) })
}
