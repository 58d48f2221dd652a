//! What a training step needs apart from the layer: gathering a batch, dense layers, ReLU and
//! dropout, softmax cross entropy and Adam, each one pass over its operands.
//!
//! Burn has all of these as compositions: a dropout draws a mask, compares, casts, multiplies and
//! keeps the mask for its gradient; Adam is a dozen passes over every weight. Here they are one
//! operation each, on the CPU and as WGSL, and tests compare them with Burn's. Their gradients are
//! operations too; nothing is recorded ([`crate::net`] calls them in order).
//!
//! All numbers are f32, indices i32.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor};

use super::{check_dtype, check_shape};
use crate::{Error, Result};

/// Pixels in one word of a resident image.
pub const PIXELS_A_WORD: usize = 4;

/// What is dropped: each element with probability `rate`, as `seed` and its index determine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The share that is set to 0; what is left is scaled by `1 / (1 - rate)`.
    pub rate: f32,
    /// What the choice follows from.
    pub seed: u64,
}

impl Dropout {
    /// An element is kept where its hash is not below this.
    pub(super) fn threshold(&self) -> u32 {
        (f64::from(self.rate) * 4_294_967_296.0) as u32
    }

    pub(super) fn scale(rate: f32) -> f32 {
        1.0 / (1.0 - rate)
    }

    /// The two halves of the seed.
    pub(super) fn words(&self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }
}

/// What is done to each element of a layer's output, in this order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Whether what is not above 0 becomes 0.
    pub relu: bool,
    /// What is dropped, if anything.
    pub dropout: Option<Dropout>,
}

impl Activation {
    /// Nothing.
    pub const NONE: Self = Self { relu: false, dropout: None };

    /// ReLU alone.
    pub const RELU: Self = Self { relu: true, dropout: None };

    /// Dropout alone, without a seed yet.
    pub const fn dropout(rate: f32) -> Self {
        Self { relu: false, dropout: Some(Dropout { rate, seed: 0 }) }
    }

    /// This and then another in one pass, where that can be.
    pub fn then(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self { dropout: Some(_), .. }, _)
            | (Self { relu: true, .. }, Self { relu: true, .. }) => None,
            (Self { relu, .. }, next) => {
                Some(Self { relu: relu || next.relu, dropout: next.dropout })
            }
        }
    }

    /// With a seed for what is dropped.
    pub fn seeded(self, seed: u64) -> Self {
        let dropout = self.dropout.map(|Dropout { rate, .. }| Dropout { rate, seed });
        Self { dropout, ..self }
    }

    /// With nothing dropped.
    pub fn without_dropout(self) -> Self {
        Self { dropout: None, ..self }
    }

    /// Whether the gradient needs the output: where that is above 0, the element was positive and kept. Without ReLU the
    /// hash says what was kept.
    pub fn needs_output(self) -> bool {
        self.relu
    }

    /// By what an element is multiplied that is kept.
    pub(super) fn scale(self) -> f32 {
        self.dropout.map_or(1.0, |dropout| Dropout::scale(dropout.rate))
    }
}

/// One step of Adam (D. P. Kingma, J. Ba 2015, algorithm 1 with the corrections of its section 2
/// folded into the step's size).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Decay of the mean.
    pub beta_1: f32,
    /// Decay of the mean of squares.
    pub beta_2: f32,
    /// `lr √(1-β₂ᵗ) / (1-β₁ᵗ)`.
    pub size: f32,
    /// `ε √(1-β₂ᵗ)`.
    pub epsilon: f32,
}

impl AdamStep {
    /// The `step`-th step, counted from 1.
    pub fn new(lr: f64, [beta_1, beta_2]: [f32; 2], epsilon: f64, step: u64) -> Self {
        // Of the decays as they are in f32: 0.999 is so far from it that 1 - β₂ differs by 5e-5.
        let left = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        let root = left(beta_2).sqrt();
        Self {
            beta_1,
            beta_2,
            size: (lr * root / left(beta_1)) as f32,
            epsilon: (epsilon * root) as f32,
        }
    }
}

