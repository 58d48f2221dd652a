//! The operations on the CPU, on all cores.
//!
//! Products are those of the `gemm` crate, cut into panels for the threads of [`pool`]. The passes over
//! elements are plain loops that the compiler turns into the widest registers of the processor
//! ([`pulp::Arch`] picks at run time). Sums are taken in an order that does not depend on the number of
//! threads.

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Shape;
use pulp::{Arch, Simd, WithSimd};

use crate::op::activation::Activation;
use crate::op::cpu::activation::{Active, ReluGrad, in_pieces};
use crate::op::cpu::adam::{Adam, Average, Part};
use crate::op::cpu::simd::Transpose;
use crate::op::cpu::{contiguous, filled, pool, tensor, values};
use crate::op::kernels::LayerOps;
use crate::op::layer::before_relu;
use crate::op::state::Betas;
use crate::op::training::{AffineUpdate, PIXELS_A_WORD, ROWS, TrainingOps};
use crate::op::words::adam_step;

/// The extents of a matrix.
fn extents(matrix: &FlexTensor) -> [usize; 2] {
    matrix.layout().shape().dims()
}

pub(super) fn indices(tensor: &FlexTensor) -> &[i32] {
    values(tensor)
}

/// The elements to be written, of a tensor that [`contiguous`] returned: its own where the storage is
/// not shared, else a copy.
#[expect(clippy::expect_used, reason = "the callers have made it contiguous")]
pub(super) fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    let (begin, end) = tensor.layout().contiguous_offsets().expect("a contiguous tensor");
    &mut tensor.storage_mut()[begin..end]
}

/// A matrix in a slice with strides `[row, column]`.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    elements: &'a [f32],
    rows: usize,
    columns: usize,
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    fn new(elements: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert!(elements.len() == rows * columns, "{rows} x {columns}: {}", elements.len());
        Self { elements, rows, columns, strides: [columns, 1] }
    }

    fn transpose(self) -> Self {
        let Self { elements, rows, columns, strides: [row, column] } = self;
        Self { elements, rows: columns, columns: rows, strides: [column, row] }
    }

    /// `count` rows, or as many as there are, from `begin` on.
    fn rows_from(self, begin: usize, count: usize) -> Self {
        let elements = &self.elements[begin * self.strides[0]..];
        Self { elements, rows: count.min(self.rows - begin), ..self }
    }

    /// Whether each element lies in the slice.
    fn fits(&self) -> bool {
        let Self { elements, rows, columns, strides: [row, column] } = *self;
        rows > 0 && columns > 0 && (rows - 1) * row + (columns - 1) * column < elements.len()
    }
}

/// `left · right`, plus `bias` in every row where there is one, into all of `out`; on this thread.
fn multiply(left: Matrix, right: Matrix, bias: Option<&[f32]>, out: &mut [MaybeUninit<f32>]) {
    let (rows, columns) = (left.rows, right.columns);
    assert!(left.columns == right.rows && left.fits() && right.fits());
    assert!(out.len() == rows * columns && bias.is_none_or(|bias| bias.len() == columns));
    if let Some(bias) = bias {
        out.chunks_exact_mut(columns).for_each(|row| _ = row.write_copy_of_slice(bias));
    }
    let [left_row, left_column] = left.strides.map(|stride| stride as isize);
    let [right_row, right_column] = right.strides.map(|stride| stride as isize);
    // SAFETY: the operands' elements lie in their slices, as asserted; `out` has room for as many
    // elements as the product, and being borrowed mutably it overlaps neither. Its elements are read only
    // where they are the bias.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            left.columns,
            out.as_mut_ptr().cast::<f32>(),
            1,
            columns as isize,
            bias.is_some(),
            left.elements.as_ptr(),
            left_column,
            left_row,
            right.elements.as_ptr(),
            right_column,
            right_row,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// A batch's images, and the rows they become.
struct Gather<'a> {
    bytes: &'a [u8],
    image_bytes: usize,
    order: &'a [i32],
    pixels: usize,
    rows: &'a mut [MaybeUninit<f32>],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (row, &index) in self.rows.chunks_exact_mut(self.pixels).zip(self.order) {
            let image = &self.bytes[index as usize * self.image_bytes..][..self.pixels];
            for (pixel, &grey) in row.iter_mut().zip(image) {
                pixel.write(f32::from(grey) / 255.0);
            }
        }
    }
}

