// The gradient by the core F, summed over groups of samples, in tiles that stay in registers: for
// software adapters.
//
//   V[s,k,v] = Σ_w G[w,k,s] D[w,v]          partial[r,k,v] = Σ_{b in group, s} X[s,r] V[s,k,v]
//
// The letters, the blocks of 4 x 4 and the reasons are those of contract_tiled.wgsl, groups and
// launches those of grad_g_tiled.wgsl. An invocation computes a tile of 32 r x 8 v at one k. A tile
// of V is summed once for all 32 r; recomputing T = A X instead, as grad_core.wgsl does to serve both
// cores, would cost half as much again at the article's extents.
//
// Buffers (every one read_write, because pooled tensors may share one buffer), all in vec4:
//   x        X, [batch, s·r]
//   g        G
//   grad_y   D, [batch, w·v]
//   partial  [groups, r·k·v], each laid out like F; every element is written
//   params   the struct below; strides in elements, and the contiguous mode's is 1

const WORKGROUP_SIZE: u32 = 16u;
const TILED_R: u32 = 32u;
const TILED_V: u32 = 8u;

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

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let tiles_v = (params.v + TILED_V - 1u) / TILED_V;
    let tiles_r = (params.r + TILED_R - 1u) / TILED_R;
    let k = index % params.k;
    let v0 = index / params.k % tiles_v * TILED_V;
    let r0 = index / params.k / tiles_v % tiles_r * TILED_R;
    let group = index / params.k / tiles_v / tiles_r * WORKGROUP_SIZE + lane;
    if (group >= params.groups) {
        return;
    }

    // A stride in vec4 of the mode that is not contiguous.
    let x_turned = params.x_s != 1u;
    let g_turned = params.g_w != 1u;
    let y_turned = params.y_v != 1u;
    let f_turned = params.f_v != 1u;
    let x_stride = max(params.x_s, params.x_r) / 4u;
    let g_stride = max(params.g_w, params.g_s) / 4u;
    let y_stride = max(params.y_w, params.y_v) / 4u;
    let f_stride = max(params.f_r, params.f_v) / 4u;

    // Blocks past the end are clamped, computed and not stored.
    let at_v0 = v0 * params.y_v;
    let at_v1 = min(v0 + 4u, params.v - 4u) * params.y_v;
    let last = params.r - 4u;
    let at_x0 = min(r0 + 0u, last) * params.x_r;
    let at_x1 = min(r0 + 4u, last) * params.x_r;
    let at_x2 = min(r0 + 8u, last) * params.x_r;
    let at_x3 = min(r0 + 12u, last) * params.x_r;
    let at_x4 = min(r0 + 16u, last) * params.x_r;
    let at_x5 = min(r0 + 20u, last) * params.x_r;
    let at_x6 = min(r0 + 24u, last) * params.x_r;
    let at_x7 = min(r0 + 28u, last) * params.x_r;

    // Columns r, rows v.
    var f00 = mat4x4<f32>();
    var f01 = mat4x4<f32>();
    var f10 = mat4x4<f32>();
    var f11 = mat4x4<f32>();
    var f20 = mat4x4<f32>();
    var f21 = mat4x4<f32>();
    var f30 = mat4x4<f32>();
    var f31 = mat4x4<f32>();
    var f40 = mat4x4<f32>();
    var f41 = mat4x4<f32>();
    var f50 = mat4x4<f32>();
    var f51 = mat4x4<f32>();
    var f60 = mat4x4<f32>();
    var f61 = mat4x4<f32>();
    var f70 = mat4x4<f32>();
    var f71 = mat4x4<f32>();

    for (var b = params.b_begin + group; b < params.b_end; b += params.groups) {
        let at_d = b * params.w * params.v;
        for (var s = 0u; s < params.s; s += 4u) {
            // Columns s, rows v.
            var v_0 = mat4x4<f32>();
            var v_1 = mat4x4<f32>();
            for (var w = 0u; w < params.w; w += 4u) {
                let at_g = w * params.g_w + k * params.g_k + s * params.g_s;
                let block = load_g(at_g / 4u, g_stride, g_turned);
                let at = at_d + w * params.y_w;
                v_0 = multiply_add(v_0, load_grad_y((at + at_v0) / 4u, y_stride, y_turned), block);
                v_1 = multiply_add(v_1, load_grad_y((at + at_v1) / 4u, y_stride, y_turned), block);
            }
            let at = b * params.s * params.r + s * params.x_s;
            let x0 = load_x((at + at_x0) / 4u, x_stride, x_turned);
            f00 = multiply_add(f00, v_0, x0);
            f01 = multiply_add(f01, v_1, x0);
            let x1 = load_x((at + at_x1) / 4u, x_stride, x_turned);
            f10 = multiply_add(f10, v_0, x1);
            f11 = multiply_add(f11, v_1, x1);
            let x2 = load_x((at + at_x2) / 4u, x_stride, x_turned);
            f20 = multiply_add(f20, v_0, x2);
            f21 = multiply_add(f21, v_1, x2);
            let x3 = load_x((at + at_x3) / 4u, x_stride, x_turned);
            f30 = multiply_add(f30, v_0, x3);
            f31 = multiply_add(f31, v_1, x3);
            let x4 = load_x((at + at_x4) / 4u, x_stride, x_turned);
            f40 = multiply_add(f40, v_0, x4);
            f41 = multiply_add(f41, v_1, x4);
            let x5 = load_x((at + at_x5) / 4u, x_stride, x_turned);
            f50 = multiply_add(f50, v_0, x5);
            f51 = multiply_add(f51, v_1, x5);
            let x6 = load_x((at + at_x6) / 4u, x_stride, x_turned);
            f60 = multiply_add(f60, v_0, x6);
            f61 = multiply_add(f61, v_1, x6);
            let x7 = load_x((at + at_x7) / 4u, x_stride, x_turned);
            f70 = multiply_add(f70, v_0, x7);
            f71 = multiply_add(f71, v_1, x7);
        }
    }

    // In a loop: written out, the stores take the driver long to compile.
    var tile = array<mat4x4<f32>, 16>(
        f00, f01, f10, f11, f20, f21, f30, f31, f40, f41, f50, f51, f60, f61, f70, f71,
    );
    let at_partial = group * params.r * params.k * params.v + k * params.f_k;
    for (var i = 0u; i < 16u; i++) {
        let r = r0 + i / 2u * 4u;
        let v = v0 + i % 2u * 4u;
        if (r < params.r && v < params.v) {
            let block = turn(tile[i], f_turned);
            let at = (at_partial + r * params.f_r + v * params.f_v) / 4u;
            for (var column = 0u; column < 4u; column++) {
                let to = at + column * f_stride;
                var value = block[column];
                if (params.add != 0u) {
                    value += partial[to];
                }
                partial[to] = value;
            }
        }
    }
}
