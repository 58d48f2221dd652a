// The gradient by the core G, summed over groups of samples, in tiles that stay in registers: for
// software adapters.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          partial[w,k,s] = Σ_{b in group, v} D[w,v] U[s,k,v]
//
// The letters, the blocks of 4 x 4 and the reasons are those of contract_tiled.wgsl. An invocation
// computes a tile of 32 w x 8 s at one k, summed over the samples of one group, which are `groups`
// apart; sum_rows.wgsl adds the groups up, in a fixed order. A tile of U, 8 s x 8 v, is summed once for
// all 32 w (64 vec4 multiply-adds for 16 loads, then 512 for 64).
//
// Where a group has so many samples that the driver would end the loop (see contract.wgsl), the sum
// is taken in several launches over the samples b_begin to b_end, the later ones with `add` 1.
//
// Buffers (every one read_write, because pooled tensors may share one buffer), all in vec4:
//   x        X, [batch, s·r]
//   f        F
//   grad_y   D, [batch, w·v]
//   partial  [groups, w·k·s], each laid out like G; every element is written
//   params   the struct below; strides in elements, and the contiguous mode's is 1

const WORKGROUP_SIZE: u32 = 8u;

// Extents of an invocation's tile.
const TILED_W: u32 = 32u;
const TILED_S: u32 = 8u;

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
    groups: u32,
    b_begin: u32,
    b_end: u32,
    add: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> f: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> params: Params;

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

// Columns r, rows s.
fn load_x(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block =
        mat4x4<f32>(x[at], x[at + stride], x[at + 2u * stride], x[at + 3u * stride]);
    return turn(block, turned);
}

// Columns v, rows r.
fn load_f(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block =
        mat4x4<f32>(f[at], f[at + stride], f[at + 2u * stride], f[at + 3u * stride]);
    return turn(block, turned);
}

// Columns w, rows v.
fn load_grad_y(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block =
        mat4x4<f32>(grad_y[at], grad_y[at + stride], grad_y[at + 2u * stride], grad_y[at + 3u * stride]);
    return turn(block, turned);
}

// The t-th of four: a chain of selects. An array indexed by a loop variable becomes branches, and stores
// written out for each matrix take the driver longer to compile than all the rest.
fn pick(t: u32, a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>) -> mat4x4<f32> {
    return choose(t >= 2u, choose(t == 1u, a, b), choose(t == 3u, c, d));
}

fn choose(other: bool, a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        select(a[0], b[0], other),
        select(a[1], b[1], other),
        select(a[2], b[2], other),
        select(a[3], b[3], other),
    );
}

fn store(at_partial: u32, w: u32, s: u32, tile: mat4x4<f32>) {
    if (w >= params.w || s >= params.s) {
        return;
    }
    let block = turn(tile, params.g_s != 1u);
    let stride = max(params.g_w, params.g_s) / 4u;
    let at = (at_partial + w * params.g_w + s * params.g_s) / 4u;
    store_column(at, block[0]);
    store_column(at + stride, block[1]);
    store_column(at + 2u * stride, block[2]);
    store_column(at + 3u * stride, block[3]);
}

