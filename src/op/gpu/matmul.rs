//! Matrix products on GPUs, by `gpu/matmul.wgsl`.
//!
//! Its tiles and the order of the additions follow from the sizes alone, and a bias, ReLU, dropout and the gradient of a
//! ReLU cost no launch.

use burn_cubecl::cubecl::ir::attributes::BufferIOAttr::{ReadOnly, WriteOnly};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{Active, Variant, empty, launch_elements, launch_variant};
use super::params::{FinishParams, GpuMatmulParams, count};
use super::shader::{MASKED_A, MASKED_B, START_BIAS, START_ZERO, Shader};
use crate::op::activation::Activation;

/// Workgroups that keep a large card busy.
const ENOUGH: usize = 256;

/// Large tiles are taken where there are as many of them as a large card has processors.
const MANY: usize = 128;

/// Least range of `k` that is worth a workgroup of its own: its sum must be written, and added to others.
const WORTH_A_PART: usize = 512;

/// Longest range of `k`: no invocation has more than 60,000 loop iterations, five for 16 of `k` (see
/// [`crate::mps::plan::MAX_ITERATIONS`]).
const LONGEST_PART: usize = 128 << 10;

/// How a product is cut.
struct Cut {
    /// Whether tiles are 64 x 64, not 32 x 32.
    large: bool,
    parts: usize,
    part_k: usize,
    workgroups: usize,
}

impl Cut {
    fn of([rows, inner, columns]: [usize; 3]) -> Self {
        let tiles = |side: usize| rows.div_ceil(side) * columns.div_ceil(side);
        let large = tiles(64) >= MANY;
        let tiles = tiles(if large { 64 } else { 32 });
        let parts = (ENOUGH / tiles).min(inner / WORTH_A_PART).clamp(1, 64);
        let part_k = inner.div_ceil(parts.max(inner.div_ceil(LONGEST_PART)));
        let parts = inner.div_ceil(part_k);
        Self { large, parts, part_k, workgroups: tiles * parts }
    }
}

/// An operand: a contiguous matrix, and whether it is transposed.
type Operand<'a> = (&'a CubeTensor, bool);

/// What a product reads besides its operands, and where it writes to.
struct Around<'a> {
    mask: Option<(&'a CubeTensor, u32, f32)>,
    bias: Option<&'a CubeTensor>,
    active: Active<'a>,
    /// Numbers from one part to the next, and where the sums of columns begin, if they are wanted.
    row: usize,
    sums: Option<usize>,
}

fn run([a, b]: [Operand; 2], sizes: [usize; 3], cut: &Cut, around: &Around, c: &CubeTensor) {
    let [rows, inner, columns] = sizes;
    let strides = |(_, transposed): Operand, [rows, columns]: [usize; 2]| match transposed {
        true => [1, count(rows)],
        false => [count(columns), 1],
    };
    let ([a_i, a_k], [b_k, b_j]) = (strides(a, [rows, inner]), strides(b, [inner, columns]));
    let Around { mask, bias, active, row, sums } = around;
    // The bindings need a buffer even where it is not read.
    let (mask, masked, mask_scale) = mask.unwrap_or((a.0, 0, 1.0));
    let params = GpuMatmulParams {
        rows: count(rows),
        inner: count(inner),
        columns: count(columns),
        a_i,
        a_k,
        b_k,
        b_j,
        part_k: count(cut.part_k),
        parts: count(cut.parts),
        masked,
        mask_scale,
        row: count(*row),
        sums: u32::from(sums.is_some()),
        sums_begin: count(sums.unwrap_or(0)),
        start: if bias.is_some() { START_BIAS } else { START_ZERO },
        relu: active.relu,
        seed: active.seed,
        threshold: active.threshold,
        scale: active.scale,
    };
    let inputs = [a.0, b.0, mask, bias.unwrap_or(a.0), active.words.unwrap_or(a.0)];
    let buffers = inputs.map(|input| (input, ReadOnly)).into_iter().chain([(c, WriteOnly)]);
    let invocations = cut.workgroups * Shader::GpuMatmul.facts().workgroup_size as usize;
    let variant = Variant { wide: false, large: cut.large };
    launch_variant(variant, invocations, &buffers.collect::<Vec<_>>(), &params);
}

fn extents((matrix, transposed): Operand) -> [usize; 2] {
    let [rows, columns] = matrix.meta.shape().dims();
    if transposed { [columns, rows] } else { [rows, columns] }
}

