// The layer in one launch, as contract.wgsl computes it, in tiles that stay in registers: for
// software adapters.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          Y[w,v] = Σ_{s,k} G[w,k,s] U[s,k,v] + B[w,v]
//
// On llvmpipe a vec4 load costs as much as ten or more vec4 multiply-adds, even where all invocations
// read the same address (fitted to timings, see docs/benchmarks.md), so what counts is how often a number
// is used once it is there. An invocation computes a tile of 32 w x 8 v of the outputs of two samples in
// 32 matrices. For each k and each four s it sums a tile of U of each sample, 4 s x 8 v, from blocks of
// 4 x 4 (64 vec4 multiply-adds for 16 loads), and uses both for all 32 w at once (512 for 32 loads). One
// sample takes 12 and 32 loads for half as many. U of a tile is computed once where w is at most 32.
//
// Everything moves in blocks of 4 x 4: s, r, v and w must be multiples of 4. Of each operand one
// mode is contiguous, and a block is four vec4 along it; where that is the other mode than the
// matrices here are written for, the block is transposed.
//
// There is no barrier and no workgroup memory, which cost much on a software adapter.
//
// Buffers, all in fours:
//   x       X, [batch, s·r]
//   f       F
//   g       G
//   bias    B, laid out like one sample of Y; read where `start` is START_BIAS
//   y       Y, [batch, w·v]; every element is written
//   params  the struct below; strides in elements, and the contiguous mode's is 1

const WORKGROUP_SIZE: u32 = 8u;

// Samples of an invocation, and extents of the tile of each; 4 of w or v are one matrix.
const LANE_SAMPLES: u32 = 2u;
const TILED_W: u32 = 32u;
const TILED_V: u32 = 8u;

