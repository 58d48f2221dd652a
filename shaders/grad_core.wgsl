// The gradient by one core, summed over a group of samples.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          partial[w,k,s] = Σ_{b in group, v} D[w,v] U[s,k,v]
//
// D is the gradient of the loss by the output. In the letters of src/mps/view.rs grad_a is the gradient by G with
// C first, and grad_c that with A first.
//
// U is recomputed: keeping it would cost s·k·v numbers per sample, more than the input itself.
// The groups' partial sums are added up by sum_rows.wgsl, in a fixed order, so the same inputs give
// the same bits; float atomics would not.
//
// One invocation computes TILE_W elements of one group's partial sum that share k and s. As in
// contract.wgsl, long ranges of samples, v and r are summed in several launches: `b_begin` and
// `b_end` count from a group's first sample, and where `add` is 1 a launch adds to `partial`.
//
// Buffers:
//   x        X, [batch, s·r], strides x_s, x_r
//   f        F, strides f_r, f_k, f_v
//   grad_y   D, [batch, w·v], strides y_w, y_v
//   partial  [groups, w·k·s], each laid out like G with strides g_w, g_k, g_s; all is written
//   params   the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    batch: u32,
    view: View,
    groups: u32,
    group_size: u32,
    add: u32,
    b_begin: u32,
    b_end: u32,
    v_begin: u32,
    v_end: u32,
    r_begin: u32,
    r_end: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> f: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_y: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;
@group(0) @binding(4) var<storage, read_write> params: Params;

fn store(at: u32, w: u32, value: f32) {
    if (w >= params.view.w) {
        return;
    }
    let at_w = at + w * params.view.g_w;
    if (params.add != 0u) {
        partial[at_w] += value;
    } else {
        partial[at_w] = value;
    }
}

fn store4(at: u32, w: u32, value: vec4<f32>) {
    store(at, w, value.x);
    store(at, w + 1u, value.y);
    store(at, w + 2u, value.z);
    store(at, w + 3u, value.w);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let tiles = (params.view.w + TILE_W - 1u) / TILE_W;
    let s = index % params.view.s;
    let k = index / params.view.s % params.view.k;
    let tile = index / params.view.s / params.view.k % tiles;
    let group = index / params.view.s / params.view.k / tiles;
    if (group >= params.groups) {
        return;
    }

    let w0 = tile * TILE_W;
    let rows0 = four_rows(w0, params.view.y_w);
    let rows1 = four_rows(w0 + 4u, params.view.y_w);
    let rows2 = four_rows(w0 + 8u, params.view.y_w);
    let rows3 = four_rows(w0 + 12u, params.view.y_w);
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();

    let first = group * params.group_size;
    let end = min(first + params.b_end, params.batch);
    for (var sample = first + params.b_begin; sample < end; sample++) {
        for (var v = params.v_begin; v < params.v_end; v++) {
            let u = partial_u(sample, s, k, v);
            let at_d = sample * params.view.w * params.view.v + v * params.view.y_v;
            let d0 = rows0 + at_d;
            let d1 = rows1 + at_d;
            let d2 = rows2 + at_d;
            let d3 = rows3 + at_d;
            sum0 += u * vec4<f32>(grad_y[d0.x], grad_y[d0.y], grad_y[d0.z], grad_y[d0.w]);
            sum1 += u * vec4<f32>(grad_y[d1.x], grad_y[d1.y], grad_y[d1.z], grad_y[d1.w]);
            sum2 += u * vec4<f32>(grad_y[d2.x], grad_y[d2.y], grad_y[d2.z], grad_y[d2.w]);
            sum3 += u * vec4<f32>(grad_y[d3.x], grad_y[d3.y], grad_y[d3.z], grad_y[d3.w]);
        }
    }

    let at = group * params.view.w * params.view.k * params.view.s + k * params.view.g_k + s * params.view.g_s;
    store4(at, w0, sum0);
    store4(at, w0 + 4u, sum1);
    store4(at, w0 + 8u, sum2);
    store4(at, w0 + 12u, sum3);
}