/// The operations on a backend. Nothing is checked here: the functions below do it.
#[backend_extension(Cube, Flex, Fusion)]
pub(crate) trait TrainingOps: Backend {
    /// Images `[b, pixels]` in `[0, 1]` of `images[count, words]` by their indices `order[b]`.
    #[fusion(dtype = DType::F32, shape = Shape::new([order[0], *pixels]))]
    fn gather_images(
        images: IntTensor<Self>,
        order: IntTensor<Self>,
        pixels: usize,
    ) -> FloatTensor<Self>;

    /// `Y = X W + B`: `x[b,i]`, `weight[i,o]`, `bias[o]`.
    #[fusion(dtype = x, shape = Shape::new([x[0], weight[1]]))]
    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The product of two matrices, each transposed first where `transposed` says so.
    #[fusion(dtype = left, shape = product_shape(left, right, transposed))]
    fn matmul(
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        transposed: [bool; 2],
    ) -> FloatTensor<Self>;

    /// The sums `[o]` of the columns of `matrix[b,o]`.
    #[fusion(dtype = matrix, shape = Shape::new([matrix[1]]))]
    fn column_sums(matrix: FloatTensor<Self>) -> FloatTensor<Self>;

    /// ReLU where the activation has it, then dropout.
    #[fusion(dtype = x, shape = x)]
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    /// The gradient of an activation with ReLU, from its output: what is above 0 there was kept, and multiplied by
    /// `scale`.
    #[fusion(dtype = grad_y, shape = grad_y)]
    fn relu_grad(y: FloatTensor<Self>, grad_y: FloatTensor<Self>, scale: f32) -> FloatTensor<Self>;

    /// The gradient `[b, classes]` of the batch's mean loss by the logits, and `[sum of losses,
    /// images right]`; `labels[count]` are looked up by `order[b]`.
    #[fusion(meta = |logits, _labels, _order| (logits.clone(), two(logits)))]
    fn softmax_cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        order: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// New `value`, `mean` and `square`, in place where their buffers are not shared.
    #[fusion(meta = |value, mean, square, _grad, _step| (value.clone(), mean.clone(), square.clone()))]
    fn adam(
        value: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// [`Self::adam`] of a weight `[i·o]` whose gradient is `Xᵀ grad_y`: `x[b,i]`, `grad_y[b,o]`.
    #[fusion(meta = |value, mean, square, _x, _grad_y, _step| {
        (value.clone(), mean.clone(), square.clone())
    })]
    fn adam_of_product(
        value: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        x: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn product_shape(
    left: &Shape,
    right: &Shape,
    [transpose_left, transpose_right]: &[bool; 2],
) -> Shape {
    Shape::new([left[usize::from(*transpose_left)], right[usize::from(!transpose_right)]])
}

fn two(like: &TensorSpec) -> TensorSpec {
    TensorSpec { shape: Shape::new([2]), ..like.clone() }
}

/// Images `[b, pixels]` in `[0, 1]` of the resident `images[count, words]`, [`PIXELS_A_WORD`] grey values per
/// word, by their indices `order[b]`. An index past the last image is an error of the caller: a GPU takes the
/// last image, the CPU panics.
///
/// # Errors
///
/// As all functions of this module: [`crate::Error::Shape`] or [`crate::Error::ElementType`] naming the operand
/// that does not fit, before anything is launched.
pub fn gather_images(
    images: Tensor<2, Int>,
    order: Tensor<1, Int>,
    pixels: usize,
) -> Result<Tensor<2>> {
    let [count, _] = images.dims();
    check_shape("images", images.dims(), [count.max(1), pixels.div_ceil(PIXELS_A_WORD)])?;
    check_ints([("images", images.dtype()), ("order", order.dtype())])?;
    check_shape("order", order.dims(), order.dims().map(|batch| batch.max(1)))?;
    let [images, order] = [images.into_dispatch(), order.into_dispatch()];
    Ok(Tensor::from_dispatch(Dispatch::gather_images(images, order, pixels)))
}

/// `Y = X W + B`: `x[b,i]`, `weight[i,o]`, `bias[o]`, or no bias.
///
/// # Errors
///
/// As [`gather_images`].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Result<Tensor<2>> {
    let ([_, inputs], [_, outputs]) = (x.dims(), weight.dims());
    check_floats([("x", x.dtype()), ("weight", weight.dtype())])?;
    check_matrix("x", &x)?;
    check_shape("weight", weight.dims(), [inputs, outputs.max(1)])?;
    let [x, weight] = [x, weight].map(Tensor::into_dispatch);
    let y = match bias {
        None => Dispatch::matmul(x, weight, [false, false]),
        Some(bias) => {
            check_floats([("bias", bias.dtype())])?;
            check_shape("bias", bias.dims(), [outputs])?;
            Dispatch::affine(x, weight, bias.into_dispatch())
        }
    };
    Ok(Tensor::from_dispatch(y))
}

