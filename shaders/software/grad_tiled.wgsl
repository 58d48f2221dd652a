// The gradient by one core, as grad_core.wgsl computes it, in tiles that stay in registers: for software
// adapters.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          partial[w,k,s] = Σ_{b in group, v} D[w,v] U[s,k,v]
//
// is the gradient by G. The gradient by F is the same of the reversed view (src/mps/view.rs): D takes the
// place of X, and G that of F.
//
// An invocation computes a tile of 32 w x 16 s at one k, summed over the samples of one group, which are
// `groups` apart; sum_grads.wgsl adds the groups up, in a fixed order. A tile of U, 4 v x 16 s, is summed once
// for all 32 w (64 vec4 multiply-adds for 20 loads, then 512 for 32). For the blocks of 4 x 4 and the reasons
// see contract_tiled.wgsl.
//
// Where a group has so many samples that the driver would end the loop (see contract.wgsl), the sum
// is taken in several launches over the samples b_begin to b_end, the later ones with `add` 1.
//
// Buffers, all in fours:
//   f        F
//   x        X, [batch, s·r]
//   grad_y   D, [batch, w·v]
//   partial  [groups, w·k·s], each laid out like G; every element is written
//   params   the struct below; the contiguous modes' strides are 1

const WORKGROUP_SIZE: u32 = 8u;

// Extents of an invocation's tile.
const GRAD_TILED_W: u32 = 32u;
const GRAD_TILED_S: u32 = 16u;

struct Params {
    batch: u32,
    view: View,
    groups: u32,
    b_begin: u32,
    b_end: u32,
    add: u32,
}

@group(0) @binding(0) var<storage, read_write> f: array<Quad>;
@group(0) @binding(1) var<storage, read_write> x: array<Quad>;
@group(0) @binding(2) var<storage, read_write> grad_y: array<Quad>;
@group(0) @binding(3) var<storage, read_write> partial: array<Quad>;
@group(0) @binding(4) var<storage, read_write> params: Params;

// Columns v, rows r; transposed where r is not contiguous.
fn load_f(at: u32, by: u32, transposed: bool) -> mat4x4<f32> {
    return to_block(f[at], f[at + by], f[at + 2u * by], f[at + 3u * by], transposed);
}

// Columns r, rows s; transposed where s is not contiguous.
fn load_x(at: u32, by: u32, transposed: bool) -> mat4x4<f32> {
    return to_block(x[at], x[at + by], x[at + 2u * by], x[at + 3u * by], transposed);
}

// Columns w, rows v; transposed where v is not contiguous.
fn load_grad_y(at: u32, by: u32, transposed: bool) -> mat4x4<f32> {
    return to_block(grad_y[at], grad_y[at + by], grad_y[at + 2u * by], grad_y[at + 3u * by], transposed);
}

