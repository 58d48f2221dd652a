// The layer in one launch, as contract.wgsl computes it, in tiles that stay in registers: for
// software adapters.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          Y[w,v] = Σ_{s,k} G[w,k,s] U[s,k,v] + B[w,v]
//
// On llvmpipe a vec4 load costs as much as ten or more vec4 multiply-adds, even where all invocations
// read the same address (fitted to timings, see docs/benchmarks.md), so what counts is how often a number is used once it is there. An invocation
// computes a tile of 32 w x 8 v of one sample's output in 16 matrices. For each k and each four s it
// sums a tile of U, 4 s x 8 v, from blocks of 4 x 4 (32 vec4 multiply-adds for 12 loads), and uses
// it for all 32 w at once (256 for 32 loads). U of a tile is computed once where w is at most 32.
//
// Everything moves in blocks of 4 x 4: s, r, v and w must be multiples of 4. Of each operand one
// mode is contiguous, and a block is four vec4 along it; where that is the other mode than the
// matrices here are written for, the block is turned (`*_turned` is 1).
//
// There is no barrier and no workgroup memory, which cost much on a software adapter.
//
// Buffers (every one read_write, because pooled tensors may share one buffer), all in vec4:
//   x       X, [batch, s·r]
//   f       F
//   g       G
//   bias    B, laid out like one sample of Y; read where `start` is START_BIAS
//   y       Y, [batch, w·v]; every element is written
//   params  the struct below; strides in elements, and the contiguous mode's is 1

const WORKGROUP_SIZE: u32 = 32u;

// Extents of an invocation's tile; 4 of w or v are one matrix.
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

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> f: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> params: Params;

// sum + a b
fn multiply_add(sum: mat4x4<f32>, a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        combine(sum[0], a, b[0]),
        combine(sum[1], a, b[1]),
        combine(sum[2], a, b[2]),
        combine(sum[3], a, b[3]),
    );
}

fn combine(sum: vec4<f32>, a: mat4x4<f32>, b: vec4<f32>) -> vec4<f32> {
    let two = fma(a[1], vec4<f32>(b.y), fma(a[0], vec4<f32>(b.x), sum));
    return fma(a[3], vec4<f32>(b.w), fma(a[2], vec4<f32>(b.z), two));
}

fn turn(block: mat4x4<f32>, turned: bool) -> mat4x4<f32> {
    let other = transpose(block);
    return mat4x4<f32>(
        select(block[0], other[0], turned),
        select(block[1], other[1], turned),
        select(block[2], other[2], turned),
        select(block[3], other[3], turned),
    );
}

// Columns s, rows r.
fn load_x(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block = mat4x4<f32>(x[at], x[at + stride], x[at + 2u * stride], x[at + 3u * stride]);
    return turn(block, turned);
}

// Columns r, rows v.
fn load_f(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block = mat4x4<f32>(f[at], f[at + stride], f[at + 2u * stride], f[at + 3u * stride]);
    return turn(block, turned);
}

