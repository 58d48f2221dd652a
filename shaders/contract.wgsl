// The layer in one launch: both contractions and the bias, for the whole batch.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          Y[w,v] = Σ_{s,k} G[w,k,s] U[s,k,v] + B[w,v]
//
// in the letters of src/mps/view.rs, where the core that meets the input first is F and the other one G.
// grad_x is the same contraction with the output's gradient as X, the transposed cores as F and G,
// and no bias. Extents and strides arrive in `params`, so one pipeline serves every layer, order
// and batch.
//
// A driver may end loops that run for long (llvmpipe does after 65,535 iterations of an
// invocation, and leaves a wrong sum). Y is linear in each range that is summed over, so where the
// ranges of r, k and s are long the sum is taken in several launches, the later ones adding to Y.
//
// One invocation computes TILE_W outputs of one sample that share v. This is the plain kernel: it
// needs no workgroup memory and no barrier.
//
// Buffers:
//   x       X, [batch, s·r], strides x_s, x_r
//   f       F, strides f_r, f_k, f_v
//   g       G, strides g_w, g_k, g_s
//   bias    B, laid out like one sample of Y; read where `start` is START_BIAS
//   y       Y, [batch, w·v], strides y_w, y_v; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    batch: u32,
    view: View,
    start: u32,
    s_begin: u32,
    s_end: u32,
    k_begin: u32,
    k_end: u32,
    r_begin: u32,
    r_end: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> f: array<f32>;
@group(0) @binding(2) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> params: Params;

fn store(sample: u32, w: u32, v: u32, value: f32) {
    if (w >= params.view.w) {
        return;
    }
    let at = w * params.view.y_w + v * params.view.y_v;
    let at_y = sample * params.view.w * params.view.v + at;
    var result = value;
    if (params.start == START_BIAS) {
        result += bias[at];
    } else if (params.start == START_OUTPUT) {
        result += y[at_y];
    }
    y[at_y] = result;
}

fn store4(sample: u32, w: u32, v: u32, value: vec4<f32>) {
    store(sample, w, v, value.x);
    store(sample, w + 1u, v, value.y);
    store(sample, w + 2u, v, value.z);
    store(sample, w + 3u, v, value.w);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    // v varies fastest: neighbouring lanes read neighbouring elements of F and one of X.
    let index = invocation_index(invocation);
    let tiles = (params.view.w + TILE_W - 1u) / TILE_W;
    let v = index % params.view.v;
    let tile = index / params.view.v % tiles;
    let sample = index / params.view.v / tiles;
    if (sample >= params.batch) {
        return;
    }

    let w0 = tile * TILE_W;
    let rows0 = four_rows(w0, params.view.g_w);
    let rows1 = four_rows(w0 + 4u, params.view.g_w);
    let rows2 = four_rows(w0 + 8u, params.view.g_w);
    let rows3 = four_rows(w0 + 12u, params.view.g_w);
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();

    for (var s = params.s_begin; s < params.s_end; s++) {
        for (var k = params.k_begin; k < params.k_end; k++) {
            let u = partial_u(sample, s, k, v);
            let at_g = k * params.view.g_k + s * params.view.g_s;
            let g0 = rows0 + at_g;
            let g1 = rows1 + at_g;
            let g2 = rows2 + at_g;
            let g3 = rows3 + at_g;
            sum0 += u * vec4<f32>(g[g0.x], g[g0.y], g[g0.z], g[g0.w]);
            sum1 += u * vec4<f32>(g[g1.x], g[g1.y], g[g1.z], g[g1.w]);
            sum2 += u * vec4<f32>(g[g2.x], g[g2.y], g[g2.z], g[g2.w]);
            sum3 += u * vec4<f32>(g[g3.x], g[g3.y], g[g3.z], g[g3.w]);
        }
    }

    store4(sample, w0, v, sum0);
    store4(sample, w0 + 4u, v, sum1);
    store4(sample, w0 + 8u, v, sum2);
    store4(sample, w0 + 12u, v, sum3);
}