/// `grad_x = grad_y Wᵀ` of [`linear`].
///
/// # Errors
///
/// As [`gather_images`].
pub fn linear_grad_x(weight: Tensor<2>, grad_y: Tensor<2>) -> Result<Tensor<2>> {
    check_floats([("weight", weight.dtype()), ("grad_y", grad_y.dtype())])?;
    check_matrix("weight", &weight)?;
    check_shape("grad_y", grad_y.dims(), [grad_y.dims()[0].max(1), weight.dims()[1]])?;
    let (grad_y, weight) = (grad_y.into_dispatch(), weight.into_dispatch());
    Ok(Tensor::from_dispatch(Dispatch::matmul(grad_y, weight, [false, true])))
}

/// `grad_weight = Xᵀ grad_y` of [`linear`]. `grad_bias` is the [`column_sums`] of `grad_y`.
///
/// # Errors
///
/// As [`gather_images`].
pub fn linear_grad_weight(x: Tensor<2>, grad_y: Tensor<2>) -> Result<Tensor<2>> {
    check_samples(&x, &grad_y)?;
    let (x, grad_y) = (x.into_dispatch(), grad_y.into_dispatch());
    Ok(Tensor::from_dispatch(Dispatch::matmul(x, grad_y, [true, false])))
}

/// The sums `[o]` of the columns of `matrix[b,o]`.
///
/// # Errors
///
/// As [`gather_images`].
pub fn column_sums(matrix: Tensor<2>) -> Result<Tensor<1>> {
    check_floats([("matrix", matrix.dtype())])?;
    check_matrix("matrix", &matrix)?;
    Ok(Tensor::from_dispatch(Dispatch::column_sums(matrix.into_dispatch())))
}

/// An activation of `x[b,o]`.
///
/// # Errors
///
/// As [`gather_images`].
pub fn activate(x: Tensor<2>, activation: Activation) -> Result<Tensor<2>> {
    check_floats([("x", x.dtype())])?;
    check_matrix("x", &x)?;
    if activation == Activation::NONE {
        return Ok(x);
    }
    Ok(Tensor::from_dispatch(Dispatch::activate(x.into_dispatch(), activation)))
}

/// The gradient of [`activate`] from the gradient by its output and, where [`Activation::needs_output`] says so, that
/// output `y[b,o]`.
///
/// # Errors
///
/// As [`gather_images`]; [`Error::Argument`] naming `y` when it is needed and missing.
pub fn activate_grad(
    y: Option<Tensor<2>>,
    grad_y: Tensor<2>,
    activation: Activation,
) -> Result<Tensor<2>> {
    if !activation.needs_output() {
        // Its own gradient: what was dropped gets none, the rest is scaled.
        return activate(grad_y, activation);
    }
    let y = y.ok_or_else(|| Error::argument("y", "none: the gradient of ReLU needs its output"))?;
    check_floats([("y", y.dtype()), ("grad_y", grad_y.dtype())])?;
    check_matrix("y", &y)?;
    check_shape("grad_y", grad_y.dims(), y.dims())?;
    let (y, grad_y) = (y.into_dispatch(), grad_y.into_dispatch());
    Ok(Tensor::from_dispatch(Dispatch::relu_grad(y, grad_y, activation.scale())))
}

