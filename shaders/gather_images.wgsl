// A batch of images from the resident data set: X[b,p] = grey value of pixel p of image order[b],
// over 255.
//
// One invocation computes one `Element`. A row of the set is whole words; where an image does not fill
// them, the rest is not read.
//
// Buffers (every one read_write, because pooled tensors may share one buffer):
//   images  [count, words], four grey values a word, the first in the lowest byte
//   order   [batch]
//   x       [batch, pixels]; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

// Elements an invocation computes, as one: where an image has a multiple of four, vec4 takes the place of f32
// in these lines (`Shader::wide`).
alias Element = f32;
alias Index = u32;
const OFFSETS: Index = Index(0u);
const WIDTH: u32 = 1u;

struct Params {
    batch: u32,
    words: u32,
    pixels: u32,
}

@group(0) @binding(0) var<storage, read_write> images: array<u32>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
    let at = index * WIDTH;
    if (at >= params.batch * params.pixels) {
        return;
    }
    let pixel = at % params.pixels;
    let word = images[order[at / params.pixels] * params.words + pixel / 4u];
    let grey = (Index(word) >> (Index(8u * (pixel % 4u)) + 8u * OFFSETS)) & Index(255u);
    x[index] = Element(grey) / 255.0;
}