struct Params {
    batch: u32,
    view: View,
    start: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> f: array<Quad>;
@group(0) @binding(2) var<storage, read_write> g: array<Quad>;
@group(0) @binding(3) var<storage, read_write> bias: array<Quad>;
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;
@group(0) @binding(5) var<storage, read_write> params: Params;

// Columns s, rows r; transposed where r is not contiguous.
fn load_x(at: u32, by: u32, transposed: bool) -> mat4x4<f32> {
    return to_block(x[at], x[at + by], x[at + 2u * by], x[at + 3u * by], transposed);
}

// Columns r, rows v; transposed where v is not contiguous.
fn load_f(at: u32, by: u32, transposed: bool) -> mat4x4<f32> {
    return to_block(f[at], f[at + by], f[at + 2u * by], f[at + 3u * by], transposed);
}

// Columns w, rows s; transposed where s is not contiguous.
fn load_g(at: u32, by: u32, transposed: bool) -> mat4x4<f32> {
    return to_block(g[at], g[at + by], g[at + 2u * by], g[at + 3u * by], transposed);
}

// Columns w, rows v.
fn store(sample: u32, w: u32, v: u32, tile: mat4x4<f32>) {
    let inside = sample < params.batch && w < params.view.w && v < params.view.v;
    let block = oriented(tile, params.view.y_v != 1u);
    let stride = max(params.view.y_w, params.view.y_v) / 4u;
    let at_y = sample * params.view.w * params.view.v / 4u;
    let begin = (w * params.view.y_w + v * params.view.y_v) / 4u;
    let biased = params.start == START_BIAS;
    let end = select(0u, 4u, inside);
    for (var n = 0u; n < end; n++) {
        let at = begin + n * stride;
        // The bias is read in any case: a branch around it takes longer to compile.
        let add = select(vec4<f32>(), four(bias[select(0u, at, biased)]), biased);
        y[at_y + at] = quad(column(n, block) + add);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    // Neighbouring lanes are neighbouring samples: they read the same of F and G.
    let index = workgroup_index(invocation);
    let tiles_v = (params.view.v + TILED_V - 1u) / TILED_V;
    let tiles_w = (params.view.w + TILED_W - 1u) / TILED_W;
    let v0 = index % tiles_v * TILED_V;
    let w0 = index / tiles_v % tiles_w * TILED_W;
    let sample = index / tiles_v / tiles_w * (WORKGROUP_SIZE * LANE_SAMPLES) + invocation.lane;
    if (sample >= params.batch) {
        return;
    }

    let x_transposed = params.view.x_r != 1u;
    let f_transposed = params.view.f_v != 1u;
    let g_transposed = params.view.g_s != 1u;
    // In vec4, of the mode that is not contiguous.
    let x_stride = max(params.view.x_s, params.view.x_r) / 4u;
    let f_stride = max(params.view.f_r, params.view.f_v) / 4u;
    let g_stride = max(params.view.g_w, params.view.g_s) / 4u;

    // Blocks past the end are clamped, computed and not stored; so is a second sample.
    let last = params.view.w - 4u;
    let at_x0 = sample * params.view.s * params.view.r;
    let at_x1 = min(sample + WORKGROUP_SIZE, params.batch - 1u) * params.view.s * params.view.r;
    let at_f0 = v0 * params.view.f_v;
    let at_f1 = min(v0 + 4u, params.view.v - 4u) * params.view.f_v;
    let at_g0 = min(w0, last) * params.view.g_w;
    let at_g1 = min(w0 + 4u, last) * params.view.g_w;
    let at_g2 = min(w0 + 8u, last) * params.view.g_w;
    let at_g3 = min(w0 + 12u, last) * params.view.g_w;
    let at_g4 = min(w0 + 16u, last) * params.view.g_w;
    let at_g5 = min(w0 + 20u, last) * params.view.g_w;
    let at_g6 = min(w0 + 24u, last) * params.view.g_w;
    let at_g7 = min(w0 + 28u, last) * params.view.g_w;

    // Columns w, rows v: of a sample, w and v.
    var y000 = mat4x4<f32>();
    var y001 = mat4x4<f32>();
    var y010 = mat4x4<f32>();
    var y011 = mat4x4<f32>();
    var y020 = mat4x4<f32>();
    var y021 = mat4x4<f32>();
    var y030 = mat4x4<f32>();
    var y031 = mat4x4<f32>();
    var y040 = mat4x4<f32>();
    var y041 = mat4x4<f32>();
    var y050 = mat4x4<f32>();
    var y051 = mat4x4<f32>();
    var y060 = mat4x4<f32>();
    var y061 = mat4x4<f32>();
    var y070 = mat4x4<f32>();
    var y071 = mat4x4<f32>();
    var y100 = mat4x4<f32>();
    var y101 = mat4x4<f32>();
    var y110 = mat4x4<f32>();
    var y111 = mat4x4<f32>();
    var y120 = mat4x4<f32>();
    var y121 = mat4x4<f32>();
    var y130 = mat4x4<f32>();
    var y131 = mat4x4<f32>();
    var y140 = mat4x4<f32>();
    var y141 = mat4x4<f32>();
    var y150 = mat4x4<f32>();
    var y151 = mat4x4<f32>();
    var y160 = mat4x4<f32>();
    var y161 = mat4x4<f32>();
    var y170 = mat4x4<f32>();
    var y171 = mat4x4<f32>();

    for (var k = 0u; k < params.view.k; k++) {
        for (var s = 0u; s < params.view.s; s += 4u) {
            // Columns s, rows v.
            var u00 = mat4x4<f32>();
            var u01 = mat4x4<f32>();
            var u10 = mat4x4<f32>();
            var u11 = mat4x4<f32>();
            for (var r = 0u; r < params.view.r; r += 4u) {
                let at = r * params.view.f_r + k * params.view.f_k;
                let at_block = s * params.view.x_s + r * params.view.x_r;
                let x0 = load_x((at_x0 + at_block) / 4u, x_stride, x_transposed);
                let x1 = load_x((at_x1 + at_block) / 4u, x_stride, x_transposed);
                let f0 = load_f((at + at_f0) / 4u, f_stride, f_transposed);
                u00 = multiply_add(u00, f0, x0);
                u10 = multiply_add(u10, f0, x1);
                let f1 = load_f((at + at_f1) / 4u, f_stride, f_transposed);
                u01 = multiply_add(u01, f1, x0);
                u11 = multiply_add(u11, f1, x1);
            }
            let at = k * params.view.g_k + s * params.view.g_s;
            let g0 = load_g((at + at_g0) / 4u, g_stride, g_transposed);
            y000 = multiply_add(y000, u00, g0);
            y001 = multiply_add(y001, u01, g0);
            y100 = multiply_add(y100, u10, g0);
            y101 = multiply_add(y101, u11, g0);
            let g1 = load_g((at + at_g1) / 4u, g_stride, g_transposed);
            y010 = multiply_add(y010, u00, g1);
            y011 = multiply_add(y011, u01, g1);
            y110 = multiply_add(y110, u10, g1);
            y111 = multiply_add(y111, u11, g1);
            let g2 = load_g((at + at_g2) / 4u, g_stride, g_transposed);
            y020 = multiply_add(y020, u00, g2);
            y021 = multiply_add(y021, u01, g2);
            y120 = multiply_add(y120, u10, g2);
            y121 = multiply_add(y121, u11, g2);
            let g3 = load_g((at + at_g3) / 4u, g_stride, g_transposed);
            y030 = multiply_add(y030, u00, g3);
            y031 = multiply_add(y031, u01, g3);
            y130 = multiply_add(y130, u10, g3);
            y131 = multiply_add(y131, u11, g3);
            let g4 = load_g((at + at_g4) / 4u, g_stride, g_transposed);
            y040 = multiply_add(y040, u00, g4);
            y041 = multiply_add(y041, u01, g4);
            y140 = multiply_add(y140, u10, g4);
            y141 = multiply_add(y141, u11, g4);
            let g5 = load_g((at + at_g5) / 4u, g_stride, g_transposed);
            y050 = multiply_add(y050, u00, g5);
            y051 = multiply_add(y051, u01, g5);
            y150 = multiply_add(y150, u10, g5);
            y151 = multiply_add(y151, u11, g5);
            let g6 = load_g((at + at_g6) / 4u, g_stride, g_transposed);
            y060 = multiply_add(y060, u00, g6);
            y061 = multiply_add(y061, u01, g6);
            y160 = multiply_add(y160, u10, g6);
            y161 = multiply_add(y161, u11, g6);
            let g7 = load_g((at + at_g7) / 4u, g_stride, g_transposed);
            y070 = multiply_add(y070, u00, g7);
            y071 = multiply_add(y071, u01, g7);
            y170 = multiply_add(y170, u10, g7);
            y171 = multiply_add(y171, u11, g7);
        }
    }

    // A loop whose end the driver does not see; see `pick`.
    let eight = select(0u, 8u, params.batch > 0u);
    let sample_1 = sample + WORKGROUP_SIZE;
    for (var t = 0u; t < eight; t++) {
        let w = w0 + 4u * t;
        let low00 = pick(t, y000, y010, y020, y030);
        let high00 = pick(t - 4u, y040, y050, y060, y070);
        store(sample, w, v0, choose(t >= 4u, low00, high00));
        let low01 = pick(t, y001, y011, y021, y031);
        let high01 = pick(t - 4u, y041, y051, y061, y071);
        store(sample, w, v0 + 4u, choose(t >= 4u, low01, high01));
        let low10 = pick(t, y100, y110, y120, y130);
        let high10 = pick(t - 4u, y140, y150, y160, y170);
        store(sample_1, w, v0, choose(t >= 4u, low10, high10));
        let low11 = pick(t, y101, y111, y121, y131);
        let high11 = pick(t - 4u, y141, y151, y161, y171);
        store(sample_1, w, v0 + 4u, choose(t >= 4u, low11, high11));
    }
}
