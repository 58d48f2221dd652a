// ReLU where `relu` is 1, then dropout, in place: X[i] is kept and scaled where it is above 0 (or there is no ReLU)
// and the hash of i and the seed is not below the threshold; else it becomes 0. A NaN stays one. A threshold of 0 and a
// scale of 1 drop nothing. Without ReLU it is its own gradient.
//
// The hash is `lowbias32` by Chris Wellons, once for each half of the seed: the CPU draws the same.
//
// Buffers:
//   x       [count] elements; every one is read and written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    relu: u32,
    seed_low: u32,
    seed_high: u32,
    threshold: u32,
    scale: f32,
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
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let seeded = Index(index * WIDTH) + OFFSETS + Index(params.seed_low);
    let drawn = hash(hash(seeded) ^ Index(params.seed_high));
    let scale = Element(params.scale);
    let kept = select(Element(0.0), scale, drawn >= Index(params.threshold));
    let value = x[index];
    var y = value * kept;
    if (params.relu == 1u) {
        y = select(y, Element(0.0), value <= Element(0.0));
    }
    x[index] = y;
}
