//! Extents for the tiled kernels of software adapters, which move blocks of 4 x 4: operands are copied into
//! tensors whose extents are multiples of 4, with zeros in what is new, and of the results what is new is
//! left out.
//!
//! At extents 27 x 29 → 31 x 17, batch 128, bond 4 the layer takes 3.4 ms so, copies among them; by way of `W`
//! it took 21, because its products fall out of the blocks too. So they do where the bond, which they sum over, is
//! no multiple of 4: at 298, batch 32, `W` and the product with it took 62 ms, at 300 they take 17 (llvmpipe, two
//! cores).

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::op::gpu::launch::{empty, launch};
use crate::op::gpu::shader::{RESIZE_PIECE, Shader};
use crate::mps::MpsSpec;
use crate::mps::plan::{Plan, Strategy, Target};

/// Most elements of a padded input or output, half of what WebGPU guarantees one binding may hold.
const MOST_PADDED: usize = 16 << 20;

/// The layer with extents that are multiples of 4, where a plan needs them and the layer has not.
pub fn padded(spec: &MpsSpec, batch: usize, plan: Plan, target: Target) -> Option<MpsSpec> {
    let blocks = spec.padded();
    let padded = match plan.strategy {
        Strategy::Rebuilt => MpsSpec { k: spec.k.next_multiple_of(4), ..blocks },
        Strategy::Plain | Strategy::Tiled => blocks,
    };
    let fits = batch.saturating_mul(padded.inputs().max(padded.outputs())) <= MOST_PADDED;
    let wanted = target == Target::Software && plan.strategy != Strategy::Plain;
    (wanted && fits && padded != *spec).then_some(padded)
}

/// A tensor with other extents: shorter ones leave elements out, longer ones add zeros.
pub fn resize<const D: usize>(input: CubeTensor, shape: [usize; D]) -> CubeTensor {
    let found: [usize; D] = input.meta.shape().dims();
    if found == shape {
        return input;
    }
    let input = into_contiguous(input);
    let output = empty(&input, shape);
    let modes = |shape: [usize; D]| {
        let mut modes = [1; 3];
        modes[3 - D..].copy_from_slice(&shape);
        modes
    };
    let [rows_0, rows_1, row] = modes(shape);
    let invocations = rows_0 * rows_1 * row.div_ceil(RESIZE_PIECE as usize);
    let params = [modes(found), modes(shape)].concat();
    launch(Shader::Resize, invocations, &[&input], &output, &params);
    output
}
