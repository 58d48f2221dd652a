// The gradients by both cores and the bias for GPUs, as partial sums over groups of samples, in one launch.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          grad_G[w,k,s] = Σ_{b,v} D[w,v] U[s,k,v]
//
// in the letters of src/mps/view.rs; D is the gradient by the output. The gradient by F is the same of the reversed
// view, in which D takes the place of X and G that of F: some workgroups compute the one, some the other, and some sum
// D for the bias.
//
// A workgroup of 64 computes, for one k and one group of samples, a tile of w and s. Each invocation keeps a tile of 4 x
// 4 of U, and one of the gradient, in registers: 64 multiply-adds for 8 loads, all of them from workgroup memory. What
// does not fit there is taken in chunks of r and v. Where the gradient has fewer tiles than invocations, these share the
// samples (`slots`). What lies beyond an extent is zero, so that the inner loops know no edges.
//
// The groups' sums are added up by adam.wgsl or sum_rows.wgsl, in a fixed order.
//
// Buffers:
//   x        X, [batch, J·L]
//   a        core A, [M, K, J]
//   c        core C, [L, K, N]
//   grad_y   D, [batch, M·N], before it has passed the ReLU after the layer where `relu` is 1
//   y        the output of that ReLU: what is above 0 there has passed it, times `scale`
//   partial  [groups, columns]: the gradients by A, C and the bias side by side; every element is written
//   params   the struct below; tiles and `chunk_v` are counted in fours

const WORKGROUP_SIZE: u32 = 64u;

// What a workgroup computes that sums the gradient by one core.
struct Role {
    view: View,
    reversed: u32,      // whether D is the input, and X the gradient of the output
    f_is_a: u32,
    samples: u32,       // in workgroup memory at once
    tile_w: u32,
    tile_s: u32,
    chunk_v: u32,
    chunk_r: u32,
    slots: u32,
    begin: u32,         // of the gradient in a row of `partial`
    workgroups: u32,
}

struct Params {
    first: Role,
    second: Role,
    batch: u32,
    groups: u32,
    group_size: u32,
    columns: u32,
    bias_begin: u32,
    bias_columns: u32,
    relu: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_y: array<Element>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;
@group(0) @binding(5) var<storage, read_write> partial: array<f32>;
@group(0) @binding(6) var<storage, read_write> params: Params;

// 13,952 bytes: both gradients of the article's layer fit with two samples. In fours.
const GRADS_X: u32 = 392u;
const GRADS_F: u32 = 224u;

var<workgroup> x_tile: array<vec4<f32>, GRADS_X>;                  // [sample, r][s], then D [sample, v][w]
var<workgroup> f_tile: array<vec4<f32>, GRADS_F>;                  // [r][v]
var<workgroup> u_tile: array<vec4<f32>, 4u * WORKGROUP_SIZE>;      // [sample, v][s]

var<private> relu: bool;
var<private> scale: f32;

fn passed(d: vec4<f32>, output: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), d * scale, output > vec4<f32>());
}

fn run_of(is_d: bool, at: u32, count: u32) -> vec4<f32> {
    if (is_d) {
        return run_of_d(at, count);
    }
    return run_of_x(at, count);
}

fn of_core(is_a: bool, at: vec4<u32>) -> vec4<f32> {
    if (is_a) {
        return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
    }
    return vec4<f32>(c[at.x], c[at.y], c[at.z], c[at.w]);
}