/// The gradient `[b, classes]` of the batch's mean loss by `logits[b, classes]`, and `[sum of losses,
/// images classified right]`; `labels[count]` are looked up by `order[b]`. Of an index or a label past the last
/// the same holds as of [`gather_images`]' indices.
///
/// # Errors
///
/// As [`gather_images`].
pub fn softmax_cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    order: Tensor<1, Int>,
) -> Result<(Tensor<2>, Tensor<1>)> {
    check_floats([("logits", logits.dtype())])?;
    check_ints([("labels", labels.dtype()), ("order", order.dtype())])?;
    check_matrix("logits", &logits)?;
    check_shape("labels", labels.dims(), labels.dims().map(|count| count.max(1)))?;
    check_shape("order", order.dims(), [logits.dims()[0]])?;
    let [labels, order] = [labels.into_dispatch(), order.into_dispatch()];
    let (grad, sums) = Dispatch::softmax_cross_entropy(logits.into_dispatch(), labels, order);
    Ok((Tensor::from_dispatch(grad), Tensor::from_dispatch(sums)))
}

/// New `value`, `mean` and `square` of a weight from its gradient, all flat; in place where their
/// buffers are not shared.
///
/// # Errors
///
/// As [`gather_images`].
pub fn adam(state: [Tensor<1>; 3], grad: Tensor<1>, step: AdamStep) -> Result<[Tensor<1>; 3]> {
    check_floats([("grad", grad.dtype())])?;
    let [count] = grad.dims();
    check_state(&state, count.max(1))?;
    let [value, mean, square] = state.map(Tensor::into_dispatch);
    let (value, mean, square) = Dispatch::adam(value, mean, square, grad.into_dispatch(), step);
    Ok([value, mean, square].map(Tensor::from_dispatch))
}

/// Adam's step of the weight of [`linear`], flat and with its moments, from `x` and `grad_y`: the same bits as
/// [`adam`] with [`linear_grad_weight`], which on the CPU is never kept.
///
/// # Errors
///
/// As [`gather_images`].
pub fn linear_adam(
    state: [Tensor<1>; 3],
    x: Tensor<2>,
    grad_y: Tensor<2>,
    step: AdamStep,
) -> Result<[Tensor<1>; 3]> {
    check_samples(&x, &grad_y)?;
    check_state(&state, x.dims()[1] * grad_y.dims()[1])?;
    let [value, mean, square] = state.map(Tensor::into_dispatch);
    let [x, grad_y] = [x, grad_y].map(Tensor::into_dispatch);
    let (value, mean, square) = Dispatch::adam_of_product(value, mean, square, x, grad_y, step);
    Ok([value, mean, square].map(Tensor::from_dispatch))
}

fn check_floats<const N: usize>(operands: [(&'static str, DType); N]) -> Result<()> {
    operands.into_iter().try_for_each(|(operand, dtype)| check_dtype(operand, DType::F32, dtype))
}

fn check_ints<const N: usize>(operands: [(&'static str, DType); N]) -> Result<()> {
    operands.into_iter().try_for_each(|(operand, dtype)| check_dtype(operand, DType::I32, dtype))
}

/// A matrix must have elements.
fn check_matrix(operand: &'static str, matrix: &Tensor<2>) -> Result<()> {
    check_shape(operand, matrix.dims(), matrix.dims().map(|extent| extent.max(1)))
}

/// `x[b,i]` and `grad_y[b,o]`.
fn check_samples(x: &Tensor<2>, grad_y: &Tensor<2>) -> Result<()> {
    check_floats([("x", x.dtype()), ("grad_y", grad_y.dtype())])?;
    check_matrix("x", x)?;
    check_shape("grad_y", grad_y.dims(), [x.dims()[0], grad_y.dims()[1].max(1)])
}

/// A weight of `count` numbers and its moments.
fn check_state(state: &[Tensor<1>; 3], count: usize) -> Result<()> {
    for (operand, tensor) in ["value", "mean", "square"].into_iter().zip(state) {
        check_floats([(operand, tensor.dtype())])?;
        check_shape(operand, tensor.dims(), [count])?;
    }
    Ok(())
}
