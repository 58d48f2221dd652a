//! Convolutions and pooling, on any backend.
//!
//! A convolution is a layer that is applied at every position of its kernel. On adapters one pass gathers the patches, and the
//! layer of two cores, or a matrix, computes them like samples of a larger batch; on the CPU no patch is ever written.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::activation::Activation;
use super::kernels::LayerOps;
use super::layer::{activate, before_relu};
use super::state::{Betas, Layout};
use super::training::{ReluBefore, check_words, relu_before};
use super::words::StepWords;
use super::{check_dtype, check_shape};
use crate::mps::MpsSpec;
use crate::mps::conv::Window;
use crate::{Error, Result};

/// What is applied to every patch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    /// A matrix from channels and taps to this many channels.
    Matrix {
        /// Number of channels of the output.
        outputs: usize,
    },
    /// Two cores.
    TwoCores(MpsSpec),
}

impl Kernel {
    /// Number of channels of the output.
    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Matrix { outputs } => *outputs,
            Self::TwoCores(spec) => spec.outputs(),
        }
    }
}

/// A convolution, and where its weights begin in one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvLayer {
    /// What is convolved.
    pub(super) window: Window,
    /// With what.
    pub(super) kernel: Kernel,
    /// Where the matrix, or each core, begins.
    pub(super) begins: Vec<usize>,
    /// Where the bias begins, if there is one.
    pub(super) bias: Option<usize>,
    /// Numbers in a row of all of them.
    pub(super) stride: usize,
    /// What is taken of the output in the same pass, if anything is.
    pub(super) pool: Option<Pool>,
}

impl ConvLayer {
    /// With the weights that a layout has: matrix or cores, and the bias after them if there is one more.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming `weights` when the layout has others.
    pub fn new(window: Window, kernel: Kernel, layout: &Layout) -> Result<Self> {
        let inputs = window.input[0] * window.taps();
        let mut counts = match kernel {
            Kernel::Matrix { outputs } => vec![inputs * outputs],
            Kernel::TwoCores(spec) => {
                [spec.a_shape(), spec.c_shape()].map(|shape| shape.iter().product()).into()
            }
        };
        let own = counts.len();
        let found: Vec<usize> = layout.weights.iter().map(|[_, count]| *count).collect();
        if found.len() > own {
            counts.push(kernel.outputs());
        }
        if found != counts {
            let [expected, found] = [&counts, &found].map(|counts| format!("{counts:?} numbers"));
            return Err(Error::Shape { operand: "weights", expected, found });
        }
        let begins: Vec<usize> = layout.weights.iter().map(|[begin, _]| *begin).collect();
        let (begins, bias) = begins.split_at(own);
        let (begins, bias) = (begins.to_vec(), bias.first().copied());
        Ok(Self { window, kernel, begins, bias, stride: layout.stride, pool: None })
    }

    /// With pooling over its output.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming `pool` when that is over another image.
    pub fn followed_by(self, pool: Pool) -> Result<Self> {
        let [rows, columns] = self.window.output();
        check_shape("pool", pool.window.input, [self.kernel.outputs(), rows, columns])?;
        Ok(Self { pool: Some(pool), ..self })
    }

    fn inputs(&self) -> usize {
        self.window.input.iter().product()
    }

    pub(super) fn positions(&self) -> usize {
        self.window.output().iter().product()
    }

    /// Numbers of a sample before the pooling.
    pub(super) fn convolved(&self) -> usize {
        self.kernel.outputs() * self.positions()
    }

    /// And after it.
    pub(super) fn outputs(&self) -> usize {
        self.pool.map_or_else(|| self.convolved(), |pool| pool.outputs())
    }
}

/// A training step of a convolution, besides its tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConvUpdate {
    /// The layer.
    pub layer: ConvLayer,
    /// By what the ReLU after the layer multiplied what it kept, where there is one that the gradient has not passed.
    pub relu: Option<f32>,
    /// Of Adam.
    pub betas: Betas,
}

/// What is taken of the numbers of a channel under a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Where the kernel lies. There is no padding.
    pub window: Window,
    /// Whether it is their mean, not the largest of them.
    pub mean: bool,
}

impl Pool {
    fn inputs(&self) -> usize {
        self.window.input.iter().product()
    }

