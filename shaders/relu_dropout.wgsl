// ReLU, then dropout, in place: X[i] is kept and scaled where it is above 0 and the hash of i and the
// seed is not below the threshold; else it becomes 0. A NaN stays one.
//
// The hash is `lowbias32` by Chris Wellons, once for each half of the seed: the CPU draws the same.
//
// One invocation computes one element.
//
// Buffers (every one read_write, because pooled tensors may share one buffer):
//   x       [count]; every element is read and written
//   params  the struct below; scale is the bits of an f32

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    seed_low: u32,
    seed_high: u32,
    threshold: u32,
    scale: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> params: Params;

fn hash(value: u32) -> u32 {
    var bits = value;
    bits ^= bits >> 16u;
    bits *= 0x7feb352du;
    bits ^= bits >> 15u;
    bits *= 0x846ca68bu;
    return bits ^ (bits >> 16u);
}

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
    let drawn = hash(hash(index + params.seed_low) ^ params.seed_high);
    let kept = select(0.0, bitcast<f32>(params.scale), drawn >= params.threshold);
    let value = x[index];
    x[index] = select(value * kept, 0.0, value <= 0.0);
}
