//! The operations on the CPU, on all cores.
//!
//! Products are those of the `gemm` crate. The passes over elements are plain loops that the compiler
//! turns into the widest registers of the processor ([`pulp::Arch`] picks at run time). Sums are
//! taken in an order that does not depend on the number of threads.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
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

/// `left · right`, added to `start` where there is one: of the product's size.
fn multiply(left: Matrix, right: Matrix, start: Option<Vec<f32>>) -> Vec<f32> {
    let (rows, columns) = (left.rows, right.columns);
    let add = start.is_some();
    // Not zeroed: a weight's gradient is megabytes, and every element is written.
    let mut out = start.unwrap_or_else(|| Vec::with_capacity(rows * columns));
    assert!(left.columns == right.rows && left.columns > 0);
    assert!(if add { out.len() } else { out.capacity() } >= rows * columns);
    // A product of 2 MFLOP takes 20 µs on one core, and waking another takes 5.
    let parallelism = match rows * columns * left.columns {
        ..1_000_000 => gemm::Parallelism::None,
        _ => gemm::Parallelism::Rayon(0),
    };
    let [left_row, left_column] = left.strides.map(|stride| stride as isize);
    let [right_row, right_column] = right.strides.map(|stride| stride as isize);
    // SAFETY: the operands are dense matrices of the extents given, as `Matrix::new` checked, and
    // `out` has room for as many elements as the product; being owned it overlaps neither. Its elements
    // are read only where it was given, and then they are there.
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
    // SAFETY: every element of the product was written, since it has at least one term.
    unsafe { out.set_len(rows * columns) };
    out
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

/// A pass over a part of one tensor's elements, which begins at `begin`.
///
/// A plain loop in a method that is always inlined: only so is it compiled for the processor's widest
/// registers, which [`Arch::dispatch`] picks at run time.
trait Pass: Sync {
    fn over(&self, begin: usize, part: &mut [f32]);
}

struct OnPart<'a, P> {
    pass: &'a P,
    begin: usize,
    part: &'a mut [f32],
}

impl<P: Pass> WithSimd for OnPart<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        self.pass.over(self.begin, self.part);
    }
}

/// Applies a pass to all elements, in pieces.
fn in_pieces<P: Pass>(elements: &mut [f32], pass: &P) {
    let arch = Arch::new();
    if elements.len() <= PIECE {
        return arch.dispatch(OnPart { pass, begin: 0, part: elements });
    }
    elements.par_chunks_mut(PIECE).enumerate().for_each(|(piece, part)| {
        arch.dispatch(OnPart { pass, begin: piece * PIECE, part });
    });
}

struct ReluDropout {
    seed: [u32; 2],
    threshold: u32,
    scale: f32,
}

impl Pass for ReluDropout {
    #[inline(always)]
    fn over(&self, begin: usize, part: &mut [f32]) {
        let Self { seed: [low, high], threshold, scale } = *self;
        let mut index = (begin as u32).wrapping_add(low);
        for x in part {
            let kept = if hash(hash(index) ^ high) >= threshold { scale } else { 0.0 };
            // Not `max`, which would turn a NaN into 0 and hide it.
            *x = if *x <= 0.0 { 0.0 } else { *x * kept };
            index = index.wrapping_add(1);
        }
    }
}

struct ReluDropoutGrad<'a> {
    y: &'a [f32],
    scale: f32,
}

impl Pass for ReluDropoutGrad<'_> {
    #[inline(always)]
    fn over(&self, begin: usize, part: &mut [f32]) {
        for (d, y) in part.iter_mut().zip(&self.y[begin..]) {
            *d = if *y > 0.0 { *d * self.scale } else { 0.0 };
        }
    }
}

/// Adam over parts of a weight, its moments and its gradient.
struct AdamPass<'a> {
    value: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
    grad: &'a [f32],
    step: AdamStep,
}

impl WithSimd for AdamPass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let AdamStep { beta_1, beta_2, size, epsilon } = self.step;
        let moments = self.mean.iter_mut().zip(self.square);
        for ((value, (mean, square)), &grad) in self.value.iter_mut().zip(moments).zip(self.grad) {
            *mean = beta_1 * *mean + (1.0 - beta_1) * grad;
            *square = beta_2 * *square + (1.0 - beta_2) * grad * grad;
            *value -= size * *mean / (square.sqrt() + epsilon);
        }
    }
}

/// A batch's images, and the rows they become.
struct Gather<'a> {
    bytes: &'a [u8],
    image_bytes: usize,
    order: &'a [i32],
    pixels: usize,
    rows: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (row, &index) in self.rows.chunks_exact_mut(self.pixels).zip(self.order) {
            let image = &self.bytes[index as usize * self.image_bytes..][..self.pixels];
            for (pixel, &grey) in row.iter_mut().zip(image) {
                *pixel = f32::from(grey) / 255.0;
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

/// Rows and columns of a block that is turned at once: 16 rows are read a cache line each.
const BLOCK: usize = 16;

/// A band of [`BLOCK`] columns of a matrix, turned into rows.
struct Turn<'a> {
    matrix: &'a [f32],
    columns: usize,
    /// The first of the columns.
    begin: usize,
    /// The rows that they become.
    out: &'a mut [f32],
}

impl WithSimd for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let rows = self.matrix.len() / self.columns;
        let width = self.out.len() / rows;
        let mut row = 0;
        if width == BLOCK {
            while row + BLOCK <= rows {
                let mut block = [[0.0; BLOCK]; BLOCK];
                for (i, line) in block.iter_mut().enumerate() {
                    let at = (row + i) * self.columns + self.begin;
                    line.copy_from_slice(&self.matrix[at..at + BLOCK]);
                }
                for column in 0..BLOCK {
                    let to = &mut self.out[column * rows + row..][..BLOCK];
                    for (to, line) in to.iter_mut().zip(&block) {
                        *to = line[column];
                    }
                }
                row += BLOCK;
            }
        }
        for row in row..rows {
            for column in 0..width {
                self.out[column * rows + row] =
                    self.matrix[row * self.columns + self.begin + column];
            }
        }
    }
}

