// Copies a tensor of three modes into one of other extents: elements outside the new extents are
// dropped, new elements are zero. Operands are padded to extents that the tiled kernels can take, and results
// cropped.
//
// One invocation copies RESIZE_PIECE elements of a row, because on a software adapter a division takes longer
// than a copy.
//
// Buffers:
//   input   [in_0, in_1, in_2]
//   output  [out_0, out_1, out_2]; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;
const RESIZE_PIECE: u32 = 32u;

struct Params {
    in_0: u32,
    in_1: u32,
    in_2: u32,
    out_0: u32,
    out_1: u32,
    out_2: u32,
}

@group(0) @binding(0) var<storage, read_write> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<f32>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let pieces = (params.out_2 + RESIZE_PIECE - 1u) / RESIZE_PIECE;
    let row = index / pieces;
    if (row >= params.out_0 * params.out_1) {
        return;
    }
    let begin = index % pieces * RESIZE_PIECE;
    let end = min(begin + RESIZE_PIECE, params.out_2);
    let i = row / params.out_1;
    let j = row % params.out_1;
    let at = (i * params.in_1 + j) * params.in_2;
    let inside = i < params.in_0 && j < params.in_1;
    for (var n = begin; n < end; n++) {
        let there = inside && n < params.in_2;
        let value = input[select(0u, at + n, there)];
        output[row * params.out_2 + n] = select(0.0, value, there);
    }
}
