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
// matrices here are written for, the block is turned.
//
// There is no barrier and no workgroup memory, which cost much on a software adapter.
//
// Buffers (every one read_write, because pooled tensors may share one buffer), all in fours:
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

// What the sum begins with: nothing, or the bias.
const START_BIAS: u32 = 1u;

struct Params {
    batch: u32,
    s: u32,
    r: u32,
    v: u32,
    w: u32,
    k: u32,
    x_s: u32,
    x_r: u32,
    f_r: u32,
    f_k: u32,
    f_v: u32,
    g_w: u32,
    g_k: u32,
    g_s: u32,
    y_w: u32,
    y_v: u32,
    start: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> f: array<Quad>;
@group(0) @binding(2) var<storage, read_write> g: array<Quad>;
@group(0) @binding(3) var<storage, read_write> bias: array<Quad>;
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;
@group(0) @binding(5) var<storage, read_write> params: Params;

// Columns s, rows r; turned where r is not contiguous.
fn load_x(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let begin = at / 4u;
    let by = stride / 4u;
    let block = mat4x4<f32>(
        four(x[begin]),
        four(x[begin + by]),
        four(x[begin + 2u * by]),
        four(x[begin + 3u * by]),
    );
    return turn(block, turned);
}

// Columns r, rows v; turned where v is not contiguous.
fn load_f(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let begin = at / 4u;
    let by = stride / 4u;
    let block = mat4x4<f32>(
        four(f[begin]),
        four(f[begin + by]),
        four(f[begin + 2u * by]),
        four(f[begin + 3u * by]),
    );
    return turn(block, turned);
}

// Columns w, rows s; turned where s is not contiguous.
fn load_g(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let begin = at / 4u;
    let by = stride / 4u;
    let block = mat4x4<f32>(
        four(g[begin]),
        four(g[begin + by]),
        four(g[begin + 2u * by]),
        four(g[begin + 3u * by]),
    );
    return turn(block, turned);
}

// Columns w, rows v.
fn store(sample: u32, w: u32, v: u32, tile: mat4x4<f32>) {
    let inside = sample < params.batch && w < params.w && v < params.v;
    let block = turn(tile, params.y_v != 1u);
    let stride = max(params.y_w, params.y_v) / 4u;
    let at_y = sample * params.w * params.v / 4u;
    let begin = (w * params.y_w + v * params.y_v) / 4u;
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
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Neighbouring lanes are neighbouring samples: they read the same of F and G.
    let index = workgroup.y * workgroups.x + workgroup.x;
    let tiles_v = (params.v + TILED_V - 1u) / TILED_V;
    let tiles_w = (params.w + TILED_W - 1u) / TILED_W;
    let v0 = index % tiles_v * TILED_V;
    let w0 = index / tiles_v % tiles_w * TILED_W;
    let sample = index / tiles_v / tiles_w * (WORKGROUP_SIZE * LANE_SAMPLES) + lane;
    if (sample >= params.batch) {
        return;
    }

    let x_turned = params.x_r != 1u;
    let f_turned = params.f_v != 1u;
    let g_turned = params.g_s != 1u;
    // Of the mode that is not contiguous.
    let x_stride = max(params.x_s, params.x_r);
    let f_stride = max(params.f_r, params.f_v);
    let g_stride = max(params.g_w, params.g_s);

    // Blocks past the end are clamped, computed and not stored; so is a second sample.
    let last = params.w - 4u;
    let at_x0 = sample * params.s * params.r;
    let at_x1 = min(sample + WORKGROUP_SIZE, params.batch - 1u) * params.s * params.r;
    let at_f0 = v0 * params.f_v;
    let at_f1 = min(v0 + 4u, params.v - 4u) * params.f_v;
    let at_g0 = min(w0, last) * params.g_w;
    let at_g1 = min(w0 + 4u, last) * params.g_w;
    let at_g2 = min(w0 + 8u, last) * params.g_w;
    let at_g3 = min(w0 + 12u, last) * params.g_w;
    let at_g4 = min(w0 + 16u, last) * params.g_w;
    let at_g5 = min(w0 + 20u, last) * params.g_w;
    let at_g6 = min(w0 + 24u, last) * params.g_w;
    let at_g7 = min(w0 + 28u, last) * params.g_w;

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

    for (var k = 0u; k < params.k; k++) {
        for (var s = 0u; s < params.s; s += 4u) {
            // Columns s, rows v.
            var u00 = mat4x4<f32>();
            var u01 = mat4x4<f32>();
            var u10 = mat4x4<f32>();
            var u11 = mat4x4<f32>();
            for (var r = 0u; r < params.r; r += 4u) {
                let at = r * params.f_r + k * params.f_k;
                let at_block = s * params.x_s + r * params.x_r;
                let x0 = load_x(at_x0 + at_block, x_stride, x_turned);
                let x1 = load_x(at_x1 + at_block, x_stride, x_turned);
                let f0 = load_f(at + at_f0, f_stride, f_turned);
                u00 = multiply_add(u00, f0, x0);
                u10 = multiply_add(u10, f0, x1);
                let f1 = load_f(at + at_f1, f_stride, f_turned);
                u01 = multiply_add(u01, f1, x0);
                u11 = multiply_add(u11, f1, x1);
            }
            let at = k * params.g_k + s * params.g_s;
            let g0 = load_g(at + at_g0, g_stride, g_turned);
            y000 = multiply_add(y000, u00, g0);
            y001 = multiply_add(y001, u01, g0);
            y100 = multiply_add(y100, u10, g0);
            y101 = multiply_add(y101, u11, g0);
            let g1 = load_g(at + at_g1, g_stride, g_turned);
            y010 = multiply_add(y010, u00, g1);
            y011 = multiply_add(y011, u01, g1);
            y110 = multiply_add(y110, u10, g1);
            y111 = multiply_add(y111, u11, g1);
            let g2 = load_g(at + at_g2, g_stride, g_turned);
            y020 = multiply_add(y020, u00, g2);
            y021 = multiply_add(y021, u01, g2);
            y120 = multiply_add(y120, u10, g2);
            y121 = multiply_add(y121, u11, g2);
            let g3 = load_g(at + at_g3, g_stride, g_turned);
            y030 = multiply_add(y030, u00, g3);
            y031 = multiply_add(y031, u01, g3);
            y130 = multiply_add(y130, u10, g3);
            y131 = multiply_add(y131, u11, g3);
            let g4 = load_g(at + at_g4, g_stride, g_turned);
            y040 = multiply_add(y040, u00, g4);
            y041 = multiply_add(y041, u01, g4);
            y140 = multiply_add(y140, u10, g4);
            y141 = multiply_add(y141, u11, g4);
            let g5 = load_g(at + at_g5, g_stride, g_turned);
            y050 = multiply_add(y050, u00, g5);
            y051 = multiply_add(y051, u01, g5);
            y150 = multiply_add(y150, u10, g5);
            y151 = multiply_add(y151, u11, g5);
            let g6 = load_g(at + at_g6, g_stride, g_turned);
            y060 = multiply_add(y060, u00, g6);
            y061 = multiply_add(y061, u01, g6);
            y160 = multiply_add(y160, u10, g6);
            y161 = multiply_add(y161, u11, g6);
            let g7 = load_g(at + at_g7, g_stride, g_turned);
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