/// Sums of columns.
struct SumRows<'a> {
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for row in self.rows.chunks_exact(self.sums.len()) {
            self.sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
}

/// Images that one task gathers.
const IMAGES: usize = 16;

/// Multiply-adds of a product below which it is one task: they take 4 µs.
const WORTH_A_TASK: usize = 200_000;

/// Rows of a layer's output that one task computes: a batch of 128 occupies eight threads. With 32 or 64
/// rows both layers of the dense network took 3 to 9 % longer.
const ROWS_OF_OUTPUT: usize = 16;

/// Rows of a weight's gradient that one task computes, so that with the weight and its moments they stay in
/// a core's second-level cache of 1 MiB. 64 or 196 rows took as long.
const ROWS_OF_GRADIENT: usize = 128;

/// Columns that one task computes where there are few rows.
const COLUMNS: usize = 128;

/// Rows of a product by a transposed matrix that are computed at once: `gemm` is fastest with as many as a
/// register holds (305 µs, with 32 or 64 rows 318 and 354).
const BLOCK: usize = 16;

/// `left · right`, a row-major matrix, plus `bias` in every row where there is one; on all threads.
fn product(left: Matrix, right: Matrix, bias: Option<&[f32]>, rows_a_task: usize) -> Vec<f32> {
    let (rows, columns) = (left.rows, right.columns);
    let small = rows * columns * left.columns < WORTH_A_TASK;
    if small || rows > rows_a_task {
        let rows_a_task = if small { rows.max(1) } else { rows_a_task };
        let all = |out: &mut [MaybeUninit<f32>]| {
            pool::for_each(out.chunks_mut(rows_a_task * columns).enumerate(), |(task, out)| {
                multiply(left.rows_from(task * rows_a_task, rows_a_task), right, bias, out);
            });
        };
        // SAFETY: every panel is written.
        return unsafe { filled(rows * columns, all) };
    }
    // Few rows: panels of columns, laid side by side then.
    let panels = pool::map((0..columns).step_by(COLUMNS), |begin| {
        let right = right.transpose().rows_from(begin, COLUMNS).transpose();
        let bias = bias.map(|bias| &bias[begin..][..right.columns]);
        // SAFETY: as above.
        unsafe { filled(rows * right.columns, |out| multiply(left, right, bias, out)) }
    });
    let mut out = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        for panel in &panels {
            let width = panel.len() / rows;
            out.extend_from_slice(&panel[row * width..][..width]);
        }
    }
    out
}

/// The same where `right` is a transposed matrix. `gemm` packs one slowly on the right side: a product of 128 x
/// 512 x 512 took 0.85 ms that way and takes 0.32 without, on two cores. So the product of some rows is
/// computed transposed, with `right` on the left side, and transposed back.
fn product_transposed(left: Matrix, right: Matrix) -> Vec<f32> {
    let arch = Arch::new();
    let (rows, columns) = (left.rows, right.columns);
    let rows_a_task =
        if rows * columns * left.columns < WORTH_A_TASK { rows.max(1) } else { BLOCK };
    let all = |out: &mut [MaybeUninit<f32>]| {
        pool::for_each(out.chunks_mut(rows_a_task * columns).enumerate(), |(task, out)| {
            for (block, out) in out.chunks_mut(BLOCK * columns).enumerate() {
                let left = left.rows_from(task * rows_a_task + block * BLOCK, BLOCK);
                // SAFETY: the whole product is written.
                let transposed = unsafe {
                    filled(out.len(), |out| {
                        multiply(right.transpose(), left.transpose(), None, out);
                    })
                };
                let transposed = Transpose {
                    elements: &transposed,
                    rows: columns,
                    columns: left.rows,
                    stride: left.rows,
                };
                transposed.into_uninit(out, columns, arch);
            }
        });
    };
    // SAFETY: the blocks of the whole product are written.
    unsafe { filled(rows * columns, all) }
}

