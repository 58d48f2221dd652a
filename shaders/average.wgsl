// The step of a mean of weights, in place:
//
//   mean[i] = inertia · mean[i] + (1 - inertia) · state[i]
//
// Buffers:
//   state   the values first, as many as there are means or more
//   words   what changes from step to step; `inertia` is the fourth of them
//   mean    [count] elements
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
}

@group(0) @binding(0) var<storage, read_write> state: array<Element>;
@group(0) @binding(1) var<storage, read_write> words: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<Element>;
@group(0) @binding(3) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let inertia = words[3];
    mean[index] = inertia * mean[index] + (1.0 - inertia) * state[index];
}