// What there was is read in any case: a branch around it takes longer to compile.
fn store_column(at: u32, column: vec4<f32>) {
    let before = partial[at];
    partial[at] = column + select(vec4<f32>(), before, params.add != 0u);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let tiles_s = (params.s + TILED_S - 1u) / TILED_S;
    let tiles_w = (params.w + TILED_W - 1u) / TILED_W;
    let k = index % params.k;
    let s0 = index / params.k % tiles_s * TILED_S;
    let w0 = index / params.k / tiles_s % tiles_w * TILED_W;
    let group = index / params.k / tiles_s / tiles_w * WORKGROUP_SIZE + lane;
    if (group >= params.groups) {
        return;
    }

    // A stride in vec4 of the mode that is not contiguous.
    let x_turned = params.x_s != 1u;
    let f_turned = params.f_r != 1u;
    let y_turned = params.y_v != 1u;
    let x_stride = max(params.x_s, params.x_r) / 4u;
    let f_stride = max(params.f_r, params.f_v) / 4u;
    let y_stride = max(params.y_w, params.y_v) / 4u;

    // Blocks past the end are clamped, computed and not stored.
    let last = params.w - 4u;
    let at_d0 = min(w0, last) * params.y_w;
    let at_d1 = min(w0 + 4u, last) * params.y_w;
    let at_d2 = min(w0 + 8u, last) * params.y_w;
    let at_d3 = min(w0 + 12u, last) * params.y_w;
    let at_d4 = min(w0 + 16u, last) * params.y_w;
    let at_d5 = min(w0 + 20u, last) * params.y_w;
    let at_d6 = min(w0 + 24u, last) * params.y_w;
    let at_d7 = min(w0 + 28u, last) * params.y_w;
    let at_s0 = min(s0, params.s - 4u) * params.x_s;
    let at_s1 = min(s0 + 4u, params.s - 4u) * params.x_s;

    // Columns w, rows s.
    var g00 = mat4x4<f32>();
    var g01 = mat4x4<f32>();
    var g10 = mat4x4<f32>();
    var g11 = mat4x4<f32>();
    var g20 = mat4x4<f32>();
    var g21 = mat4x4<f32>();
    var g30 = mat4x4<f32>();
    var g31 = mat4x4<f32>();
    var g40 = mat4x4<f32>();
    var g41 = mat4x4<f32>();
    var g50 = mat4x4<f32>();
    var g51 = mat4x4<f32>();
    var g60 = mat4x4<f32>();
    var g61 = mat4x4<f32>();
    var g70 = mat4x4<f32>();
    var g71 = mat4x4<f32>();

    for (var b = params.b_begin + group; b < params.b_end; b += params.groups) {
        let at_x = b * params.s * params.r;
        for (var v = 0u; v < params.v; v += 8u) {
            let v1 = min(v + 4u, params.v - 4u);
            // Columns v, rows s.
            var u00 = mat4x4<f32>();
            var u01 = mat4x4<f32>();
            var u10 = mat4x4<f32>();
            var u11 = mat4x4<f32>();
            for (var r = 0u; r < params.r; r += 4u) {
                let at = at_x + r * params.x_r;
                let at_f = r * params.f_r + k * params.f_k;
                let x0 = load_x((at + at_s0) / 4u, x_stride, x_turned);
                let x1 = load_x((at + at_s1) / 4u, x_stride, x_turned);
                let f0 = load_f((at_f + v * params.f_v) / 4u, f_stride, f_turned);
                u00 = multiply_add(u00, x0, f0);
                u10 = multiply_add(u10, x1, f0);
                let f1 = load_f((at_f + v1 * params.f_v) / 4u, f_stride, f_turned);
                u01 = multiply_add(u01, x0, f1);
                u11 = multiply_add(u11, x1, f1);
            }
            // A second block past the end counts for nothing.
            u01 = choose(v + 4u >= params.v, u01, mat4x4<f32>());
            u11 = choose(v + 4u >= params.v, u11, mat4x4<f32>());
            let at0 = b * params.w * params.v + v * params.y_v;
            let d00 = load_grad_y((at0 + at_d0) / 4u, y_stride, y_turned);
            g00 = multiply_add(g00, u00, d00);
            g01 = multiply_add(g01, u10, d00);
            let d10 = load_grad_y((at0 + at_d1) / 4u, y_stride, y_turned);
            g10 = multiply_add(g10, u00, d10);
            g11 = multiply_add(g11, u10, d10);
            let d20 = load_grad_y((at0 + at_d2) / 4u, y_stride, y_turned);
            g20 = multiply_add(g20, u00, d20);
            g21 = multiply_add(g21, u10, d20);
            let d30 = load_grad_y((at0 + at_d3) / 4u, y_stride, y_turned);
            g30 = multiply_add(g30, u00, d30);
            g31 = multiply_add(g31, u10, d30);
            let d40 = load_grad_y((at0 + at_d4) / 4u, y_stride, y_turned);
            g40 = multiply_add(g40, u00, d40);
            g41 = multiply_add(g41, u10, d40);
            let d50 = load_grad_y((at0 + at_d5) / 4u, y_stride, y_turned);
            g50 = multiply_add(g50, u00, d50);
            g51 = multiply_add(g51, u10, d50);
            let d60 = load_grad_y((at0 + at_d6) / 4u, y_stride, y_turned);
            g60 = multiply_add(g60, u00, d60);
            g61 = multiply_add(g61, u10, d60);
            let d70 = load_grad_y((at0 + at_d7) / 4u, y_stride, y_turned);
            g70 = multiply_add(g70, u00, d70);
            g71 = multiply_add(g71, u10, d70);
            let at1 = b * params.w * params.v + v1 * params.y_v;
            let d01 = load_grad_y((at1 + at_d0) / 4u, y_stride, y_turned);
            g00 = multiply_add(g00, u01, d01);
            g01 = multiply_add(g01, u11, d01);
            let d11 = load_grad_y((at1 + at_d1) / 4u, y_stride, y_turned);
            g10 = multiply_add(g10, u01, d11);
            g11 = multiply_add(g11, u11, d11);
            let d21 = load_grad_y((at1 + at_d2) / 4u, y_stride, y_turned);
            g20 = multiply_add(g20, u01, d21);
            g21 = multiply_add(g21, u11, d21);
            let d31 = load_grad_y((at1 + at_d3) / 4u, y_stride, y_turned);
            g30 = multiply_add(g30, u01, d31);
            g31 = multiply_add(g31, u11, d31);
            let d41 = load_grad_y((at1 + at_d4) / 4u, y_stride, y_turned);
            g40 = multiply_add(g40, u01, d41);
            g41 = multiply_add(g41, u11, d41);
            let d51 = load_grad_y((at1 + at_d5) / 4u, y_stride, y_turned);
            g50 = multiply_add(g50, u01, d51);
            g51 = multiply_add(g51, u11, d51);
            let d61 = load_grad_y((at1 + at_d6) / 4u, y_stride, y_turned);
            g60 = multiply_add(g60, u01, d61);
            g61 = multiply_add(g61, u11, d61);
            let d71 = load_grad_y((at1 + at_d7) / 4u, y_stride, y_turned);
            g70 = multiply_add(g70, u01, d71);
            g71 = multiply_add(g71, u11, d71);
        }
    }

    // A loop whose end the driver does not see, or it would unroll it.
    let four = select(0u, 4u, params.batch > 0u);
    let at_partial = group * params.w * params.k * params.s + k * params.g_k;
    for (var t = 0u; t < four; t++) {
        let w = w0 + 8u * t;
        store(at_partial, w, s0, pick(t, g00, g20, g40, g60));
        store(at_partial, w, s0 + 4u, pick(t, g01, g21, g41, g61));
        store(at_partial, w + 4u, s0, pick(t, g10, g30, g50, g70));
        store(at_partial, w + 4u, s0 + 4u, pick(t, g11, g31, g51, g71));
    }
}
