// ReLU, then dropout, in place: X[i] is kept and scaled where it is above 0 and the hash of i and the
// seed is not below the threshold; else it becomes 0. A NaN stays one.
//
// The hash is `lowbias32` by Chris Wellons, once for each half of the seed: the CPU draws the same.
//
// One invocation computes one `Element`.
//
// Buffers (every one read_write, because pooled tensors may share one buffer):
//   x       [count] elements; every one is read and written
//   params  the struct below; scale is the bits of an f32

const WORKGROUP_SIZE: u32 = 64u;

// Elements an invocation computes, as one: where their number allows it, vec4 takes the place of f32 in
// these lines (`Shader::wide`), since a load costs llvmpipe nearly the same for both.
alias Element = f32;
alias Index = u32;
const OFFSETS: Index = Index(0u);
const WIDTH: u32 = 1u;

struct Params {
    count: u32,
    seed_low: u32,
    seed_high: u32,
    threshold: u32,
    scale: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> params: Params;

fn hash(value: Index) -> Index {
    var bits = value;
    bits ^= bits >> Index(16u);
    bits *= 0x7feb352du;
    bits ^= bits >> Index(15u);
    bits *= 0x846ca68bu;
    return bits ^ (bits >> Index(16u));
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
    let seeded = Index(index * WIDTH) + OFFSETS + Index(params.seed_low);
    let drawn = hash(hash(seeded) ^ Index(params.seed_high));
    let scale = Element(bitcast<f32>(params.scale));
    let kept = select(Element(0.0), scale, drawn >= Index(params.threshold));
    let value = x[index];
    x[index] = select(value * kept, Element(0.0), value <= Element(0.0));
}
