// The layer in one launch for GPUs: both contractions, the bias, ReLU and dropout.
//
//   U[s,k,v] = Σ_r X[s,r] F[r,k,v]          Y[w,v] = Σ_{s,k} G[w,k,s] U[s,k,v] + B[w,v]
//
// in the letters of src/mps/view.rs. A workgroup of 64 computes a tile of w and v for some samples. For each k, F_k, G_k
// and U_k lie in workgroup memory, and each invocation keeps a tile of 4 x 8 of U, then one of Y, in registers: 128
// multiply-adds for 12 loads. The input is read in runs of four numbers; where these do not come out even it passes
// through workgroup memory, too. Where s or r do not fit there, they are taken in chunks. What lies beyond an extent is
// zero, so that the inner loops know no edges.
//
// Where the batch is small the bond is split: workgroups take parts of k, their outputs are added up by finish.wgsl.
//
// One of w and v is contiguous in Y: its numbers are stored in runs of four.
//
// Buffers:
//   x       X, [batch, s·r], strides x_s, x_r
//   f       F, strides f_r, f_k, f_v
//   g       G, strides g_w, g_k, g_s
//   bias    B, laid out like one sample of Y; read where `start` is START_BIAS
//   words   what changes from step to step; two words from `seed` on are read where something is dropped
//   y       Y, [parts, batch, w·v], strides y_w, y_v; every element is written
//   params  the struct below; `tile_w` and `chunk_s` are counted in fours, `tile_v` in eights

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    batch: u32,
    view: View,
    samples: u32,
    tile_w: u32,
    tile_v: u32,
    chunk_s: u32,
    chunk_r: u32,
    part_k: u32,
    parts: u32,
    start: u32,
    relu: u32,
    seed: u32,
    threshold: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> f: array<f32>;
@group(0) @binding(2) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias: array<Element>;
@group(0) @binding(4) var<storage, read_write> words: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<Element>;
@group(0) @binding(6) var<storage, read_write> params: Params;

// 13,824 bytes, and 2,560 more for the input where it passes through: the article's layer fits with four samples, forward
// and, with two, for grad_x. In fours.
const CONTRACT_X: u32 = 160u;
const CONTRACT_F: u32 = 128u;
const CONTRACT_G: u32 = 224u;

const IN_TILE: u32 = select(CONTRACT_X, 1u, AT_ONCE);

var<workgroup> x_tile: array<vec4<f32>, IN_TILE>;               // [sample, r][s]
var<workgroup> f_tile: array<vec4<f32>, CONTRACT_F>;               // [r][v]
var<workgroup> g_tile: array<vec4<f32>, CONTRACT_G>;               // [s][w]
var<workgroup> u_tile: array<vec4<f32>, 8u * WORKGROUP_SIZE>;      // [sample, s][v]