/// The product of two matrices, each transposed first where `transposed` says so, plus `bias` in every row, and an
/// activation.
pub fn multiply(
    operands: [CubeTensor; 2],
    transposed: [bool; 2],
    bias: Option<&CubeTensor>,
    active: Option<&(CubeTensor, Activation)>,
) -> CubeTensor {
    let [a, b] = operands.map(into_contiguous);
    let operands = [(&a, transposed[0]), (&b, transposed[1])];
    let [[rows, inner], [_, columns]] = operands.map(extents);
    let bias = bias.map(|bias| into_contiguous(bias.clone()));
    let (bias, active) = (bias.as_ref(), Active::of(active));
    matmul(operands, [rows, inner, columns], None, bias, active)
}

/// `grad_x = D Wᵀ` of a dense layer, where `D` is `grad_y` after the gradient of a ReLU with the output `y` and this
/// scale.
pub fn grad_x(
    weight: CubeTensor,
    y: CubeTensor,
    grad_y: CubeTensor,
    relu: Option<f32>,
) -> CubeTensor {
    let [weight, y, grad_y] = [weight, y, grad_y].map(into_contiguous);
    let operands = [(&grad_y, false), (&weight, true)];
    let [[rows, inner], [_, columns]] = operands.map(extents);
    let mask = relu.map(|scale| (&y, MASKED_A, scale));
    matmul(operands, [rows, inner, columns], mask, None, Active::NONE)
}

fn matmul(
    operands: [Operand; 2],
    sizes: [usize; 3],
    mask: Option<(&CubeTensor, u32, f32)>,
    bias: Option<&CubeTensor>,
    active: Active,
) -> CubeTensor {
    let [rows, _, columns] = sizes;
    let cut = Cut::of(sizes);
    let row = rows * columns;
    let like = operands[0].0;
    if cut.parts == 1 {
        let c = empty(like, [rows, columns]);
        run(operands, sizes, &cut, &Around { mask, bias, active, row, sums: None }, &c);
        return c;
    }
    let parts = empty(like, [cut.parts, row]);
    let around = Around { mask, bias: None, active: Active::NONE, row, sums: None };
    run(operands, sizes, &cut, &around, &parts);
    let c = empty(like, [rows, columns]);
    finish(&parts, cut.parts, bias, active, &c);
    c
}

/// The gradients of a dense layer in parts: of the weight, and of the bias from `bias` on, in rows of `stride` numbers.
pub fn grads(
    x: CubeTensor,
    y: CubeTensor,
    grad_y: CubeTensor,
    relu: Option<f32>,
    bias: Option<usize>,
    stride: usize,
) -> CubeTensor {
    let [x, y, grad_y] = [x, y, grad_y].map(into_contiguous);
    let operands = [(&x, true), (&grad_y, false)];
    let [[rows, inner], [_, columns]] = operands.map(extents);
    let sizes = [rows, inner, columns];
    let cut = Cut::of(sizes);
    let mask = relu.map(|scale| (&y, MASKED_B, scale));
    let grads = empty(&x, [cut.parts, stride]);
    let around = Around { mask, bias: None, active: Active::NONE, row: stride, sums: bias };
    run(operands, sizes, &cut, &around, &grads);
    grads
}

/// A product plus its bias, after an activation.
pub fn finished(input: CubeTensor, bias: &CubeTensor, active: Active) -> CubeTensor {
    let y = empty(&input, input.meta.shape().clone());
    finish(&input, 1, Some(bias), active, &y);
    y
}

/// Writes to `y` the sum of `parts` of as many numbers, plus a bias for each feature, after an activation.
pub fn finish(
    input: &CubeTensor,
    parts: usize,
    bias: Option<&CubeTensor>,
    active: Active,
    y: &CubeTensor,
) {
    let numbers = y.meta.shape().num_elements();
    let params = FinishParams {
        parts: count(parts),
        count: count(numbers),
        features: count(bias.map_or(1, |bias| bias.meta.shape().num_elements())),
        start: if bias.is_some() { START_BIAS } else { START_ZERO },
        relu: active.relu,
        seed: active.seed,
        threshold: active.threshold,
        scale: active.scale,
    };
    let inputs = [input, bias.unwrap_or(input), active.words.unwrap_or(input)];
    let buffers = inputs.map(|input| (input, ReadOnly)).into_iter().chain([(y, WriteOnly)]);
    launch_elements(false, numbers, &buffers.collect::<Vec<_>>(), &params);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_k_once() {
        for sizes in [
            [1, 1, 1],
            [128, 512, 512],
            [512, 128, 10],
            [10, 65_536, 512],
            [65_536, 512, 512],
            [3, 5_000_000, 2],
        ] {
            let Cut { parts, part_k, .. } = Cut::of(sizes);
            assert!(parts * part_k >= sizes[1] && (parts - 1) * part_k < sizes[1], "{sizes:?}");
            assert!(part_k <= LONGEST_PART, "{sizes:?}");
        }
        assert_eq!(Cut::of([128, 512, 512]).parts, 1);
        assert!(Cut::of([65_536, 512, 512]).large);
    }
}
