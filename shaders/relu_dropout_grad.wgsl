// The gradient of relu_dropout.wgsl, in place: D[i] is scaled where the output Y[i] is above 0, which
// means that it was positive and kept; else it becomes 0.
//
// One invocation computes one element.
//
// Buffers (every one read_write, because pooled tensors may share one buffer):
//   y       [count]
//   grad_y  D, [count]; every element is read and written
//   params  the struct below; scale is the bits of an f32

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    scale: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad_y: array<f32>;
@group(0) @binding(2) var<storage, read_write> params: Params;

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
    grad_y[index] = select(0.0, grad_y[index] * bitcast<f32>(params.scale), y[index] > 0.0);
}