fn sum_core(role: Role, index: u32, lane: u32) {
    let view = role.view;
    let reversed = role.reversed == 1u;
    let f_is_a = role.f_is_a == 1u;
    let samples = role.samples;
    let tile_w = role.tile_w;
    let tile_s = role.tile_s;
    let chunk_v = role.chunk_v;
    let chunk_r = role.chunk_r;
    let slots = role.slots;
    let tiles_w = (view.w + 4u * tile_w - 1u) / (4u * tile_w);
    let tiles_s = (view.s + 4u * tile_s - 1u) / (4u * tile_s);
    let s_begin = index % tiles_s * tile_s * 4u;
    let w_begin = index / tiles_s % tiles_w * tile_w * 4u;
    let k = index / tiles_s / tiles_w % view.k;
    let group = index / tiles_s / tiles_w / view.k;
    let first = group * params.group_size;
    let end = min(first + params.group_size, params.batch);

    let by_s = 1.0 / f32(tile_s);
    let by_v = 1.0 / f32(chunk_v);
    // The tile of U: sample, v and s.
    let rest = divided(lane, by_s);
    let s4 = lane - rest * tile_s;
    let u_sample = divided(rest, by_v);
    let v4 = rest - u_sample * chunk_v;
    let computes_u = u_sample < samples;
    // The tile of the gradient: slot, w and s.
    let slot = divided(rest, 1.0 / f32(tile_w));
    let w4 = rest - slot * tile_w;
    let computes_g = slot < slots;

    let whole = chunk_r >= view.r && 4u * chunk_v >= view.v;
    var g = Tile();
    for (var b = first; b < end; b += samples) {
        for (var v_begin = 0u; v_begin < view.v; v_begin += 4u * chunk_v) {
            var u = Tile();
            for (var r_begin = 0u; r_begin < view.r; r_begin += chunk_r) {
                workgroupBarrier();
                load(lane, reversed, vec3<u32>(b, end, samples), vec2<u32>(r_begin, s_begin), chunk_r, tile_s,
                    vec2<u32>(view.r, view.s), vec2<u32>(view.x_r, view.x_s));
                if (!whole || b == first) {
                    for (var e = lane; e < chunk_r * chunk_v; e += WORKGROUP_SIZE) {
                        let row = divided(e, by_v);
                        let r = r_begin + row;
                        let v = v_begin + 4u * (e - row * chunk_v);
                        let at = min(r, view.r - 1u) * view.f_r + k * view.f_k;
                        let four = vec4<u32>(v, v + 1u, v + 2u, v + 3u);
                        let numbers = of_core(f_is_a, min(four, vec4<u32>(view.v - 1u)) * view.f_v + at);
                        let there = four < vec4<u32>(select(0u, view.v, r < view.r));
                        f_tile[e] = select(vec4<f32>(), numbers, there);
                    }
                }
                workgroupBarrier();
                if (computes_u) {
                    var at_x = u_sample * chunk_r * tile_s + s4;
                    var at_f = v4;
                    for (var r = 0u; r < chunk_r; r += 4u) {
                        let xa = x_tile[at_x];
                        let xb = x_tile[at_x + tile_s];
                        let xc = x_tile[at_x + 2u * tile_s];
                        let xd = x_tile[at_x + 3u * tile_s];
                        let fa = f_tile[at_f];
                        let fb = f_tile[at_f + chunk_v];
                        let fc = f_tile[at_f + 2u * chunk_v];
                        let fd = f_tile[at_f + 3u * chunk_v];
                        u = with_product(u, fa, xa);
                        u = with_product(u, fb, xb);
                        u = with_product(u, fc, xc);
                        u = with_product(u, fd, xd);
                        at_x += 4u * tile_s;
                        at_f += 4u * chunk_v;
                    }
                }
            }
            workgroupBarrier();
            if (computes_u) {
                let to = (u_sample * chunk_v + v4) * 4u * tile_s + s4;
                u_tile[to] = u.a;
                u_tile[to + tile_s] = u.b;
                u_tile[to + 2u * tile_s] = u.c;
                u_tile[to + 3u * tile_s] = u.d;
            }
            load(lane, !reversed, vec3<u32>(b, end, samples), vec2<u32>(v_begin, w_begin), 4u * chunk_v, tile_w,
                vec2<u32>(view.v, view.w), vec2<u32>(view.y_v, view.y_w));
            workgroupBarrier();
            if (computes_g) {
                for (var sample = slot; sample < samples; sample += slots) {
                    var at_d = sample * 4u * chunk_v * tile_w + w4;
                    var at_u = sample * 4u * chunk_v * tile_s + s4;
                    for (var v = 0u; v < chunk_v; v++) {
                        let da = x_tile[at_d];
                        let db = x_tile[at_d + tile_w];
                        let dc = x_tile[at_d + 2u * tile_w];
                        let dd = x_tile[at_d + 3u * tile_w];
                        let ua = u_tile[at_u];
                        let ub = u_tile[at_u + tile_s];
                        let uc = u_tile[at_u + 2u * tile_s];
                        let ud = u_tile[at_u + 3u * tile_s];
                        g = with_product(g, da, ua);
                        g = with_product(g, db, ub);
                        g = with_product(g, dc, uc);
                        g = with_product(g, dd, ud);
                        at_d += 4u * tile_w;
                        at_u += 4u * tile_s;
                    }
                }
            }
        }
    }

    // The slots one after the other, so that the order of the additions depends on the sizes alone.
    let to = 4u * w4 * tile_s + s4;
    for (var other = 0u; other < slots; other++) {
        workgroupBarrier();
        if (slot == other) {
            if (slot > 0u) {
                g.a += u_tile[to];
                g.b += u_tile[to + tile_s];
                g.c += u_tile[to + 2u * tile_s];
                g.d += u_tile[to + 3u * tile_s];
            }
            u_tile[to] = g.a;
            u_tile[to + tile_s] = g.b;
            u_tile[to + 2u * tile_s] = g.c;
            u_tile[to + 3u * tile_s] = g.d;
        }
    }
    workgroupBarrier();
    let rows = 4u * tile_w;
    let columns = 4u * tile_s;
    let row_begin = group * params.columns + role.begin + k * view.g_k;
    for (var e = lane; e < rows * columns; e += WORKGROUP_SIZE) {
        var w = 0u;
        var s = 0u;
        if (view.g_s == 1u) {
            w = divided(e, 0.25 * by_s);
            s = e - w * columns;
        } else {
            s = divided(e, 0.25 / f32(tile_w));
            w = e - s * rows;
        }
        let value = u_tile[w * tile_s + s / 4u][s % 4u];
        w += w_begin;
        s += s_begin;
        if (w < view.w && s < view.s) {
            partial[row_begin + w * view.g_w + s * view.g_s] = value;
        }
    }
}