fn run_of(is_d: bool, at: u32, count: u32) -> vec4<f32> {
    return run_of_x(at, count);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let view = params.view;
    let batch = params.batch;
    let samples = params.samples;
    let tile_w = params.tile_w;
    let tile_v = params.tile_v;
    let row_v = 2u * tile_v;
    let chunk_s = params.chunk_s;
    let chunk_r = params.chunk_r;
    let parts = params.parts;
    let lane = invocation.lane;

    // Neighbouring workgroups share the input.
    let tiles_v = (view.v + 8u * tile_v - 1u) / (8u * tile_v);
    let tiles_w = (view.w + 4u * tile_w - 1u) / (4u * tile_w);
    let index = workgroup_index(invocation);
    let v_begin = index % tiles_v * tile_v * 8u;
    let w_begin = index / tiles_v % tiles_w * tile_w * 4u;
    let part = index / tiles_v / tiles_w % parts;
    let first = index / tiles_v / tiles_w / parts * samples;
    if (first >= batch) {
        return;
    }
    let k_begin = part * params.part_k;
    let k_end = min(k_begin + params.part_k, view.k);

    let by_v = 1.0 / f32(tile_v);
    let by_w = 1.0 / f32(tile_w);
    let by_s = 1.0 / f32(chunk_s);
    // The tile of U: sample, s and v.
    let rest = divided(lane, by_v);
    let v4 = 2u * (lane - rest * tile_v);
    let u_sample = divided(rest, by_s);
    let s4 = rest - u_sample * chunk_s;
    let computes_u = u_sample < samples;
    // The tile of Y: sample, w and v.
    let y_sample = divided(rest, by_w);
    let w4 = rest - y_sample * tile_w;
    let computes_y = y_sample < samples;

    // Of the input in memory: which mode is contiguous (a mode of extent 1 says nothing), the stride of the other one,
    // and the sample's first and last run of four. A run past the end of a row is that of another one, times zeros.
    let along_r = view.x_r == 1u && (view.r > 1u || view.x_s != 1u);
    let x_n = select(view.x_r, view.x_s, along_r);
    let x_at = min(first + u_sample, batch - 1u) * view.s * view.r;
    let x_last = x_at + view.s * view.r - 4u;
    // In workgroup memory it stays where it is while k changes, unless it is taken in chunks.
    let whole = chunk_r >= view.r && 4u * chunk_s >= view.s;
    var y0 = Tile();
    var y1 = Tile();
    for (var k = k_begin; k < k_end; k++) {
        for (var s_begin = 0u; s_begin < view.s; s_begin += 4u * chunk_s) {
            var u0 = Tile();
            var u1 = Tile();
            for (var r_begin = 0u; r_begin < view.r; r_begin += chunk_r) {
                // Before the first chunk the barrier before the last Y has made sure that nobody reads these any more.
                if (r_begin > 0u) {
                    workgroupBarrier();
                }
                if (!AT_ONCE && (!whole || k == k_begin)) {
                    load(lane, false, vec3<u32>(first, batch, samples), vec2<u32>(r_begin, s_begin), chunk_r, chunk_s,
                        vec2<u32>(view.r, view.s), vec2<u32>(view.x_r, view.x_s));
                }
                for (var e = lane; e < chunk_r * row_v; e += WORKGROUP_SIZE) {
                    let row = divided(e, 0.5 * by_v);
                    let r = r_begin + row;
                    let v = v_begin + 4u * (e - row * row_v);
                    let at = min(r, view.r - 1u) * view.f_r + k * view.f_k;
                    let columns = vec4<u32>(v, v + 1u, v + 2u, v + 3u);
                    let from_f = min(columns, vec4<u32>(view.v - 1u)) * view.f_v + at;
                    let four = vec4<f32>(f[from_f.x], f[from_f.y], f[from_f.z], f[from_f.w]);
                    f_tile[e] = select(vec4<f32>(), four, columns < vec4<u32>(select(0u, view.v, r < view.r)));
                }
                workgroupBarrier();
                if (AT_ONCE) {
                    let at_row = x_at + (s_begin + 4u * s4) * view.x_s + r_begin * view.x_r;
                    var at_f = v4;
                    for (var r = 0u; r < chunk_r; r += 4u) {
                        let at = at_row + r * view.x_r;
                        let xa = run_of_x(min(at, x_last), 4u);
                        let xb = run_of_x(min(at + x_n, x_last), 4u);
                        let xc = run_of_x(min(at + 2u * x_n, x_last), 4u);
                        let xd = run_of_x(min(at + 3u * x_n, x_last), 4u);
                        if (along_r) {
                            let x0 = vec4<f32>(xa.x, xb.x, xc.x, xd.x);
                            u0 = with_product(u0, x0, f_tile[at_f]);
                            u1 = with_product(u1, x0, f_tile[at_f + 1u]);
                            let x1 = vec4<f32>(xa.y, xb.y, xc.y, xd.y);
                            u0 = with_product(u0, x1, f_tile[at_f + row_v]);
                            u1 = with_product(u1, x1, f_tile[at_f + row_v + 1u]);
                            let x2 = vec4<f32>(xa.z, xb.z, xc.z, xd.z);
                            u0 = with_product(u0, x2, f_tile[at_f + 2u * row_v]);
                            u1 = with_product(u1, x2, f_tile[at_f + 2u * row_v + 1u]);
                            let x3 = vec4<f32>(xa.w, xb.w, xc.w, xd.w);
                            u0 = with_product(u0, x3, f_tile[at_f + 3u * row_v]);
                            u1 = with_product(u1, x3, f_tile[at_f + 3u * row_v + 1u]);
                        } else {
                            u0 = with_product(u0, xa, f_tile[at_f]);
                            u1 = with_product(u1, xa, f_tile[at_f + 1u]);
                            u0 = with_product(u0, xb, f_tile[at_f + row_v]);
                            u1 = with_product(u1, xb, f_tile[at_f + row_v + 1u]);
                            u0 = with_product(u0, xc, f_tile[at_f + 2u * row_v]);
                            u1 = with_product(u1, xc, f_tile[at_f + 2u * row_v + 1u]);
                            u0 = with_product(u0, xd, f_tile[at_f + 3u * row_v]);
                            u1 = with_product(u1, xd, f_tile[at_f + 3u * row_v + 1u]);
                        }
                        at_f += 4u * row_v;
                    }
                } else if (computes_u) {
                    var at_x = u_sample * chunk_r * chunk_s + s4;
                    var at_f = v4;
                    for (var r = 0u; r < chunk_r; r += 4u) {
                        let xa = x_tile[at_x];
                        let xb = x_tile[at_x + chunk_s];
                        let xc = x_tile[at_x + 2u * chunk_s];
                        let xd = x_tile[at_x + 3u * chunk_s];
                        u0 = with_product(u0, xa, f_tile[at_f]);
                        u1 = with_product(u1, xa, f_tile[at_f + 1u]);
                        u0 = with_product(u0, xb, f_tile[at_f + row_v]);
                        u1 = with_product(u1, xb, f_tile[at_f + row_v + 1u]);
                        u0 = with_product(u0, xc, f_tile[at_f + 2u * row_v]);
                        u1 = with_product(u1, xc, f_tile[at_f + 2u * row_v + 1u]);
                        u0 = with_product(u0, xd, f_tile[at_f + 3u * row_v]);
                        u1 = with_product(u1, xd, f_tile[at_f + 3u * row_v + 1u]);
                        at_x += 4u * chunk_s;
                        at_f += 4u * row_v;
                    }
                }
            }
            if (computes_u) {
                let to = (u_sample * 4u * chunk_s + 4u * s4) * row_v + v4;
                u_tile[to] = u0.a;
                u_tile[to + row_v] = u0.b;
                u_tile[to + 2u * row_v] = u0.c;
                u_tile[to + 3u * row_v] = u0.d;
                u_tile[to + 1u] = u1.a;
                u_tile[to + row_v + 1u] = u1.b;
                u_tile[to + 2u * row_v + 1u] = u1.c;
                u_tile[to + 3u * row_v + 1u] = u1.d;
            }
            for (var e = lane; e < 4u * chunk_s * tile_w; e += WORKGROUP_SIZE) {
                var s = 0u;
                var w = 0u;
                if (view.g_s == 1u) {
                    w = divided(e, 0.25 * by_s);
                    s = e - w * 4u * chunk_s;
                } else {
                    s = divided(e, by_w);
                    w = e - s * tile_w;
                }
                let to = s * tile_w + w;
                s += s_begin;
                w = 4u * w + w_begin;
                let at = min(s, view.s - 1u) * view.g_s + k * view.g_k;
                let rows = vec4<u32>(w, w + 1u, w + 2u, w + 3u);
                let from_g = min(rows, vec4<u32>(view.w - 1u)) * view.g_w + at;
                let four = vec4<f32>(g[from_g.x], g[from_g.y], g[from_g.z], g[from_g.w]);
                g_tile[to] = select(vec4<f32>(), four, rows < vec4<u32>(select(0u, view.w, s < view.s)));
            }
            workgroupBarrier();
            if (computes_y) {
                var at_u = y_sample * 4u * chunk_s * row_v + v4;
                var at_g = w4;
                for (var s = 0u; s < chunk_s; s++) {
                    let ga = g_tile[at_g];
                    let gb = g_tile[at_g + tile_w];
                    let gc = g_tile[at_g + 2u * tile_w];
                    let gd = g_tile[at_g + 3u * tile_w];
                    y0 = with_product(y0, ga, u_tile[at_u]);
                    y1 = with_product(y1, ga, u_tile[at_u + 1u]);
                    y0 = with_product(y0, gb, u_tile[at_u + row_v]);
                    y1 = with_product(y1, gb, u_tile[at_u + row_v + 1u]);
                    y0 = with_product(y0, gc, u_tile[at_u + 2u * row_v]);
                    y1 = with_product(y1, gc, u_tile[at_u + 2u * row_v + 1u]);
                    y0 = with_product(y0, gd, u_tile[at_u + 3u * row_v]);
                    y1 = with_product(y1, gd, u_tile[at_u + 3u * row_v + 1u]);
                    at_u += 4u * row_v;
                    at_g += 4u * tile_w;
                }
            }
        }
    }

    if (!computes_y) {
        return;
    }
    let sample = first + y_sample;
    let w = w_begin + 4u * w4;
    let v = v_begin + 4u * v4;
    if (sample >= batch || w >= view.w || v >= view.v) {
        return;
    }
    let after = after_of(params.start, params.relu, params.seed, params.threshold, params.scale);
    let begin = part * batch * view.w * view.v;
    store_tile(begin, sample, w, v, y0, after);
    if (v + 4u < view.v) {
        store_tile(begin, sample, w, v + 4u, y1, after);
    }
}

// Stores four rows of w, of four columns of v.
fn store_tile(begin: u32, sample: u32, w: u32, v: u32, tile: Tile, after: After) {
    let view = params.view;
    let to = sample * view.w * view.v;
    // A mode of extent 1 says nothing of what is contiguous.
    let along_v = view.y_v == 1u && (view.v > 1u || view.y_w != 1u);
    let turned = transpose(mat4x4<f32>(tile.a, tile.b, tile.c, tile.d));
    let count = select(min(view.w - w, 4u), min(view.v - v, 4u), along_v);
    let lines = select(view.v - v, view.w - w, along_v);
    let stride = select(view.y_v, view.y_w, along_v);
    let at = w * view.y_w + v * view.y_v;
    store_run(begin, to + at, at, select(turned[0], tile.a, along_v), count, after);
    store_run(begin, to + at + stride, at + stride, select(turned[1], tile.b, along_v), select(0u, count, lines > 1u), after);
    store_run(begin, to + at + 2u * stride, at + 2u * stride, select(turned[2], tile.c, along_v), select(0u, count, lines > 2u), after);
    store_run(begin, to + at + 3u * stride, at + 3u * stride, select(turned[3], tile.d, along_v), select(0u, count, lines > 3u), after);
}