    pub(super) fn outputs(&self) -> usize {
        self.window.input[0] * self.window.output().iter().product::<usize>()
    }
}

/// The kernels of a backend for convolutions.
pub(crate) trait ConvKernels: LayerOps {
    /// The convolution of images `x[b, channels·height·width]` and the pooling, without the activation after it.
    fn convolve(
        layer: &ConvLayer,
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradients by all weights, `[1, stride]`, and by the input where it is wanted.
    fn convolve_grads(
        layer: &ConvLayer,
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        wants_x: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);
}

/// The operations on a backend. Nothing is checked here: the functions below do it.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait ConvOps: Backend {
    /// The convolution, then the activation, `[b, channels'·positions]`.
    #[fusion(dtype = x, shape = Shape::new([x[0], layer.outputs()]))]
    fn conv_activated(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        words: IntTensor<Self>,
        layer: ConvLayer,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// The state after a step of Adam.
    #[fusion(dtype = state, shape = state)]
    fn conv_update(
        state: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        words: IntTensor<Self>,
        update: ConvUpdate,
    ) -> FloatTensor<Self>;

    /// The same after `grad_x`, which comes first.
    #[fusion(meta = |state, x, _y, _grad_y, _words, _update| -> (TensorSpec, TensorSpec) { (x.clone(), state.clone()) })]
    fn conv_update_x(
        state: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        words: IntTensor<Self>,
        update: ConvUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Pooling on a backend. Nothing is checked here.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait PoolOps: Backend {
    /// The largest numbers, or the means, `[b, channels·positions]`.
    #[fusion(dtype = x, shape = Shape::new([x[0], pool.outputs()]))]
    fn pool(x: FloatTensor<Self>, pool: Pool) -> FloatTensor<Self>;

    /// The gradient by the input.
    #[fusion(dtype = x, shape = x)]
    fn pool_grad(x: FloatTensor<Self>, grad_y: FloatTensor<Self>, pool: Pool) -> FloatTensor<Self>;
}

/// A step of Adam of a convolution's state, and the gradient by its input where it is wanted.
fn update<B: ConvKernels>(
    state: FloatTensor<B>,
    x: FloatTensor<B>,
    [y, grad_y]: [FloatTensor<B>; 2],
    words: IntTensor<B>,
    update: ConvUpdate,
    wants_x: bool,
) -> (Option<FloatTensor<B>>, FloatTensor<B>) {
    let ConvUpdate { layer, relu, betas } = update;
    let weights = B::part(state.clone(), 0, Shape::new([layer.stride]));
    let grad_y = before_relu::<B>(y, grad_y, relu);
    let (grads, grad_x) = B::convolve_grads(&layer, x, weights, grad_y, wants_x);
    (grad_x, B::adam(state, grads, words, betas))
}

impl<B: ConvKernels> ConvOps for B {
    fn conv_activated(
        x: FloatTensor<B>,
        weights: FloatTensor<B>,
        words: IntTensor<B>,
        layer: ConvLayer,
        activation: Activation,
    ) -> FloatTensor<B> {
        let active = (activation != Activation::NONE).then_some((words, activation));
        activate::<B>(B::convolve(&layer, x, weights), active)
    }

    fn conv_update(
        state: FloatTensor<B>,
        x: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        words: IntTensor<B>,
        update: ConvUpdate,
    ) -> FloatTensor<B> {
        self::update::<B>(state, x, [y, grad_y], words, update, false).1
    }

    #[expect(clippy::expect_used, reason = "`update` gives one where its last argument is true")]
    fn conv_update_x(
        state: FloatTensor<B>,
        x: FloatTensor<B>,
        y: FloatTensor<B>,
        grad_y: FloatTensor<B>,
        words: IntTensor<B>,
        update: ConvUpdate,
    ) -> (FloatTensor<B>, FloatTensor<B>) {
        let (grad_x, state) = self::update::<B>(state, x, [y, grad_y], words, update, true);
        (grad_x.expect("a gradient by the input"), state)
    }
}

/// A convolution and an activation, from all its weights as a [`Layout`] has them.
///
/// # Shapes
///
/// - `x`: `[batch, channels·height·width]`
/// - output: `[batch, channels'·height'·width']`
///
/// # Errors
///
/// [`Error::Shape`] or [`Error::ElementType`] naming the operand that does not fit, before anything is launched.
pub fn conv_layer(
    x: Tensor<2>,
    weights: Tensor<1>,
    layer: &ConvLayer,
    activation: Activation,
    words: &StepWords,
) -> Result<Tensor<2>> {
    check_operands(layer, &x)?;
    check_dtype("weights", DType::F32, weights.dtype())?;
    check_shape("weights", weights.dims(), [layer.stride])?;
    check_words(words, activation)?;
    let [x, weights] = [x.into_dispatch(), weights.into_dispatch()];
    let (words, layer) = (words.0.clone().into_dispatch(), layer.clone());
    Ok(Tensor::from_dispatch(Dispatch::conv_activated(x, weights, words, layer, activation)))
}

/// Adam's step of a convolution's state, and the gradient by its input if it is wanted, from its input and the gradient by its
/// output or, with `relu`, by the output of the ReLU after it.
///
/// # Errors
///
/// As [`conv_layer`].
#[expect(clippy::too_many_arguments, reason = "the operands of a step")]
pub fn conv_update(
    state: Tensor<1>,
    layer: &ConvLayer,
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
    check_shape("grad_y", grad_y.dims(), [x.dims()[0], layer.outputs()])?;
    let (y, relu) = relu_before(relu, &grad_y)?;
    let update = ConvUpdate { layer: layer.clone(), relu, betas };
    let (state, words) = (state.into_dispatch(), words.0.clone().into_dispatch());
    let [x, y, grad_y] = [x, y, grad_y].map(Tensor::into_dispatch);
    if !wants_grad_x {
        let state = Dispatch::conv_update(state, x, y, grad_y, words, update);
        return Ok((None, Tensor::from_dispatch(state)));
    }
    let (grad_x, state) = Dispatch::conv_update_x(state, x, y, grad_y, words, update);
    Ok((Some(Tensor::from_dispatch(grad_x)), Tensor::from_dispatch(state)))
}

/// The largest numbers, or the means, of `x[batch, channels·height·width]` under a kernel.
///
/// # Errors
///
/// As [`conv_layer`].
pub fn pooled(x: Tensor<2>, pool: Pool) -> Result<Tensor<2>> {
    check_dtype("x", DType::F32, x.dtype())?;
    check_shape("x", x.dims(), [x.dims()[0].max(1), pool.inputs()])?;
    Ok(Tensor::from_dispatch(Dispatch::pool(x.into_dispatch(), pool)))
}

/// The gradient of [`pooled`] by its input.
///
/// # Errors
///
/// As [`conv_layer`].
pub fn pooled_grad(x: Tensor<2>, grad_y: Tensor<2>, pool: Pool) -> Result<Tensor<2>> {
    for (operand, dtype) in [("x", x.dtype()), ("grad_y", grad_y.dtype())] {
        check_dtype(operand, DType::F32, dtype)?;
    }
    check_shape("x", x.dims(), [x.dims()[0].max(1), pool.inputs()])?;
    check_shape("grad_y", grad_y.dims(), [x.dims()[0], pool.outputs()])?;
    let [x, grad_y] = [x, grad_y].map(Tensor::into_dispatch);
    Ok(Tensor::from_dispatch(Dispatch::pool_grad(x, grad_y, pool)))
}

/// `x[batch, channels·height·width]`, of as many numbers as kernels count, as is the output, and the patches of a sample.
fn check_operands(layer: &ConvLayer, x: &Tensor<2>) -> Result<()> {
    const MOST: usize = 1 << 31;
    let [batch, _] = x.dims();
    check_dtype("x", DType::F32, x.dtype())?;
    check_shape("x", x.dims(), [batch.max(1), layer.inputs()])?;
    let patches = layer.positions() * layer.window.input[0] * layer.window.taps();
    let of_sample = layer.inputs().max(layer.convolved());
    if patches <= MOST && batch.saturating_mul(of_sample) <= MOST {
        return Ok(());
    }
    let expected = match patches <= MOST {
        true => format!("a batch of at most {} samples", MOST / of_sample),
        false => format!("patches of at most {MOST} numbers, not {patches}"),
    };
    Err(Error::Shape { operand: "x", expected, found: format!("{:?}", x.dims()) })
}
