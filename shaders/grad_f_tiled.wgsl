// The gradient by the core F, summed over groups of samples, in tiles that stay in registers: for
// software adapters.
//
//   V[s,k,v] = Σ_w G[w,k,s] D[w,v]          partial[r,k,v] = Σ_{b in group, s} X[s,r] V[s,k,v]
//
// The letters, the blocks of 4 x 4 and the reasons are those of contract_tiled.wgsl, groups and
// launches those of grad_g_tiled.wgsl. An invocation computes a tile of 32 r x 16 v at one k. A tile
// of V, 4 s x 16 v, is summed once for all 32 r (64 vec4 multiply-adds for 20 loads, then 512 for 32);
// recomputing T = A X instead, as grad_core.wgsl does to serve both cores, would cost half as much again
// at the article's extents.
//
// Buffers (every one read_write, because pooled tensors may share one buffer), all in vec4:
//   x        X, [batch, s·r]
//   g        G
//   grad_y   D, [batch, w·v]
//   partial  [groups, r·k·v], each laid out like F; every element is written
//   params   the struct below; strides in elements, and the contiguous mode's is 1

const WORKGROUP_SIZE: u32 = 8u;

// Extents of an invocation's tile.
const TILED_R: u32 = 32u;
const TILED_GRAD_V: u32 = 16u;

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
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
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

