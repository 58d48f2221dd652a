// A core of a chain, contracted with a tensor: a step of src/mps/chain/steps.rs.
//
//   out[p,s,r] = Σ_q G[s,q] T[p,q,r]
//
// s and q are three modes of the core each, s = (s_0, s_1, s_2), with a stride in the core and another in `out` or `t`. Of a
// batch, p counts the samples too.
//
// One invocation computes TILE elements that share p and r, so that a number of T is loaded once for TILE sums. Neighbours
// differ in r first: they load neighbours of T, and the same numbers of G. As in contract.wgsl, a long range of q is summed
// in several launches.
//
// Buffers:
//   core    G
//   t       T; where `ones` is 1 it is not read, and all its numbers are 1
//   bias    [bias_count], one for each output of a sample, read where `start` is START_BIAS
//   out     all is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;
const TILE: u32 = 4u;

struct Params {
    p: u32,
    p_t: u32,
    p_out: u32,
    r: u32,
    r_t: u32,
    r_out: u32,
    s: CoreModes,
    q: CoreModes,
    ones: u32,
    start: u32,
    bias_count: u32,
    q_begin: u32,
    q_end: u32,
}

@group(0) @binding(0) var<storage, read_write> core: array<f32>;
@group(0) @binding(1) var<storage, read_write> t: array<f32>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read_write> params: Params;

fn store(at: u32, s: u32, sum: f32) {
    if (s >= extent(params.s)) {
        return;
    }
    let at_s = at + offsets(params.s, s).y;
    if (params.start == START_OUTPUT) {
        out[at_s] += sum;
    } else if (params.start == START_BIAS) {
        out[at_s] = sum + bias[at_s % params.bias_count];
    } else {
        out[at_s] = sum;
    }
}

// Where s begins in the core. Beyond the last s it is that of the last.
fn row(s: u32) -> u32 {
    return offsets(params.s, min(s, extent(params.s) - 1u)).x;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let tiles = (extent(params.s) + TILE - 1u) / TILE;
    let r = index % params.r;
    let s = index / params.r % tiles * TILE;
    let p = index / params.r / tiles;
    if (p >= params.p) {
        return;
    }

    let rows = vec4<u32>(row(s), row(s + 1u), row(s + 2u), row(s + 3u));
    let at = p * params.p_t + r * params.r_t;
    var sum = vec4<f32>();
    for (var q = params.q_begin; q < params.q_end; q++) {
        let of_q = offsets(params.q, q);
        let g = rows + of_q.x;
        var number = 1.0;
        if (params.ones == 0u) {
            number = t[at + of_q.y];
        }
        sum += number * vec4<f32>(core[g.x], core[g.y], core[g.z], core[g.w]);
    }
    let to = p * params.p_out + r * params.r_out;
    store(to, s, sum.x);
    store(to, s + 1u, sum.y);
    store(to, s + 2u, sum.z);
    store(to, s + 3u, sum.w);
}