/// `x[b,i] weight[i,o]`, plus `bias[o]` where there is one.
pub(super) fn biased_product(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
) -> FlexTensor {
    let [x, weight] = [x, weight].map(contiguous);
    let bias = bias.map(contiguous);
    let ([batch, inputs], [_, outputs]) = (extents(&x), extents(&weight));
    let weight = Matrix::new(values(&weight), [inputs, outputs]);
    let x = Matrix::new(values(&x), [batch, inputs]);
    let y = product(x, weight, bias.as_ref().map(values), ROWS_OF_OUTPUT);
    tensor(y, [batch, outputs])
}

impl TrainingOps for Flex {
    fn gather_images(images: FlexTensor, order: FlexTensor, pixels: usize) -> FlexTensor {
        let [images, order] = [images, order].map(contiguous);
        let [_, words] = extents(&images);
        let bytes: &[u8] = bytemuck::cast_slice(indices(&images));
        let order = indices(&order);
        let arch = Arch::new();
        let image_bytes = words * PIXELS_A_WORD;
        let gather = |out: &mut [MaybeUninit<f32>]| {
            let pieces = out.chunks_mut(pixels * IMAGES).zip(order.chunks(IMAGES));
            pool::for_each(pieces, |(rows, order)| {
                arch.dispatch(Gather { bytes, image_bytes, order, pixels, rows });
            });
        };
        // SAFETY: every pixel of every image is written.
        let gathered = unsafe { filled(order.len() * pixels, gather) };
        tensor(gathered, [order.len(), pixels])
    }

    fn part(state: FlexTensor, begin: usize, shape: Shape) -> FlexTensor {
        contiguous(state).narrow(0, begin, shape.num_elements()).reshape(shape)
    }

    fn part_of_integers(numbers: FlexTensor, begin: usize, count: usize) -> FlexTensor {
        contiguous(numbers).narrow(0, begin, count)
    }

    fn affine(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        words: FlexTensor,
        activation: Activation,
    ) -> FlexTensor {
        let mut y = Self::biased_product(x, weight, Some(bias));
        Active::new(activation, indices(&contiguous(words))).apply(values_mut(&mut y));
        y
    }

    fn affine_grad_x(
        weight: FlexTensor,
        y: FlexTensor,
        grad_y: FlexTensor,
        relu: Option<f32>,
    ) -> FlexTensor {
        Self::matmul(before_relu::<Flex>(y, grad_y, relu), weight, [false, true])
    }

    fn matmul(left: FlexTensor, right: FlexTensor, transposed: [bool; 2]) -> FlexTensor {
        let [left, right] = [left, right].map(contiguous);
        let [left, right] =
            [&left, &right].map(|tensor| Matrix::new(values(tensor), extents(tensor)));
        let left = if transposed[0] { left.transpose() } else { left };
        let right = if transposed[1] { right.transpose() } else { right };
        let (rows, columns) = (left.rows, right.columns);
        let out = match transposed {
            [_, true] => product_transposed(left, right),
            [true, false] => product(left, right, None, ROWS_OF_GRADIENT),
            [false, false] => product(left, right, None, ROWS_OF_OUTPUT),
        };
        tensor(out, [rows, columns])
    }

    fn column_sums(matrix: FlexTensor) -> FlexTensor {
        let matrix = contiguous(matrix);
        let [_, columns] = extents(&matrix);
        let mut sums = vec![0.0; columns];
        Arch::new().dispatch(SumRows { rows: values(&matrix), sums: &mut sums });
        tensor(sums, [columns])
    }

    fn activate(x: FlexTensor, words: FlexTensor, activation: Activation) -> FlexTensor {
        let mut x = contiguous(x);
        Active::new(activation, indices(&contiguous(words))).apply(values_mut(&mut x));
        x
    }

    fn relu_grad(y: FlexTensor, grad_y: FlexTensor, scale: f32) -> FlexTensor {
        let [y, mut grad_y] = [y, grad_y].map(contiguous);
        in_pieces(values_mut(&mut grad_y), &ReluGrad { y: values(&y), scale });
        grad_y
    }

