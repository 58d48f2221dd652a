// ReLU where `relu` is 1, then dropout, in place. Without ReLU it is its own gradient.
//
// Buffers:
//   x       [count] elements; every one is read and written
//   words   what changes from step to step; two words from `seed` on are read where something is dropped
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    relu: u32,
    seed: u32,
    threshold: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    var seed = vec2<u32>();
    if (params.threshold > 0u) {
        seed = vec2<u32>(words[params.seed], words[params.seed + 1u]);
    }
    x[index] = activated(x[index], index, params.relu, seed, params.threshold, params.scale);
}
