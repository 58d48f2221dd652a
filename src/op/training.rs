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

use super::activation::Activation;
use super::state::{Betas, Layout};
use super::words::StepWords;
use super::{check_dtype, check_shape};
use crate::{Error, Result};

/// Pixels in one word of a resident image.
pub const PIXELS_A_WORD: usize = 4;

/// A training step of a dense layer, besides its tensors. The weight lies at the beginning of the state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AffineUpdate {
    /// By what the ReLU after the layer multiplied what it kept, where there is one that the gradient has not passed.
    pub relu: Option<f32>,
    /// Where the bias begins, if there is one.
    pub bias: Option<usize>,
    /// Of Adam.
    pub betas: Betas,
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

    /// `shape.product` numbers of a tensor from `begin` on, which are not copied: a weight in a layer's state.
    #[fusion(dtype = state, shape = shape.clone())]
    fn part(state: FloatTensor<Self>, begin: usize, shape: Shape) -> FloatTensor<Self>;

    /// `count` whole numbers of a tensor from `begin` on, which are not copied.
    #[fusion(dtype = numbers, shape = Shape::new([*count]))]
    fn part_of_integers(numbers: IntTensor<Self>, begin: usize, count: usize) -> IntTensor<Self>;

    /// `Y = X W + B`, then the activation: `x[b,i]`, `weight[i,o]`, `bias[o]`.
    #[fusion(dtype = x, shape = Shape::new([x[0], weight[1]]))]
    fn affine(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        words: IntTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// `grad_x = D Wᵀ`, where `D` is `grad_y` after the gradient of a ReLU with the output `y`, if there is one.
    #[fusion(dtype = grad_y, shape = Shape::new([grad_y[0], weight[0]]))]
    fn affine_grad_x(
        weight: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        relu: Option<f32>,
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
    fn activate(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// The gradient of an activation with ReLU, from its output: what is above 0 there was kept, and multiplied by
    /// `scale`.
    #[fusion(dtype = grad_y, shape = grad_y)]
    fn relu_grad(y: FloatTensor<Self>, grad_y: FloatTensor<Self>, scale: f32) -> FloatTensor<Self>;

    /// The gradient `[b, classes]` of the batch's mean loss by the logits, and for each [`ROWS`] rows `[sum of losses,
    /// images right]`; `labels[count]` are looked up by `order[b]`.
    #[fusion(meta = |logits, _labels, _order, _smoothing| (logits.clone(), sums_of_rows(logits)))]
    fn softmax_cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        order: IntTensor<Self>,
        smoothing: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// A step of Adam from partial sums `grads[rows, stride]`, laid out like the values of the state; in place where its
    /// buffer is not shared.
    #[fusion(dtype = state, shape = state)]
    fn adam(
        state: FloatTensor<Self>,
        grads: FloatTensor<Self>,
        words: IntTensor<Self>,
        betas: Betas,
    ) -> FloatTensor<Self>;

    /// The step of the mean `[stride]` of a state's values; in place where its buffer is not shared.
    #[fusion(dtype = mean, shape = mean)]
    fn average(
        mean: FloatTensor<Self>,
        state: FloatTensor<Self>,
        words: IntTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The step of Adam of a dense layer, from its input `x[b,i]` and the gradient `grad_y[b,o]` by its output `y`.
    #[fusion(dtype = state, shape = state)]
    fn affine_update(
        state: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        words: IntTensor<Self>,
        update: AffineUpdate,
    ) -> FloatTensor<Self>;
}

/// Rows of logits whose losses are summed together.
pub const ROWS: usize = 64;

fn product_shape(
    left: &Shape,
    right: &Shape,
    [transpose_left, transpose_right]: &[bool; 2],
) -> Shape {
    Shape::new([left[usize::from(*transpose_left)], right[usize::from(!transpose_right)]])
}

fn sums_of_rows(logits: &TensorSpec) -> TensorSpec {
    TensorSpec { shape: Shape::new([logits.shape[0].div_ceil(ROWS), 2]), ..logits.clone() }
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

/// `Y = X W + B`, then an activation: `x[b,i]`, `weight[i,o]`, `bias[o]`, or no bias.
///
/// # Errors
///
/// As [`gather_images`].
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
    words: &StepWords,
) -> Result<Tensor<2>> {
    let ([_, inputs], [_, outputs]) = (x.dims(), weight.dims());
    check_floats([("x", x.dtype()), ("weight", weight.dtype())])?;
    check_matrix("x", &x)?;
    check_shape("weight", weight.dims(), [inputs, outputs.max(1)])?;
    let Some(bias) = bias else {
        let [x, weight] = [x, weight].map(Tensor::into_dispatch);
        let y = Tensor::from_dispatch(Dispatch::matmul(x, weight, [false, false]));
        return activate(y, activation, words);
    };
    check_floats([("bias", bias.dtype())])?;
    check_shape("bias", bias.dims(), [outputs])?;
    check_words(words, activation)?;
    let [x, weight] = [x, weight].map(Tensor::into_dispatch);
    let words = words.0.clone().into_dispatch();
    Ok(Tensor::from_dispatch(Dispatch::affine(x, weight, bias.into_dispatch(), words, activation)))
}

/// A ReLU that a gradient has yet to pass: its output, and by what it multiplied what it kept.
pub type ReluBefore = (Tensor<2>, f32);

/// `grad_x = grad_y Wᵀ` of [`linear`], from the gradient by its output or, with `relu`, by the output of the ReLU after
/// it.
///
/// # Errors
///
/// As [`gather_images`].
pub fn linear_grad_x(
    weight: Tensor<2>,
    relu: Option<ReluBefore>,
    grad_y: Tensor<2>,
) -> Result<Tensor<2>> {
    check_floats([("weight", weight.dtype()), ("grad_y", grad_y.dtype())])?;
    check_matrix("weight", &weight)?;
    check_shape("grad_y", grad_y.dims(), [grad_y.dims()[0].max(1), weight.dims()[1]])?;
    let (y, relu) = relu_before(relu, &grad_y)?;
    let [weight, y, grad_y] = [weight, y, grad_y].map(Tensor::into_dispatch);
    Ok(Tensor::from_dispatch(Dispatch::affine_grad_x(weight, y, grad_y, relu)))
}

/// The output of a ReLU before `grad_y`, or any tensor like it, and its scale.
pub(super) fn relu_before(
    relu: Option<ReluBefore>,
    grad_y: &Tensor<2>,
) -> Result<(Tensor<2>, Option<f32>)> {
    let Some((y, scale)) = relu else { return Ok((grad_y.clone(), None)) };
    check_floats([("y", y.dtype())])?;
    check_shape("y", y.dims(), grad_y.dims())?;
    Ok((y, Some(scale)))
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
pub fn activate(x: Tensor<2>, activation: Activation, words: &StepWords) -> Result<Tensor<2>> {
    check_floats([("x", x.dtype())])?;
    check_matrix("x", &x)?;
    check_words(words, activation)?;
    if activation == Activation::NONE {
        return Ok(x);
    }
    let words = words.0.clone().into_dispatch();
    Ok(Tensor::from_dispatch(Dispatch::activate(x.into_dispatch(), words, activation)))
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
    words: &StepWords,
) -> Result<Tensor<2>> {
    let (relu, grad_y) = before_relu(y, grad_y, activation, words)?;
    let Some((y, scale)) = relu else { return Ok(grad_y) };
    check_floats([("y", y.dtype()), ("grad_y", grad_y.dtype())])?;
    check_matrix("y", &y)?;
    check_shape("grad_y", grad_y.dims(), y.dims())?;
    let (y, grad_y) = (y.into_dispatch(), grad_y.into_dispatch());
    Ok(Tensor::from_dispatch(Dispatch::relu_grad(y, grad_y, scale)))
}

/// The gradient by the output of an activation, as far as it needs a pass of its own: a ReLU is left to who reads the
/// gradient.
///
/// # Errors
///
/// As [`activate_grad`].
pub fn before_relu(
    y: Option<Tensor<2>>,
    grad_y: Tensor<2>,
    activation: Activation,
    words: &StepWords,
) -> Result<(Option<ReluBefore>, Tensor<2>)> {
    if !activation.needs_output() {
        // Its own gradient: what was dropped gets none, the rest is scaled.
        return Ok((None, activate(grad_y, activation, words)?));
    }
    let y = y.ok_or_else(|| Error::argument("y", "none: the gradient of ReLU needs its output"))?;
    Ok((Some((y, activation.scale())), grad_y))
}

/// The gradient `[b, classes]` of the batch's mean loss by `logits[b, classes]`, and for each [`ROWS`] of its rows `[sum
/// of losses, images classified right]`; `labels[count]` are looked up by `order[b]`. Of an index or a label past the last
/// the same holds as of [`gather_images`]' indices.
///
/// The loss is the cross entropy with a target that has `1 - smoothing` for the label, and `smoothing / classes` more for
/// every class (C. Szegedy et al. 2016, section 7).
///
/// # Errors
///
/// As [`gather_images`].
pub fn softmax_cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    order: Tensor<1, Int>,
    smoothing: f32,
) -> Result<(Tensor<2>, Tensor<2>)> {
    check_floats([("logits", logits.dtype())])?;
    check_ints([("labels", labels.dtype()), ("order", order.dtype())])?;
    check_matrix("logits", &logits)?;
    check_shape("labels", labels.dims(), labels.dims().map(|count| count.max(1)))?;
    check_shape("order", order.dims(), [logits.dims()[0]])?;
    let [labels, order] = [labels.into_dispatch(), order.into_dispatch()];
    let logits = logits.into_dispatch();
    let (grad, sums) = Dispatch::softmax_cross_entropy(logits, labels, order, smoothing);
    Ok((Tensor::from_dispatch(grad), Tensor::from_dispatch(sums)))
}

/// A step of Adam over a layer's state (see [`Layout`]) from partial sums `grads[rows, stride]` of the gradients, laid out
/// like the values; in place where the state's buffer is not shared.
///
/// # Errors
///
/// As [`gather_images`].
pub fn adam(
    state: Tensor<1>,
    grads: Tensor<2>,
    words: &StepWords,
    betas: Betas,
) -> Result<Tensor<1>> {
    check_floats([("state", state.dtype()), ("grads", grads.dtype())])?;
    check_matrix("grads", &grads)?;
    check_shape("state", state.dims(), [3 * grads.dims()[1]])?;
    let [state, words] = [state.into_dispatch(), words.0.clone().into_dispatch()];
    Ok(Tensor::from_dispatch(Dispatch::adam(state, grads.into_dispatch(), words, betas)))
}

/// The step of the mean of a layer's weights (see [`super::state::AdamStep::averaging`]), laid out like the values of the
/// state; in place where its buffer is not shared.
///
/// # Errors
///
/// As [`gather_images`].
pub fn average(mean: Tensor<1>, state: &Tensor<1>, words: &StepWords) -> Result<Tensor<1>> {
    check_floats([("mean", mean.dtype()), ("state", state.dtype())])?;
    check_shape("state", state.dims(), mean.dims().map(|stride| 3 * stride.max(1)))?;
    let [mean, state] = [mean, state.clone()].map(Tensor::into_dispatch);
    Ok(Tensor::from_dispatch(Dispatch::average(mean, state, words.0.clone().into_dispatch())))
}

/// Adam's step of the state of [`linear`] from its input and the gradient by its output, or, with `relu`, by the output
/// of the ReLU after it. The layout has the weight and, if there is one, the bias.
///
/// # Errors
///
/// As [`gather_images`].
pub fn linear_update(
    state: Tensor<1>,
    layout: &Layout,
    x: Tensor<2>,
    relu: Option<ReluBefore>,
    grad_y: Tensor<2>,
    words: &StepWords,
    betas: Betas,
) -> Result<Tensor<1>> {
    check_samples(&x, &grad_y)?;
    check_floats([("state", state.dtype())])?;
    let ([_, inputs], [_, outputs]) = (x.dims(), grad_y.dims());
    let counts = [inputs * outputs, outputs];
    let expected = Layout::new(counts.into_iter().take(layout.weights.len()));
    check_shape("state", state.dims(), [3 * expected.stride])?;
    let (y, relu) = relu_before(relu, &grad_y)?;
    let bias = layout.weights.get(1).map(|[begin, _]| *begin);
    let update = AffineUpdate { relu, bias, betas };
    let words = words.0.clone().into_dispatch();
    let [x, y, grad_y] = [x, y, grad_y].map(Tensor::into_dispatch);
    let state = Dispatch::affine_update(state.into_dispatch(), x, y, grad_y, words, update);
    Ok(Tensor::from_dispatch(state))
}

/// A weight in the state of its layer, or in the mean of its values, which is not copied.
///
/// # Errors
///
/// As [`gather_images`].
pub fn weight<const D: usize>(
    state: &Tensor<1>,
    layout: &Layout,
    weight: usize,
    shape: [usize; D],
) -> Result<Tensor<D>> {
    check_floats([("state", state.dtype())])?;
    check_shape("state", state.dims(), state.dims().map(|count| count.max(layout.stride)))?;
    let [begin, count] = layout.weights[weight];
    check_shape("weight", [shape.iter().product()], [count])?;
    let part = Dispatch::part(state.clone().into_dispatch(), begin, Shape::new(shape));
    Ok(Tensor::from_dispatch(part))
}

/// All weights in the state of their layer, or in the mean of their values, as the layout has them; they are not copied.
///
/// # Errors
///
/// As [`gather_images`].
pub fn values(state: &Tensor<1>, layout: &Layout) -> Result<Tensor<1>> {
    check_floats([("state", state.dtype())])?;
    check_shape("state", state.dims(), state.dims().map(|count| count.max(layout.stride)))?;
    let part = Dispatch::part(state.clone().into_dispatch(), 0, Shape::new([layout.stride]));
    Ok(Tensor::from_dispatch(part))
}

/// `count` whole numbers of a tensor from `begin` on, which are not copied.
pub(crate) fn integers_of(
    numbers: &Tensor<1, Int>,
    begin: usize,
    count: usize,
) -> Result<Tensor<1, Int>> {
    let [found] = numbers.dims();
    check_ints([("numbers", numbers.dtype())])?;
    check_shape("numbers", [found], [found.max(begin.saturating_add(count.max(1)))])?;
    let part = Dispatch::part_of_integers(numbers.clone().into_dispatch(), begin, count);
    Ok(Tensor::from_dispatch(part))
}

/// The words must have the seed of what is dropped.
pub(super) fn check_words(words: &StepWords, activation: Activation) -> Result<()> {
    let [found] = words.0.dims();
    let needed = activation.dropout.map_or(0, |dropout| dropout.seed + 2);
    check_ints([("words", words.0.dtype())])?;
    check_shape("words", [found], [found.max(needed)])
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