// 256 columns of the bias.
fn sum_bias(index: u32, lane: u32) {
    let columns = params.bias_columns;
    let blocks = (columns + 4u * WORKGROUP_SIZE - 1u) / (4u * WORKGROUP_SIZE);
    let group = index / blocks;
    let column = 4u * (index % blocks * WORKGROUP_SIZE + lane);
    if (column >= columns) {
        return;
    }
    let count = columns - column;
    let first = group * params.group_size;
    let end = min(first + params.group_size, params.batch);
    var sum = vec4<f32>();
    for (var b = first; b < end; b++) {
        sum += run_of_d(b * columns + column, count);
    }
    let to = group * params.columns + params.bias_begin + column;
    partial[to] = sum.x;
    if (count > 1u) {
        partial[to + 1u] = sum.y;
    }
    if (count > 2u) {
        partial[to + 2u] = sum.z;
    }
    if (count > 3u) {
        partial[to + 3u] = sum.w;
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = workgroup_index(invocation);
    let in_first = params.first.workgroups;
    let in_second = params.second.workgroups;
    relu = params.relu == 1u;
    scale = params.scale;
    if (index < in_first + in_second) {
        var role = params.first;
        var at = index;
        if (index >= in_first) {
            role = params.second;
            at -= in_first;
        }
        sum_core(role, at, invocation.lane);
        return;
    }
    let blocks = (params.bias_columns + 4u * WORKGROUP_SIZE - 1u) / (4u * WORKGROUP_SIZE);
    let at = index - in_first - in_second;
    if (at < blocks * params.groups) {
        sum_bias(at, invocation.lane);
    }
}
