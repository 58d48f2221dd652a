// Sums over rows, in groups: output[g,i] = Σ_{row in group g} input[row,i].
//
// One stage of every sum over the batch: the rows of grad_y, which make grad_bias, or the partial
// sums of grad_core.wgsl or gpu/grads.wgsl, are summed in groups, the groups' sums in groups again, until one is
// left. The order of the additions depends on the sizes alone.
//
// Buffers:
//   input   [rows, columns] elements
//   output  [groups, columns] elements; every one is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    rows: u32,
    columns: u32,
    groups: u32,
    group_size: u32,
}

@group(0) @binding(0) var<storage, read_write> input: array<Element>;
@group(0) @binding(1) var<storage, read_write> output: array<Element>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.groups * params.columns) {
        return;
    }
    let column = index % params.columns;
    let first = index / params.columns * params.group_size;
    let end = min(first + params.group_size, params.rows);
    var sum = Element();
    for (var row = first; row < end; row++) {
        sum += input[row * params.columns + column];
    }
    output[index] = sum;
}
