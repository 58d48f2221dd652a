//! The operations on the CPU, on all cores.
//!
//! Products are those of the `gemm` crate. The passes over elements are plain loops that the compiler
//! turns into the widest registers of the processor ([`pulp::Arch`] picks at run time). Sums are
//! taken in an order that does not depend on the number of threads.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::Arch;
use rayon::prelude::*;

use super::{AdamStep, Dropout, NetworkOps, PIXELS_A_WORD};
use crate::op::flex::{tensor, values};

/// Elements a task: fewer are not worth another thread (a task costs about 5 µs, and an element of the
/// passes here about 0.3 ns).
const PIECE: usize = 32 << 10;

/// The extents of a matrix.
fn extents(matrix: &FlexTensor) -> [usize; 2] {
    matrix.layout().shape().dims()
}

fn indices(tensor: &FlexTensor) -> &[i32] {
    values(tensor)
}

/// The elements to be written, of a tensor that `to_contiguous` returned: its own where nothing else
/// holds them, else a copy.
#[expect(clippy::expect_used, reason = "the callers have made it contiguous")]
fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
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

    fn turned(self) -> Self {
        let Self { elements, rows, columns, strides: [row, column] } = self;
        Self { elements, rows: columns, columns: rows, strides: [column, row] }
    }
}

/// `out = left · right`, or `out += left · right`.
fn multiply(out: &mut [f32], left: Matrix, right: Matrix, add: bool) {
    let (rows, columns) = (left.rows, right.columns);
    assert!(left.columns == right.rows && out.len() == rows * columns);
    // A product of 2 MFLOP takes 20 µs on one core, and waking another takes 5.
    let parallelism = match rows * columns * left.columns {
        ..1_000_000 => gemm::Parallelism::None,
        _ => gemm::Parallelism::Rayon(0),
    };
    let [left_row, left_column] = left.strides.map(|stride| stride as isize);
    let [right_row, right_column] = right.strides.map(|stride| stride as isize);
    // SAFETY: the operands are dense matrices of the extents given, as `Matrix::new` checked, and
    // `out` has as many elements as the product; being borrowed mutably it overlaps neither.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            left.columns,
            out.as_mut_ptr(),
            1,
            columns as isize,
            add,
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
            parallelism,
        );
    }
}

/// Chris Wellons' `lowbias32`, an invertible hash of 32 bits.
#[inline(always)]
fn hash(mut bits: u32) -> u32 {
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x7feb_352d);
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x846c_a68b);
    bits ^ (bits >> 16)
}

/// Applies `pass` to pieces of a slice; it gets the index of its first element.
fn in_pieces(elements: &mut [f32], pass: impl Fn(usize, &mut [f32]) + Sync) {
    let arch = Arch::new();
    let one = |(piece, part): (usize, &mut [f32])| arch.dispatch(|| pass(piece * PIECE, part));
    match elements.len() {
        ..=PIECE => one((0, elements)),
        _ => elements.par_chunks_mut(PIECE).enumerate().for_each(one),
    }
}

impl NetworkOps for Flex {
    fn gather_images(images: FlexTensor, order: FlexTensor, pixels: usize) -> FlexTensor {
        let [images, order] = [images, order].map(|tensor| tensor.to_contiguous());
        let [_, words] = extents(&images);
        let bytes: &[u8] = bytemuck::cast_slice(indices(&images));
        let order = indices(&order);
        let mut gathered = vec![0.0; order.len() * pixels];
        gathered.par_chunks_mut(pixels * 16).zip(order.par_chunks(16)).for_each(|(rows, order)| {
            Arch::new().dispatch(|| {
                for (row, &index) in rows.chunks_exact_mut(pixels).zip(order) {
                    let image = &bytes[index as usize * words * PIXELS_A_WORD..][..pixels];
                    for (pixel, &grey) in row.iter_mut().zip(image) {
                        *pixel = f32::from(grey) / 255.0;
                    }
                }
            });
        });
        tensor(gathered, [order.len(), pixels])
    }

