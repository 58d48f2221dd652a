// The copy bandwidth of an adapter: 16 bytes read and 16 written an invocation.
//
// Buffers:
//   input   [count] of four numbers
//   output  [count] of four numbers; every one is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
}

@group(0) @binding(0) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index < params.count) {
        output[index] = input[index];
    }
}