// Columns s, rows w.
fn load_g(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block =
        mat4x4<f32>(g[at], g[at + stride], g[at + 2u * stride], g[at + 3u * stride]);
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

fn store(at_partial: u32, r: u32, v: u32, tile: mat4x4<f32>) {
    if (r >= params.r || v >= params.v) {
        return;
    }
    let block = turn(tile, params.f_v != 1u);
    let stride = max(params.f_r, params.f_v) / 4u;
    let at = (at_partial + r * params.f_r + v * params.f_v) / 4u;
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
    let tiles_v = (params.v + TILED_GRAD_V - 1u) / TILED_GRAD_V;
    let tiles_r = (params.r + TILED_R - 1u) / TILED_R;
    let k = index % params.k;
    let v0 = index / params.k % tiles_v * TILED_GRAD_V;
    let r0 = index / params.k / tiles_v % tiles_r * TILED_R;
    let group = index / params.k / tiles_v / tiles_r * WORKGROUP_SIZE + lane;
    if (group >= params.groups) {
        return;
    }

    // A stride in vec4 of the mode that is not contiguous.
    let x_turned = params.x_s != 1u;
    let g_turned = params.g_w != 1u;
    let y_turned = params.y_v != 1u;
    let x_stride = max(params.x_s, params.x_r) / 4u;
    let g_stride = max(params.g_w, params.g_s) / 4u;
    let y_stride = max(params.y_w, params.y_v) / 4u;

    // Blocks past the end are clamped, computed and not stored.
    let last = params.r - 4u;
    let at_v0 = min(v0, params.v - 4u) * params.y_v;
    let at_v1 = min(v0 + 4u, params.v - 4u) * params.y_v;
    let at_v2 = min(v0 + 8u, params.v - 4u) * params.y_v;
    let at_v3 = min(v0 + 12u, params.v - 4u) * params.y_v;
    let at_x0 = min(r0, last) * params.x_r;
    let at_x1 = min(r0 + 4u, last) * params.x_r;
    let at_x2 = min(r0 + 8u, last) * params.x_r;
    let at_x3 = min(r0 + 12u, last) * params.x_r;
    let at_x4 = min(r0 + 16u, last) * params.x_r;
    let at_x5 = min(r0 + 20u, last) * params.x_r;
    let at_x6 = min(r0 + 24u, last) * params.x_r;
    let at_x7 = min(r0 + 28u, last) * params.x_r;

    // Columns r, rows v.
    var h00 = mat4x4<f32>();
    var h01 = mat4x4<f32>();
    var h02 = mat4x4<f32>();
    var h03 = mat4x4<f32>();
    var h10 = mat4x4<f32>();
    var h11 = mat4x4<f32>();
    var h12 = mat4x4<f32>();
    var h13 = mat4x4<f32>();
    var h20 = mat4x4<f32>();
    var h21 = mat4x4<f32>();
    var h22 = mat4x4<f32>();
    var h23 = mat4x4<f32>();
    var h30 = mat4x4<f32>();
    var h31 = mat4x4<f32>();
    var h32 = mat4x4<f32>();
    var h33 = mat4x4<f32>();
    var h40 = mat4x4<f32>();
    var h41 = mat4x4<f32>();
    var h42 = mat4x4<f32>();
    var h43 = mat4x4<f32>();
    var h50 = mat4x4<f32>();
    var h51 = mat4x4<f32>();
    var h52 = mat4x4<f32>();
    var h53 = mat4x4<f32>();
    var h60 = mat4x4<f32>();
    var h61 = mat4x4<f32>();
    var h62 = mat4x4<f32>();
    var h63 = mat4x4<f32>();
    var h70 = mat4x4<f32>();
    var h71 = mat4x4<f32>();
    var h72 = mat4x4<f32>();
    var h73 = mat4x4<f32>();

    for (var b = params.b_begin + group; b < params.b_end; b += params.groups) {
        let at_d = b * params.w * params.v;
        for (var s = 0u; s < params.s; s += 4u) {
            // Columns s, rows v.
            var v00 = mat4x4<f32>();
            var v01 = mat4x4<f32>();
            var v02 = mat4x4<f32>();
            var v03 = mat4x4<f32>();
            for (var w = 0u; w < params.w; w += 4u) {
                let at_g = w * params.g_w + k * params.g_k;
                let at = at_d + w * params.y_w;
                let g0 = load_g((at_g + s * params.g_s) / 4u, g_stride, g_turned);
                let d0 = load_grad_y((at + at_v0) / 4u, y_stride, y_turned);
                v00 = multiply_add(v00, d0, g0);
                let d1 = load_grad_y((at + at_v1) / 4u, y_stride, y_turned);
                v01 = multiply_add(v01, d1, g0);
                let d2 = load_grad_y((at + at_v2) / 4u, y_stride, y_turned);
                v02 = multiply_add(v02, d2, g0);
                let d3 = load_grad_y((at + at_v3) / 4u, y_stride, y_turned);
                v03 = multiply_add(v03, d3, g0);
            }
            let at0 = b * params.s * params.r + s * params.x_s;
            let x00 = load_x((at0 + at_x0) / 4u, x_stride, x_turned);
            h00 = multiply_add(h00, v00, x00);
            h01 = multiply_add(h01, v01, x00);
            h02 = multiply_add(h02, v02, x00);
            h03 = multiply_add(h03, v03, x00);
            let x10 = load_x((at0 + at_x1) / 4u, x_stride, x_turned);
            h10 = multiply_add(h10, v00, x10);
            h11 = multiply_add(h11, v01, x10);
            h12 = multiply_add(h12, v02, x10);
            h13 = multiply_add(h13, v03, x10);
            let x20 = load_x((at0 + at_x2) / 4u, x_stride, x_turned);
            h20 = multiply_add(h20, v00, x20);
            h21 = multiply_add(h21, v01, x20);
            h22 = multiply_add(h22, v02, x20);
            h23 = multiply_add(h23, v03, x20);
            let x30 = load_x((at0 + at_x3) / 4u, x_stride, x_turned);
            h30 = multiply_add(h30, v00, x30);
            h31 = multiply_add(h31, v01, x30);
            h32 = multiply_add(h32, v02, x30);
            h33 = multiply_add(h33, v03, x30);
            let x40 = load_x((at0 + at_x4) / 4u, x_stride, x_turned);
            h40 = multiply_add(h40, v00, x40);
            h41 = multiply_add(h41, v01, x40);
            h42 = multiply_add(h42, v02, x40);
            h43 = multiply_add(h43, v03, x40);
            let x50 = load_x((at0 + at_x5) / 4u, x_stride, x_turned);
            h50 = multiply_add(h50, v00, x50);
            h51 = multiply_add(h51, v01, x50);
            h52 = multiply_add(h52, v02, x50);
            h53 = multiply_add(h53, v03, x50);
            let x60 = load_x((at0 + at_x6) / 4u, x_stride, x_turned);
            h60 = multiply_add(h60, v00, x60);
            h61 = multiply_add(h61, v01, x60);
            h62 = multiply_add(h62, v02, x60);
            h63 = multiply_add(h63, v03, x60);
            let x70 = load_x((at0 + at_x7) / 4u, x_stride, x_turned);
            h70 = multiply_add(h70, v00, x70);
            h71 = multiply_add(h71, v01, x70);
            h72 = multiply_add(h72, v02, x70);
            h73 = multiply_add(h73, v03, x70);
        }
    }

    // A loop whose end the driver does not see, or it would unroll it.
    let four = select(0u, 4u, params.batch > 0u);
    let at_partial = group * params.r * params.k * params.v + k * params.f_k;
    for (var t = 0u; t < four; t++) {
        let r = r0 + 8u * t;
        store(at_partial, r, v0, pick(t, h00, h20, h40, h60));
        store(at_partial, r, v0 + 4u, pick(t, h01, h21, h41, h61));
        store(at_partial, r, v0 + 8u, pick(t, h02, h22, h42, h62));
        store(at_partial, r, v0 + 12u, pick(t, h03, h23, h43, h63));
        store(at_partial, r + 4u, v0, pick(t, h10, h30, h50, h70));
        store(at_partial, r + 4u, v0 + 4u, pick(t, h11, h31, h51, h71));
        store(at_partial, r + 4u, v0 + 8u, pick(t, h12, h32, h52, h72));
        store(at_partial, r + 4u, v0 + 12u, pick(t, h13, h33, h53, h73));
    }
}
