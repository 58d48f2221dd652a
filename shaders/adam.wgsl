// One step of Adam over a weight, in place, in one pass:
//
//   mean   = β₁ mean + (1 - β₁) grad
//   square = β₂ square + (1 - β₂) grad²
//   value -= size · mean / (√square + ε)
//
// with the corrections of the moments folded into size and ε by the caller.
//
// One invocation computes one element.
//
// Buffers (every one read_write, because pooled tensors may share one buffer):
//   grad    [count]
//   value   [count]; every element is read and written, as of the next two
//   mean    [count]
//   square  [count]
//   params  the struct below; all but count are the bits of an f32

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    beta_1: u32,
    beta_2: u32,
    size: u32,
    epsilon: u32,
}

@group(0) @binding(0) var<storage, read_write> grad: array<f32>;
@group(0) @binding(1) var<storage, read_write> value: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> square: array<f32>;
@group(0) @binding(4) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
    if (index >= params.count) {
        return;
    }
    let beta_1 = bitcast<f32>(params.beta_1);
    let beta_2 = bitcast<f32>(params.beta_2);
    let d = grad[index];
    let m = beta_1 * mean[index] + (1.0 - beta_1) * d;
    let s = beta_2 * square[index] + (1.0 - beta_2) * d * d;
    mean[index] = m;
    square[index] = s;
    value[index] -= bitcast<f32>(params.size) * m / (sqrt(s) + bitcast<f32>(params.epsilon));
}