// Columns w, rows s.
fn store(at: u32, w: u32, s: u32, tile: mat4x4<f32>) {
    let inside = w < params.view.w && s < params.view.s;
    let block = oriented(tile, params.view.g_s != 1u);
    let stride = max(params.view.g_w, params.view.g_s) / 4u;
    let begin = (at + w * params.view.g_w + s * params.view.g_s) / 4u;
    let end = select(0u, 4u, inside);
    for (var n = 0u; n < end; n++) {
        let to = begin + n * stride;
        // What there was is read in any case: a branch around it takes longer to compile.
        let before = select(vec4<f32>(), four(partial[to]), params.add != 0u);
        partial[to] = quad(column(n, block) + before);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = workgroup_index(invocation);
    let tiles_s = (params.view.s + GRAD_TILED_S - 1u) / GRAD_TILED_S;
    let tiles_w = (params.view.w + GRAD_TILED_W - 1u) / GRAD_TILED_W;
    let k = index % params.view.k;
    let s0 = index / params.view.k % tiles_s * GRAD_TILED_S;
    let w0 = index / params.view.k / tiles_s % tiles_w * GRAD_TILED_W;
    let group = index / params.view.k / tiles_s / tiles_w * WORKGROUP_SIZE + invocation.lane;
    if (group >= params.groups) {
        return;
    }

    let f_transposed = params.view.f_r != 1u;
    let x_transposed = params.view.x_s != 1u;
    let d_transposed = params.view.y_v != 1u;
    // In vec4, of the mode that is not contiguous.
    let f_stride = max(params.view.f_r, params.view.f_v) / 4u;
    let x_stride = max(params.view.x_r, params.view.x_s) / 4u;
    let d_stride = max(params.view.y_w, params.view.y_v) / 4u;

    // Blocks past the end are clamped, computed and not stored.
    let last_s = params.view.s - 4u;
    let last_w = params.view.w - 4u;
    let at_s0 = min(s0, last_s) * params.view.x_s;
    let at_s1 = min(s0 + 4u, last_s) * params.view.x_s;
    let at_s2 = min(s0 + 8u, last_s) * params.view.x_s;
    let at_s3 = min(s0 + 12u, last_s) * params.view.x_s;
    let at_w0 = min(w0, last_w) * params.view.y_w;
    let at_w1 = min(w0 + 4u, last_w) * params.view.y_w;
    let at_w2 = min(w0 + 8u, last_w) * params.view.y_w;
    let at_w3 = min(w0 + 12u, last_w) * params.view.y_w;
    let at_w4 = min(w0 + 16u, last_w) * params.view.y_w;
    let at_w5 = min(w0 + 20u, last_w) * params.view.y_w;
    let at_w6 = min(w0 + 24u, last_w) * params.view.y_w;
    let at_w7 = min(w0 + 28u, last_w) * params.view.y_w;

    // Columns w, rows s: numbered by w and s.
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
        let at_x = b * params.view.r * params.view.s;
        let at_d = b * params.view.w * params.view.v;
        for (var v = 0u; v < params.view.v; v += 4u) {
            // Columns v, rows s.
            var u0 = mat4x4<f32>();
            var u1 = mat4x4<f32>();
            var u2 = mat4x4<f32>();
            var u3 = mat4x4<f32>();
            let at_f = k * params.view.f_k + v * params.view.f_v;
            for (var r = 0u; r < params.view.r; r += 4u) {
                let f0 = load_f((at_f + r * params.view.f_r) / 4u, f_stride, f_transposed);
                let at = at_x + r * params.view.x_r;
                let x0 = load_x((at + at_s0) / 4u, x_stride, x_transposed);
                u0 = multiply_add(u0, x0, f0);
                let x1 = load_x((at + at_s1) / 4u, x_stride, x_transposed);
                u1 = multiply_add(u1, x1, f0);
                let x2 = load_x((at + at_s2) / 4u, x_stride, x_transposed);
                u2 = multiply_add(u2, x2, f0);
                let x3 = load_x((at + at_s3) / 4u, x_stride, x_transposed);
                u3 = multiply_add(u3, x3, f0);
            }
            let at = at_d + v * params.view.y_v;
            let d0 = load_grad_y((at + at_w0) / 4u, d_stride, d_transposed);
            sum00 = multiply_add(sum00, u0, d0);
            sum01 = multiply_add(sum01, u1, d0);
            sum02 = multiply_add(sum02, u2, d0);
            sum03 = multiply_add(sum03, u3, d0);
            let d1 = load_grad_y((at + at_w1) / 4u, d_stride, d_transposed);
            sum10 = multiply_add(sum10, u0, d1);
            sum11 = multiply_add(sum11, u1, d1);
            sum12 = multiply_add(sum12, u2, d1);
            sum13 = multiply_add(sum13, u3, d1);
            let d2 = load_grad_y((at + at_w2) / 4u, d_stride, d_transposed);
            sum20 = multiply_add(sum20, u0, d2);
            sum21 = multiply_add(sum21, u1, d2);
            sum22 = multiply_add(sum22, u2, d2);
            sum23 = multiply_add(sum23, u3, d2);
            let d3 = load_grad_y((at + at_w3) / 4u, d_stride, d_transposed);
            sum30 = multiply_add(sum30, u0, d3);
            sum31 = multiply_add(sum31, u1, d3);
            sum32 = multiply_add(sum32, u2, d3);
            sum33 = multiply_add(sum33, u3, d3);
            let d4 = load_grad_y((at + at_w4) / 4u, d_stride, d_transposed);
            sum40 = multiply_add(sum40, u0, d4);
            sum41 = multiply_add(sum41, u1, d4);
            sum42 = multiply_add(sum42, u2, d4);
            sum43 = multiply_add(sum43, u3, d4);
            let d5 = load_grad_y((at + at_w5) / 4u, d_stride, d_transposed);
            sum50 = multiply_add(sum50, u0, d5);
            sum51 = multiply_add(sum51, u1, d5);
            sum52 = multiply_add(sum52, u2, d5);
            sum53 = multiply_add(sum53, u3, d5);
            let d6 = load_grad_y((at + at_w6) / 4u, d_stride, d_transposed);
            sum60 = multiply_add(sum60, u0, d6);
            sum61 = multiply_add(sum61, u1, d6);
            sum62 = multiply_add(sum62, u2, d6);
            sum63 = multiply_add(sum63, u3, d6);
            let d7 = load_grad_y((at + at_w7) / 4u, d_stride, d_transposed);
            sum70 = multiply_add(sum70, u0, d7);
            sum71 = multiply_add(sum71, u1, d7);
            sum72 = multiply_add(sum72, u2, d7);
            sum73 = multiply_add(sum73, u3, d7);
        }
    }

    // A loop whose end the driver does not see; see `pick`.
    let eight = select(0u, 8u, params.batch > 0u);
    let at_grad = group * params.view.w * params.view.k * params.view.s + k * params.view.g_k;
    for (var t = 0u; t < eight; t++) {
        let w = w0 + 4u * t;
        let low0 = pick(t, sum00, sum10, sum20, sum30);
        let high0 = pick(t - 4u, sum40, sum50, sum60, sum70);
        store(at_grad, w, s0, choose(t >= 4u, low0, high0));
        let low1 = pick(t, sum01, sum11, sum21, sum31);
        let high1 = pick(t - 4u, sum41, sum51, sum61, sum71);
        store(at_grad, w, s0 + 4u, choose(t >= 4u, low1, high1));
        let low2 = pick(t, sum02, sum12, sum22, sum32);
        let high2 = pick(t - 4u, sum42, sum52, sum62, sum72);
        store(at_grad, w, s0 + 8u, choose(t >= 4u, low2, high2));
        let low3 = pick(t, sum03, sum13, sum23, sum33);
        let high3 = pick(t - 4u, sum43, sum53, sum63, sum73);
        store(at_grad, w, s0 + 12u, choose(t >= 4u, low3, high3));
    }
}