// Columns w, rows s.
fn load_g(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block = mat4x4<f32>(g[at], g[at + stride], g[at + 2u * stride], g[at + 3u * stride]);
    return turn(block, turned);
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
    let sample = index / tiles_v / tiles_w * WORKGROUP_SIZE + lane;
    if (sample >= params.batch) {
        return;
    }

    // A stride in vec4 of the mode that is not contiguous.
    let x_turned = params.x_r != 1u;
    let f_turned = params.f_v != 1u;
    let g_turned = params.g_s != 1u;
    let y_turned = params.y_v != 1u;
    let x_stride = max(params.x_s, params.x_r) / 4u;
    let f_stride = max(params.f_r, params.f_v) / 4u;
    let g_stride = max(params.g_w, params.g_s) / 4u;

    // Blocks past the end are clamped, computed and not stored.
    let at_x = sample * params.s * params.r;
    let at_f0 = v0 * params.f_v;
    let at_f1 = min(v0 + 4u, params.v - 4u) * params.f_v;
    let last = params.w - 4u;
    let at_g0 = min(w0, last) * params.g_w;
    let at_g1 = min(w0 + 4u, last) * params.g_w;
    let at_g2 = min(w0 + 8u, last) * params.g_w;
    let at_g3 = min(w0 + 12u, last) * params.g_w;
    let at_g4 = min(w0 + 16u, last) * params.g_w;
    let at_g5 = min(w0 + 20u, last) * params.g_w;
    let at_g6 = min(w0 + 24u, last) * params.g_w;
    let at_g7 = min(w0 + 28u, last) * params.g_w;

    // Columns w, rows v.
    var y00 = mat4x4<f32>();
    var y01 = mat4x4<f32>();
    var y10 = mat4x4<f32>();
    var y11 = mat4x4<f32>();
    var y20 = mat4x4<f32>();
    var y21 = mat4x4<f32>();
    var y30 = mat4x4<f32>();
    var y31 = mat4x4<f32>();
    var y40 = mat4x4<f32>();
    var y41 = mat4x4<f32>();
    var y50 = mat4x4<f32>();
    var y51 = mat4x4<f32>();
    var y60 = mat4x4<f32>();
    var y61 = mat4x4<f32>();
    var y70 = mat4x4<f32>();
    var y71 = mat4x4<f32>();

    for (var k = 0u; k < params.k; k++) {
        for (var s = 0u; s < params.s; s += 4u) {
            // Columns s, rows v.
            var u0 = mat4x4<f32>();
            var u1 = mat4x4<f32>();
            for (var r = 0u; r < params.r; r += 4u) {
                let block = load_x((at_x + s * params.x_s + r * params.x_r) / 4u, x_stride, x_turned);
                let at = r * params.f_r + k * params.f_k;
                u0 = multiply_add(u0, load_f((at + at_f0) / 4u, f_stride, f_turned), block);
                u1 = multiply_add(u1, load_f((at + at_f1) / 4u, f_stride, f_turned), block);
            }
            let at = k * params.g_k + s * params.g_s;
            let g0 = load_g((at + at_g0) / 4u, g_stride, g_turned);
            y00 = multiply_add(y00, u0, g0);
            y01 = multiply_add(y01, u1, g0);
            let g1 = load_g((at + at_g1) / 4u, g_stride, g_turned);
            y10 = multiply_add(y10, u0, g1);
            y11 = multiply_add(y11, u1, g1);
            let g2 = load_g((at + at_g2) / 4u, g_stride, g_turned);
            y20 = multiply_add(y20, u0, g2);
            y21 = multiply_add(y21, u1, g2);
            let g3 = load_g((at + at_g3) / 4u, g_stride, g_turned);
            y30 = multiply_add(y30, u0, g3);
            y31 = multiply_add(y31, u1, g3);
            let g4 = load_g((at + at_g4) / 4u, g_stride, g_turned);
            y40 = multiply_add(y40, u0, g4);
            y41 = multiply_add(y41, u1, g4);
            let g5 = load_g((at + at_g5) / 4u, g_stride, g_turned);
            y50 = multiply_add(y50, u0, g5);
            y51 = multiply_add(y51, u1, g5);
            let g6 = load_g((at + at_g6) / 4u, g_stride, g_turned);
            y60 = multiply_add(y60, u0, g6);
            y61 = multiply_add(y61, u1, g6);
            let g7 = load_g((at + at_g7) / 4u, g_stride, g_turned);
            y70 = multiply_add(y70, u0, g7);
            y71 = multiply_add(y71, u1, g7);
        }
    }

    // In a loop: written out, these 64 stores take the driver as long to compile as all the rest.
    var tile = array<mat4x4<f32>, 16>(
        y00, y01, y10, y11, y20, y21, y30, y31, y40, y41, y50, y51, y60, y61, y70, y71,
    );
    let y_stride = max(params.y_w, params.y_v) / 4u;
    let at_y = sample * params.w * params.v / 4u;
    for (var i = 0u; i < 16u; i++) {
        let w = w0 + i / 2u * 4u;
        let v = v0 + i % 2u * 4u;
        if (w < params.w && v < params.v) {
            let block = turn(tile[i], y_turned);
            let at = (w * params.y_w + v * params.y_v) / 4u;
            for (var column = 0u; column < 4u; column++) {
                let to = at + column * y_stride;
                var value = block[column];
                if (params.start == START_BIAS) {
                    value += bias[to];
                }
                y[at_y + to] = value;
            }
        }
    }
}