    fn softmax_cross_entropy(
        logits: FlexTensor,
        labels: FlexTensor,
        order: FlexTensor,
        smoothing: f32,
    ) -> (FlexTensor, FlexTensor) {
        let [mut logits, labels, order] = [logits, labels, order].map(contiguous);
        let [batch, classes] = extents(&logits);
        let (labels, order) = (indices(&labels), indices(&order));
        let mut sums = Vec::new();
        let groups = values_mut(&mut logits).chunks_mut(ROWS * classes);
        for (rows, order) in groups.zip(order.chunks(ROWS)) {
            let mut sum = [0.0_f64; 2];
            for (row, &index) in rows.chunks_exact_mut(classes).zip(order) {
                let label = labels[index as usize] as usize;
                let (loss, right) = cross_entropy(row, label, smoothing, 1.0 / batch as f32);
                sum[0] += f64::from(loss);
                sum[1] += f64::from(u8::from(right));
            }
            sums.extend(sum.map(|sum| sum as f32));
        }
        (logits, tensor(sums, [batch.div_ceil(ROWS), 2]))
    }

    fn adam(state: FlexTensor, grads: FlexTensor, words: FlexTensor, betas: Betas) -> FlexTensor {
        let [rows, stride] = extents(&grads);
        let grads = if rows == 1 { contiguous(grads) } else { Self::column_sums(grads) };
        let mut state = contiguous(state);
        let adam = Adam::new(betas, indices(&contiguous(words)));
        Part::whole(values_mut(&mut state)).range(0, stride).step(values(&grads), adam);
        state
    }

    fn average(mean: FlexTensor, state: FlexTensor, words: FlexTensor) -> FlexTensor {
        let [mut mean, state, words] = [mean, state, words].map(contiguous);
        let inertia = adam_step(indices(&words)).inertia;
        let mean_values = values_mut(&mut mean);
        let average = Average { value: values(&state), mean: mean_values, inertia };
        Arch::new().dispatch(average);
        mean
    }

    fn affine_update(
        state: FlexTensor,
        x: FlexTensor,
        y: FlexTensor,
        grad_y: FlexTensor,
        words: FlexTensor,
        update: AffineUpdate,
    ) -> FlexTensor {
        let AffineUpdate { relu, bias, betas } = update;
        let grad_y = contiguous(before_relu::<Flex>(y, grad_y, relu));
        let [mut state, x] = [state, x].map(contiguous);
        let adam = Adam::new(betas, indices(&contiguous(words)));
        let mut part = Part::whole(values_mut(&mut state));
        if let Some(begin) = bias {
            let sums = Self::column_sums(grad_y.clone());
            part.range(begin, extents(&grad_y)[1]).step(values(&sums), adam);
        }

        let [x, grad_y] = [&x, &grad_y].map(|tensor| Matrix::new(values(tensor), extents(tensor)));
        let (left, columns) = (x.transpose(), grad_y.columns);
        let small = left.rows * columns * left.columns < WORTH_A_TASK;
        let rows = if small { left.rows } else { ROWS_OF_GRADIENT };
        let parts = part.range(0, left.rows * columns).chunks(rows * columns);
        pool::for_each(parts.enumerate(), |(task, part)| {
            let panel = |out: &mut [MaybeUninit<f32>]| {
                multiply(left.rows_from(task * rows, rows), grad_y, None, out);
            };
            // SAFETY: the whole product is written.
            let grad = unsafe { filled(part.len(), panel) };
            part.step_here(&grad, adam);
        });
        state
    }
}

/// Turns one image's logits into their gradient, `(softmax - target) · weight`, and gives its loss and
/// whether the highest logit, the first of equal ones, is the label's.
fn cross_entropy(logits: &mut [f32], label: usize, smoothing: f32, weight: f32) -> (f32, bool) {
    let mut highest = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[highest] {
            highest = class;
        }
    }
    let (most, own) = (logits[highest], logits[label]);
    let (share, rest) = (smoothing / logits.len() as f32, 1.0 - smoothing);
    let mut sum = 0.0;
    // How far the logits are below the highest, of all classes.
    let mut below = 0.0;
    for logit in logits.iter_mut() {
        let less = *logit - most;
        *logit = less.exp();
        sum += *logit;
        below -= less;
    }
    for (class, part) in logits.iter_mut().enumerate() {
        let target = if class == label { rest + share } else { share };
        *part = (*part / sum - target) * weight;
    }
    let loss = sum.ln() + rest * (most - own);
    // Without smoothing nothing is added, whatever the others are.
    let loss = if share > 0.0 { loss + share * below } else { loss };
    (loss, highest == label)
}
