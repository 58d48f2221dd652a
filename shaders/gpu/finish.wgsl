// What follows a product or a contraction that was taken in parts, or that Burn has computed: the sum of the parts, the
// bias, ReLU and dropout.
//
//   y[i] = activated(Σ_part input[part,i] + bias[i mod features])
//
// Buffers:
//   input   [parts, count]
//   bias    [features], read where `start` is START_BIAS
//   words   what changes from step to step; two words from `seed` on are read where something is dropped
//   y       [count]; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    parts: u32,
    count: u32,
    features: u32,
    start: u32,
    relu: u32,
    seed: u32,
    threshold: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let count = params.count;
    if (index >= count) {
        return;
    }
    let parts = params.parts;
    var value = 0.0;
    for (var part = 0u; part < parts; part++) {
        value += input[part * count + index];
    }
    let after = after_of(params.start, params.relu, params.seed, params.threshold, params.scale);
    y[index] = finished(value, index, index % params.features, after);
}
