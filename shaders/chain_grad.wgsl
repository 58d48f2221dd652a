// The gradient by a core of a chain, as partial sums over groups of p.
//
//   partial[s,q] = Σ_{p in group, r} D[p,s,r] T[p,q,r]
//
// The letters are those of chain_step.wgsl, D is the gradient by `out`. One invocation computes TILE elements of one group's
// partial sum that share q: a number of T is loaded once for TILE sums. The groups are added up by sum_rows.wgsl, in a fixed
// order, so the same inputs give the same bits. A long group is summed in several launches, which add to `partial` where
// `add` is 1; `p_begin` and `p_end` count from the first p of a group.
//
// Buffers:
//   t        T; where `ones` is 1 it is not read, and all its numbers are 1
//   d        D
//   partial  [groups, s·q], each laid out like the core; all is written
//   params   the struct below

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
    groups: u32,
    group_size: u32,
    add: u32,
    p_begin: u32,
    p_end: u32,
    r_begin: u32,
    r_end: u32,
}

@group(0) @binding(0) var<storage, read_write> t: array<f32>;
@group(0) @binding(1) var<storage, read_write> d: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: Params;

fn store(at: u32, s: u32, sum: f32) {
    if (s >= extent(params.s)) {
        return;
    }
    let at_s = at + offsets(params.s, s).x;
    if (params.add != 0u) {
        partial[at_s] += sum;
    } else {
        partial[at_s] = sum;
    }
}

// Where s begins in D. Beyond the last s it is that of the last.
fn row(s: u32) -> u32 {
    return offsets(params.s, min(s, extent(params.s) - 1u)).y;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let terms = extent(params.q);
    let tiles = (extent(params.s) + TILE - 1u) / TILE;
    let q = index % terms;
    let s = index / terms % tiles * TILE;
    let group = index / terms / tiles;
    if (group >= params.groups) {
        return;
    }

    let rows = vec4<u32>(row(s), row(s + 1u), row(s + 2u), row(s + 3u));
    let of_q = offsets(params.q, q);
    var sum = vec4<f32>();
    let first = group * params.group_size;
    let end = min(first + params.p_end, params.p);
    for (var p = first + params.p_begin; p < end; p++) {
        for (var r = params.r_begin; r < params.r_end; r++) {
            var number = 1.0;
            if (params.ones == 0u) {
                number = t[p * params.p_t + of_q.y + r * params.r_t];
            }
            let at = rows + p * params.p_out + r * params.r_out;
            sum += number * vec4<f32>(d[at.x], d[at.y], d[at.z], d[at.w]);
        }
    }

    let to = group * extent(params.s) * terms + of_q.x;
    store(to, s, sum.x);
    store(to, s + 1u, sum.y);
    store(to, s + 2u, sum.z);
    store(to, s + 3u, sum.w);
}
