// A batch of images from the resident data set: X[b,p] = grey value of pixel p of image order[b],
// over 255.
//
// One invocation computes the four pixels of one word. A row of the set is whole words; where an
// image does not fill them, the rest is not read.
//
// Buffers (every one read_write, because pooled tensors may share one buffer):
//   images  [count, words], four grey values a word, the first in the lowest byte
//   order   [batch]
//   x       [batch, pixels]; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    batch: u32,
    words: u32,
    pixels: u32,
}

@group(0) @binding(0) var<storage, read_write> images: array<u32>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
    if (index >= params.batch * params.words) {
        return;
    }
    let b = index / params.words;
    let word = index % params.words;
    let grey = images[order[b] * params.words + word];
    for (var i = 0u; i < min(4u, params.pixels - word * 4u); i++) {
        x[b * params.pixels + word * 4u + i] = f32((grey >> (8u * i)) & 255u) / 255.0;
    }
}