/// The transposed matrix, row-major.
fn turn(matrix: &[f32], columns: usize) -> Vec<f32> {
    let arch = Arch::new();
    let rows = matrix.len() / columns;
    let mut out = vec![0.0; matrix.len()];
    let band = |(band, out): (usize, &mut [f32])| {
        arch.dispatch(Turn { matrix, columns, begin: band * BLOCK, out });
    };
    match matrix.len() {
        ..=PIECE => out.chunks_mut(BLOCK * rows).enumerate().for_each(band),
        _ => out.par_chunks_mut(BLOCK * rows).enumerate().for_each(band),
    }
    out
}

impl NetworkOps for Flex {
    fn gather_images(images: FlexTensor, order: FlexTensor, pixels: usize) -> FlexTensor {
        let [images, order] = [images, order].map(|tensor| tensor.to_contiguous());
        let [_, words] = extents(&images);
        let bytes: &[u8] = bytemuck::cast_slice(indices(&images));
        let order = indices(&order);
        let mut gathered = vec![0.0; order.len() * pixels];
        let arch = Arch::new();
        let pieces = gathered.par_chunks_mut(pixels * 32).zip(order.par_chunks(32));
        pieces.for_each(|(rows, order)| {
            let image_bytes = words * PIXELS_A_WORD;
            arch.dispatch(Gather { bytes, image_bytes, order, pixels, rows });
        });
        tensor(gathered, [order.len(), pixels])
    }

    fn affine(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let ([batch, inputs], [_, outputs]) = (extents(&x), extents(&weight));
        let mut y = Vec::with_capacity(batch * outputs);
        (0..batch).for_each(|_| y.extend_from_slice(values(&bias)));
        let weight = Matrix::new(values(&weight), [inputs, outputs]);
        let y = multiply(Matrix::new(values(&x), [batch, inputs]), weight, Some(y));
        tensor(y, [batch, outputs])
    }

    fn matmul(left: FlexTensor, right: FlexTensor, turned: [bool; 2]) -> FlexTensor {
        let [left, right] = [left, right].map(|tensor| tensor.to_contiguous());
        let [left, right] =
            [&left, &right].map(|tensor| Matrix::new(values(tensor), extents(tensor)));
        let left = if turned[0] { left.turned() } else { left };
        let (rows, inner) = (left.rows, left.columns);
        let columns = if turned[1] { right.rows } else { right.columns };
        // `gemm` packs a transposed right side slowly: a product of 128 x 512 x 512 took 0.85 ms that way
        // and 0.32 without, on two cores. What is smaller is turned: the right side, or the left one and
        // then the result.
        let out = if !turned[1] {
            multiply(left, right, None)
        } else if turned[0] || rows * (inner + columns) > inner * columns {
            let right = turn(right.elements, inner);
            multiply(left, Matrix::new(&right, [inner, columns]), None)
        } else {
            let left = turn(left.elements, inner);
            let out = multiply(right, Matrix::new(&left, [inner, rows]), None);
            turn(&out, rows)
        };
        tensor(out, [rows, columns])
    }

    fn column_sums(matrix: FlexTensor) -> FlexTensor {
        let matrix = matrix.to_contiguous();
        let [_, columns] = extents(&matrix);
        let mut sums = vec![0.0; columns];
        Arch::new().dispatch(SumRows { rows: values(&matrix), sums: &mut sums });
        tensor(sums, [columns])
    }

    fn relu_dropout(x: FlexTensor, dropout: Dropout) -> FlexTensor {
        let mut x = x.to_contiguous();
        let pass = ReluDropout {
            seed: dropout.words(),
            threshold: dropout.threshold(),
            scale: Dropout::scale(dropout.rate),
        };
        in_pieces(values_mut(&mut x), &pass);
        x
    }

    fn relu_dropout_grad(y: FlexTensor, grad_y: FlexTensor, rate: f32) -> FlexTensor {
        let [y, mut grad_y] = [y, grad_y].map(|tensor| tensor.to_contiguous());
        let pass = ReluDropoutGrad { y: values(&y), scale: Dropout::scale(rate) };
        in_pieces(values_mut(&mut grad_y), &pass);
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
        let arch = Arch::new();
        values_mut(&mut value)
            .par_chunks_mut(PIECE)
            .zip(values_mut(&mut mean).par_chunks_mut(PIECE))
            .zip(values_mut(&mut square).par_chunks_mut(PIECE))
            .zip(values(&grad).par_chunks(PIECE))
            .for_each(|(((value, mean), square), grad)| {
                arch.dispatch(AdamPass { value, mean, square, grad, step });
            });
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
    (sum.ln() + (most - own), highest == label)
}
