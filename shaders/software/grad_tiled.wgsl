// The gradient by one core, summed over groups of samples, in tiles that stay in registers: for
// software adapters.
//
//   T[i,q] = Σ_h core[h,k,i] first[h,q]          partial[p,k,q] = Σ_{b in group, i} second[p,i] T[i,q]
//
// The other core meets the layer's input X or the gradient D of its output, then the other of the two:
//
//   gradient by   core   first   second   h   i   p   q
//   G             F      X       D        r   v   w   s
//   F             G      D       X        w   s   r   v
//
// in the letters of contract.wgsl. Both in one kernel, because it takes llvmpipe 1.7 s to compile. For the
// blocks of 4 x 4 and the reasons see contract_tiled.wgsl. An invocation computes a tile of 32 p x 16 q at
// one k, summed over the samples of one group, which are `groups` apart; sum_grads.wgsl adds the groups
// up, in a fixed order. A tile of T, 4 i x 16 q, is summed once for all 32 p (64 vec4 multiply-adds for 20
// loads, then 512 for 32).
//
// Where a group has so many samples that the driver would end the loop (see contract.wgsl), the sum
// is taken in several launches over the samples b_begin to b_end, the later ones with `add` 1.
//
// Buffers (every one read_write, because pooled tensors may share one buffer), all in fours:
//   core     F or G
//   first    X, [batch, s·r], or D, [batch, w·v]
//   second   D or X
//   partial  [groups, p·k·q], each laid out like the gradient; every element is written
//   params   the struct below; strides in elements, and the contiguous mode's is 1

const WORKGROUP_SIZE: u32 = 8u;

// Extents of an invocation's tile.
const TILED_P: u32 = 32u;
const TILED_Q: u32 = 16u;

struct Params {
    batch: u32,
    h: u32,
    i: u32,
    p: u32,
    q: u32,
    k: u32,
    core_h: u32,
    core_k: u32,
    core_i: u32,
    first_h: u32,
    first_q: u32,
    second_p: u32,
    second_i: u32,
    grad_p: u32,
    grad_k: u32,
    grad_q: u32,
    groups: u32,
    b_begin: u32,
    b_end: u32,
    add: u32,
}

@group(0) @binding(0) var<storage, read_write> core: array<Quad>;
@group(0) @binding(1) var<storage, read_write> first: array<Quad>;
@group(0) @binding(2) var<storage, read_write> second: array<Quad>;
@group(0) @binding(3) var<storage, read_write> partial: array<Quad>;
@group(0) @binding(4) var<storage, read_write> params: Params;

// Columns i, rows h; turned where h is not contiguous.
fn load_core(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let begin = at / 4u;
    let by = stride / 4u;
    let block = mat4x4<f32>(
        four(core[begin]),
        four(core[begin + by]),
        four(core[begin + 2u * by]),
        four(core[begin + 3u * by]),
    );
    return turn(block, turned);
}

// Columns h, rows q; turned where q is not contiguous.
fn load_first(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let begin = at / 4u;
    let by = stride / 4u;
    let block = mat4x4<f32>(
        four(first[begin]),
        four(first[begin + by]),
        four(first[begin + 2u * by]),
        four(first[begin + 3u * by]),
    );
    return turn(block, turned);
}

// Columns p, rows i; turned where i is not contiguous.
fn load_second(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let begin = at / 4u;
    let by = stride / 4u;
    let block = mat4x4<f32>(
        four(second[begin]),
        four(second[begin + by]),
        four(second[begin + 2u * by]),
        four(second[begin + 3u * by]),
    );
    return turn(block, turned);
}