    fn linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let ([batch, inputs], [_, outputs]) = (extents(&x), extents(&weight));
        let mut y = Vec::with_capacity(batch * outputs);
        (0..batch).for_each(|_| y.extend_from_slice(values(&bias)));
        let weight = Matrix::new(values(&weight), [inputs, outputs]);
        multiply(&mut y, Matrix::new(values(&x), [batch, inputs]), weight, true);
        tensor(y, [batch, outputs])
    }

    fn linear_grad_x(weight: FlexTensor, grad_y: FlexTensor) -> FlexTensor {
        let [weight, grad_y] = [weight, grad_y].map(|tensor| tensor.to_contiguous());
        let ([inputs, outputs], [batch, _]) = (extents(&weight), extents(&grad_y));
        let mut grad_x = vec![0.0; batch * inputs];
        let weight = Matrix::new(values(&weight), [inputs, outputs]).turned();
        multiply(&mut grad_x, Matrix::new(values(&grad_y), [batch, outputs]), weight, false);
        tensor(grad_x, [batch, inputs])
    }

    fn linear_grads(x: FlexTensor, grad_y: FlexTensor) -> (FlexTensor, FlexTensor) {
        let [x, grad_y] = [x, grad_y].map(|tensor| tensor.to_contiguous());
        let ([batch, inputs], [_, outputs]) = (extents(&x), extents(&grad_y));
        let d = values(&grad_y);
        let mut grad_weight = vec![0.0; inputs * outputs];
        let x = Matrix::new(values(&x), [batch, inputs]).turned();
        multiply(&mut grad_weight, x, Matrix::new(d, [batch, outputs]), false);
        let mut grad_bias = vec![0.0; outputs];
        Arch::new().dispatch(|| {
            for row in d.chunks_exact(outputs) {
                grad_bias.iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
            }
        });
        (tensor(grad_weight, [inputs, outputs]), tensor(grad_bias, [outputs]))
    }

    fn relu_dropout(x: FlexTensor, dropout: Dropout) -> FlexTensor {
        let mut x = x.to_contiguous();
        let ([low, high], threshold) = (dropout.words(), dropout.threshold());
        let scale = Dropout::scale(dropout.rate);
        in_pieces(values_mut(&mut x), |begin, part| {
            for (at, x) in part.iter_mut().enumerate() {
                let drawn = hash(hash(((begin + at) as u32).wrapping_add(low)) ^ high);
                let kept = if drawn >= threshold { scale } else { 0.0 };
                // Not `max`, which would turn a NaN into 0 and hide it.
                *x = if *x <= 0.0 { 0.0 } else { *x * kept };
            }
        });
        x
    }

    fn relu_dropout_grad(y: FlexTensor, grad_y: FlexTensor, rate: f32) -> FlexTensor {
        let [y, mut grad_y] = [y, grad_y].map(|tensor| tensor.to_contiguous());
        let y = values::<f32>(&y);
        let scale = Dropout::scale(rate);
        in_pieces(values_mut(&mut grad_y), |begin, part| {
            for (d, y) in part.iter_mut().zip(&y[begin..]) {
                *d = if *y > 0.0 { *d * scale } else { 0.0 };
            }
        });
        grad_y
    }

    fn softmax_cross_entropy(
        logits: FlexTensor,
        labels: FlexTensor,
        order: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let [mut logits, labels, order] =
            [logits, labels, order].map(|tensor| tensor.to_contiguous());
        let [batch, classes] = extents(&logits);
        let (labels, order) = (indices(&labels), indices(&order));
        let mut sums = [0.0_f64; 2];
        let rows = values_mut(&mut logits).chunks_exact_mut(classes);
        for (row, &index) in rows.zip(order) {
            let label = labels[index as usize] as usize;
            let (loss, right) = cross_entropy(row, label, 1.0 / batch as f32);
            sums[0] += f64::from(loss);
            sums[1] += f64::from(u8::from(right));
        }
        (logits, tensor(sums.map(|sum| sum as f32).to_vec(), [2]))
    }

    fn adam(
        value: FlexTensor,
        mean: FlexTensor,
        square: FlexTensor,
        grad: FlexTensor,
        step: AdamStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [mut value, mut mean, mut square, grad] =
            [value, mean, square, grad].map(|tensor| tensor.to_contiguous());
        let AdamStep { beta_1, beta_2, size, epsilon } = step;
        let arch = Arch::new();
        let pass =
            |(((value, mean), square), grad): (((&mut [f32], &mut [f32]), &mut [f32]), &[f32])| {
                arch.dispatch(|| {
                    let elements = value.iter_mut().zip(mean).zip(square).zip(grad);
                    for (((value, mean), square), &grad) in elements {
                        *mean = beta_1 * *mean + (1.0 - beta_1) * grad;
                        *square = beta_2 * *square + (1.0 - beta_2) * grad * grad;
                        *value -= size * *mean / (square.sqrt() + epsilon);
                    }
                });
            };
        let parts = (
            values_mut(&mut value).par_chunks_mut(PIECE),
            values_mut(&mut mean).par_chunks_mut(PIECE),
            values_mut(&mut square).par_chunks_mut(PIECE),
            values(&grad).par_chunks(PIECE),
        );
        parts.0.zip(parts.1).zip(parts.2).zip(parts.3).for_each(pass);
        (value, mean, square)
    }
}

/// Turns one image's logits into their gradient, `(softmax - one) · weight`, and gives its loss and
/// whether the highest logit, the first of equal ones, is the label's.
fn cross_entropy(logits: &mut [f32], label: usize, weight: f32) -> (f32, bool) {
    let mut highest = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[highest] {
            highest = class;
        }
    }
    let (most, own) = (logits[highest], logits[label]);
    let mut sum = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - most).exp();
        sum += *logit;
    }
    for (class, part) in logits.iter_mut().enumerate() {
        let one = if class == label { 1.0 } else { 0.0 };
        *part = (*part / sum - one) * weight;
    }
    (most + sum.ln() - own, highest == label)
}
