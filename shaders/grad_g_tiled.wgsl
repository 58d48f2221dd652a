// The gradient by the core G, summed over groups of samples, in tiles that stay in registers: for
// software adapters.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          partial[w,k,s] = Σ_{b in group, v} D[w,v] U[s,k,v]
//
// The letters, the blocks of 4 x 4 and the reasons are those of contract_tiled.wgsl. An invocation
// computes a tile of 32 w x 4 s at one k, summed over the samples of one group, which are `groups`
// apart; sum_rows.wgsl adds the groups up, in a fixed order. A tile of U is summed once for all 32 w.
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

const WORKGROUP_SIZE: u32 = 16u;
const TILED_W: u32 = 32u;

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

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let tiles_s = params.s / 4u;
    let tiles_w = (params.w + TILED_W - 1u) / TILED_W;
    let k = index % params.k;
    let s = index / params.k % tiles_s * 4u;
    let w0 = index / params.k / tiles_s % tiles_w * TILED_W;
    let group = index / params.k / tiles_s / tiles_w * WORKGROUP_SIZE + lane;
    if (group >= params.groups) {
        return;
    }

    // A stride in vec4 of the mode that is not contiguous.
    let x_turned = params.x_s != 1u;
    let f_turned = params.f_r != 1u;
    let y_turned = params.y_v != 1u;
    let g_turned = params.g_s != 1u;
    let x_stride = max(params.x_s, params.x_r) / 4u;
    let f_stride = max(params.f_r, params.f_v) / 4u;
    let y_stride = max(params.y_w, params.y_v) / 4u;
    let g_stride = max(params.g_w, params.g_s) / 4u;

    // Blocks past the end are clamped, computed and not stored.
    let last = params.w - 4u;
    let at_d0 = min(w0 + 0u, last) * params.y_w;
    let at_d1 = min(w0 + 4u, last) * params.y_w;
    let at_d2 = min(w0 + 8u, last) * params.y_w;
    let at_d3 = min(w0 + 12u, last) * params.y_w;
    let at_d4 = min(w0 + 16u, last) * params.y_w;
    let at_d5 = min(w0 + 20u, last) * params.y_w;
    let at_d6 = min(w0 + 24u, last) * params.y_w;
    let at_d7 = min(w0 + 28u, last) * params.y_w;

    // Columns w, rows s.
    var g0 = mat4x4<f32>();
    var g1 = mat4x4<f32>();
    var g2 = mat4x4<f32>();
    var g3 = mat4x4<f32>();
    var g4 = mat4x4<f32>();
    var g5 = mat4x4<f32>();
    var g6 = mat4x4<f32>();
    var g7 = mat4x4<f32>();

    for (var b = params.b_begin + group; b < params.b_end; b += params.groups) {
        let at_x = b * params.s * params.r + s * params.x_s;
        for (var v = 0u; v < params.v; v += 4u) {
            // Columns v, rows s.
            var u = mat4x4<f32>();
            for (var r = 0u; r < params.r; r += 4u) {
                let block = load_x((at_x + r * params.x_r) / 4u, x_stride, x_turned);
                let at = r * params.f_r + k * params.f_k + v * params.f_v;
                u = multiply_add(u, block, load_f(at / 4u, f_stride, f_turned));
            }
            let at = b * params.w * params.v + v * params.y_v;
            g0 = multiply_add(g0, u, load_grad_y((at + at_d0) / 4u, y_stride, y_turned));
            g1 = multiply_add(g1, u, load_grad_y((at + at_d1) / 4u, y_stride, y_turned));
            g2 = multiply_add(g2, u, load_grad_y((at + at_d2) / 4u, y_stride, y_turned));
            g3 = multiply_add(g3, u, load_grad_y((at + at_d3) / 4u, y_stride, y_turned));
            g4 = multiply_add(g4, u, load_grad_y((at + at_d4) / 4u, y_stride, y_turned));
            g5 = multiply_add(g5, u, load_grad_y((at + at_d5) / 4u, y_stride, y_turned));
            g6 = multiply_add(g6, u, load_grad_y((at + at_d6) / 4u, y_stride, y_turned));
            g7 = multiply_add(g7, u, load_grad_y((at + at_d7) / 4u, y_stride, y_turned));
        }
    }

    // In a loop: written out, the stores take the driver long to compile.
    var tile = array<mat4x4<f32>, 8>(g0, g1, g2, g3, g4, g5, g6, g7);
    let at_partial = group * params.w * params.k * params.s + k * params.g_k + s * params.g_s;
    for (var i = 0u; i < 8u; i++) {
        let w = w0 + 4u * i;
        if (w < params.w) {
            let block = turn(tile[i], g_turned);
            let at = (at_partial + w * params.g_w) / 4u;
            for (var column = 0u; column < 4u; column++) {
                let to = at + column * g_stride;
                var value = block[column];
                if (params.add != 0u) {
                    value += partial[to];
                }
                partial[to] = value;
            }
        }
    }
}