// Columns p, rows q.
fn store(at: u32, p: u32, q: u32, tile: mat4x4<f32>) {
    let inside = p < params.p && q < params.q;
    let block = turn(tile, params.grad_q != 1u);
    let stride = max(params.grad_p, params.grad_q) / 4u;
    let begin = (at + p * params.grad_p + q * params.grad_q) / 4u;
    let end = select(0u, 4u, inside);
    for (var n = 0u; n < end; n++) {
        let to = begin + n * stride;
        // What there was is read in any case: a branch around it takes longer to compile.
        let before = select(vec4<f32>(), four(partial[to]), params.add != 0u);
        partial[to] = quad(column(n, block) + before);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let tiles_q = (params.q + TILED_Q - 1u) / TILED_Q;
    let tiles_p = (params.p + TILED_P - 1u) / TILED_P;
    let k = index % params.k;
    let q0 = index / params.k % tiles_q * TILED_Q;
    let p0 = index / params.k / tiles_q % tiles_p * TILED_P;
    let group = index / params.k / tiles_q / tiles_p * WORKGROUP_SIZE + lane;
    if (group >= params.groups) {
        return;
    }

    let core_turned = params.core_h != 1u;
    let first_turned = params.first_q != 1u;
    let second_turned = params.second_i != 1u;
    // Of the mode that is not contiguous.
    let core_stride = max(params.core_h, params.core_i);
    let first_stride = max(params.first_h, params.first_q);
    let second_stride = max(params.second_p, params.second_i);

    // Blocks past the end are clamped, computed and not stored.
    let last_q = params.q - 4u;
    let last_p = params.p - 4u;
    let at_q0 = min(q0, last_q) * params.first_q;
    let at_q1 = min(q0 + 4u, last_q) * params.first_q;
    let at_q2 = min(q0 + 8u, last_q) * params.first_q;
    let at_q3 = min(q0 + 12u, last_q) * params.first_q;
    let at_p0 = min(p0, last_p) * params.second_p;
    let at_p1 = min(p0 + 4u, last_p) * params.second_p;
    let at_p2 = min(p0 + 8u, last_p) * params.second_p;
    let at_p3 = min(p0 + 12u, last_p) * params.second_p;
    let at_p4 = min(p0 + 16u, last_p) * params.second_p;
    let at_p5 = min(p0 + 20u, last_p) * params.second_p;
    let at_p6 = min(p0 + 24u, last_p) * params.second_p;
    let at_p7 = min(p0 + 28u, last_p) * params.second_p;

    // Columns p, rows q: numbered by p and q.
    var sum00 = mat4x4<f32>();
    var sum01 = mat4x4<f32>();
    var sum02 = mat4x4<f32>();
    var sum03 = mat4x4<f32>();
    var sum10 = mat4x4<f32>();
    var sum11 = mat4x4<f32>();
    var sum12 = mat4x4<f32>();
    var sum13 = mat4x4<f32>();
    var sum20 = mat4x4<f32>();
    var sum21 = mat4x4<f32>();
    var sum22 = mat4x4<f32>();
    var sum23 = mat4x4<f32>();
    var sum30 = mat4x4<f32>();
    var sum31 = mat4x4<f32>();
    var sum32 = mat4x4<f32>();
    var sum33 = mat4x4<f32>();
    var sum40 = mat4x4<f32>();
    var sum41 = mat4x4<f32>();
    var sum42 = mat4x4<f32>();
    var sum43 = mat4x4<f32>();
    var sum50 = mat4x4<f32>();
    var sum51 = mat4x4<f32>();
    var sum52 = mat4x4<f32>();
    var sum53 = mat4x4<f32>();
    var sum60 = mat4x4<f32>();
    var sum61 = mat4x4<f32>();
    var sum62 = mat4x4<f32>();
    var sum63 = mat4x4<f32>();
    var sum70 = mat4x4<f32>();
    var sum71 = mat4x4<f32>();
    var sum72 = mat4x4<f32>();
    var sum73 = mat4x4<f32>();

    for (var b = params.b_begin + group; b < params.b_end; b += params.groups) {
        let at_first = b * params.h * params.q;
        let at_second = b * params.p * params.i;
        for (var i = 0u; i < params.i; i += 4u) {
            // Columns i, rows q.
            var t0 = mat4x4<f32>();
            var t1 = mat4x4<f32>();
            var t2 = mat4x4<f32>();
            var t3 = mat4x4<f32>();
            let at_core = k * params.core_k + i * params.core_i;
            for (var h = 0u; h < params.h; h += 4u) {
                let c = load_core(at_core + h * params.core_h, core_stride, core_turned);
                let at = at_first + h * params.first_h;
                let x0 = load_first(at + at_q0, first_stride, first_turned);
                t0 = multiply_add(t0, x0, c);
                let x1 = load_first(at + at_q1, first_stride, first_turned);
                t1 = multiply_add(t1, x1, c);
                let x2 = load_first(at + at_q2, first_stride, first_turned);
                t2 = multiply_add(t2, x2, c);
                let x3 = load_first(at + at_q3, first_stride, first_turned);
                t3 = multiply_add(t3, x3, c);
            }
            let at = at_second + i * params.second_i;
            let d0 = load_second(at + at_p0, second_stride, second_turned);
            sum00 = multiply_add(sum00, t0, d0);
            sum01 = multiply_add(sum01, t1, d0);
            sum02 = multiply_add(sum02, t2, d0);
            sum03 = multiply_add(sum03, t3, d0);
            let d1 = load_second(at + at_p1, second_stride, second_turned);
            sum10 = multiply_add(sum10, t0, d1);
            sum11 = multiply_add(sum11, t1, d1);
            sum12 = multiply_add(sum12, t2, d1);
            sum13 = multiply_add(sum13, t3, d1);
            let d2 = load_second(at + at_p2, second_stride, second_turned);
            sum20 = multiply_add(sum20, t0, d2);
            sum21 = multiply_add(sum21, t1, d2);
            sum22 = multiply_add(sum22, t2, d2);
            sum23 = multiply_add(sum23, t3, d2);
            let d3 = load_second(at + at_p3, second_stride, second_turned);
            sum30 = multiply_add(sum30, t0, d3);
            sum31 = multiply_add(sum31, t1, d3);
            sum32 = multiply_add(sum32, t2, d3);
            sum33 = multiply_add(sum33, t3, d3);
            let d4 = load_second(at + at_p4, second_stride, second_turned);
            sum40 = multiply_add(sum40, t0, d4);
            sum41 = multiply_add(sum41, t1, d4);
            sum42 = multiply_add(sum42, t2, d4);
            sum43 = multiply_add(sum43, t3, d4);
            let d5 = load_second(at + at_p5, second_stride, second_turned);
            sum50 = multiply_add(sum50, t0, d5);
            sum51 = multiply_add(sum51, t1, d5);
            sum52 = multiply_add(sum52, t2, d5);
            sum53 = multiply_add(sum53, t3, d5);
            let d6 = load_second(at + at_p6, second_stride, second_turned);
            sum60 = multiply_add(sum60, t0, d6);
            sum61 = multiply_add(sum61, t1, d6);
            sum62 = multiply_add(sum62, t2, d6);
            sum63 = multiply_add(sum63, t3, d6);
            let d7 = load_second(at + at_p7, second_stride, second_turned);
            sum70 = multiply_add(sum70, t0, d7);
            sum71 = multiply_add(sum71, t1, d7);
            sum72 = multiply_add(sum72, t2, d7);
            sum73 = multiply_add(sum73, t3, d7);
        }
    }

    // A loop whose end the driver does not see; see `pick`.
    let eight = select(0u, 8u, params.batch > 0u);
    let at_grad = group * params.p * params.k * params.q + k * params.grad_k;
    for (var t = 0u; t < eight; t++) {
        let p = p0 + 4u * t;
        let low0 = pick(t, sum00, sum10, sum20, sum30);
        let high0 = pick(t - 4u, sum40, sum50, sum60, sum70);
        store(at_grad, p, q0, choose(t >= 4u, low0, high0));
        let low1 = pick(t, sum01, sum11, sum21, sum31);
        let high1 = pick(t - 4u, sum41, sum51, sum61, sum71);
        store(at_grad, p, q0 + 4u, choose(t >= 4u, low1, high1));
        let low2 = pick(t, sum02, sum12, sum22, sum32);
        let high2 = pick(t - 4u, sum42, sum52, sum62, sum72);
        store(at_grad, p, q0 + 8u, choose(t >= 4u, low2, high2));
        let low3 = pick(t, sum03, sum13, sum23, sum33);
        let high3 = pick(t - 4u, sum43, sum53, sum63, sum73);
        store(at_grad, p, q0 + 12u, choose(t >= 4u, low3, high3));
    }
}
