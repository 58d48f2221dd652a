// The gradients by both cores and the bias, as partial sums over groups of samples, in one launch, where all operands
// of a sample at one k fit into workgroup memory together. Larger layers go to grads.wgsl, which cuts them.
//
//   U[s,v] = Σ_r X[s,r] F[r,v]          grad_G[w,s] = Σ_{b,v} D[w,v] U[s,v]
//   T[s,v] = Σ_w G[w,s] D[w,v]          grad_F[r,v] = Σ_{b,s} X[s,r] T[s,v]
//
// for each k, in the letters of src/mps/view.rs; D is the gradient by the output.
//
// A workgroup of 64 has one k and one group of samples. It keeps F and G in workgroup memory and takes one sample after
// the other: loads X and D once, computes U and T from them, then adds to both gradients. All four are one product,
// C[i,j] = Σ_k A[i,k] B[k,j], of matrices whose rows lie in workgroup memory as vec4:
//
//           i   j   k    A                  B
//   U       s   v   r    X as [s][r]        F as [r][v]
//   T       s   v   w    G as [s][w]        D as [w][v]
//   grad_G  w   s   v    D as [w][v]        U as [v][s]
//   grad_F  v   r   s    T as [v][s]        X as [s][r]
//
// An invocation computes a tile of 32 numbers, 128 multiply-adds for 12 loads of a vec4: 4 x 8 of U or T, or 8 x 4 of a
// gradient, which stays in registers from sample to sample. Where the gradients have fewer tiles than there are
// invocations, several share the sum over k of a tile (`slots`). The article's layer, 28 x 28 to 32 x 16 with C first,
// has 28 tiles of U and T, which half of the invocations compute, 28 of grad_G, and 14 of grad_F in two slots: there
// all but 8 are busy. What lies beyond an extent is zero, so that the inner loops know no edges.
//
// Software adapters spend most of their time in these loads, some 40 ns for eight invocations' vec4 in a loop with a
// barrier on llvmpipe, hence the large tiles. Larger ones would need more than the 128 registers a GPU can spare.
//
// The groups' sums are added up by adam.wgsl or sum_rows.wgsl, in a fixed order.
//
// Buffers:
//   x        X, [batch, s·r]
//   f        F, the core that meets the input first
//   g        G, the other one
//   grad_y   D, [batch, w·v], before it has passed the ReLU after the layer where `relu` is 1
//   y        the output of that ReLU: what is above 0 there has passed it, times `scale`
//   partial  [groups, columns]: the gradients by the cores and the bias side by side; every element of these is written
//   params   the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    view: View,
    batch: u32,
    groups: u32,
    group_size: u32,
    columns: u32,
    f_begin: u32,       // of the gradients in a row of `partial`
    g_begin: u32,
    bias_begin: u32,
    bias_columns: u32,  // 0 without a bias
    slots_f: u32,       // tiles of a gradient side by side, which share the sum over s or v
    slots_g: u32,
    relu: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> f: array<Element>;
@group(0) @binding(2) var<storage, read_write> g: array<Element>;
@group(0) @binding(3) var<storage, read_write> grad_y: array<Element>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;
@group(0) @binding(5) var<storage, read_write> partial: array<Element>;
@group(0) @binding(6) var<storage, read_write> params: Params;

// What WebGPU grants, in vec4; the article's layer takes 921.
const ROOM: u32 = 1024u;

// X, D, F, G, U and T; at the end the slots' sums.
var<workgroup> tile: array<vec4<f32>, ROOM>;

var<private> relu: bool;
var<private> scale: f32;

fn passed(d: vec4<f32>, output: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), d * scale, output > vec4<f32>());
}

fn fours_of(extent: u32) -> u32 {
    return (extent + 3u) / 4u;
}

// Four rows of a matrix in workgroup memory take one vec4 more than they need: invocations that read neighbouring
// blocks of four rows then read from different banks.
fn block_size(fours: u32) -> u32 {
    return 4u * fours + 1u;
}

// A matrix in a buffer, and where it goes in workgroup memory.
struct Operand {
    extents: vec2<u32>, // of rows and columns
    strides: vec2<u32>, // of which one is 1
    turned: bool,       // whether it is that of the rows
    begin: u32,
    fours: u32,         // of a row
    fast: u32,          // blocks of 4 x 4 along what is contiguous
    by_fast: f32,
    blocks: u32,
}

fn operand_of(extents: vec2<u32>, strides: vec2<u32>, begin: u32) -> Operand {
    // A mode of extent 1 says nothing of what is contiguous.
    let turned = strides.x == 1u && (extents.x > 1u || strides.y != 1u);
    let fours = fours_of(extents.y);
    let fast = select(fours, fours_of(extents.x), turned);
    return Operand(extents, strides, turned, begin, fours, fast, 1.0 / f32(fast), fours_of(extents.x) * fours);
}

// A block of 4 x 4: four runs of numbers that follow each other in memory.
struct Block {
    at: vec4<u32>,
    count: u32,         // the length of the runs, or more
    there: vec4<bool>,  // which runs there are
    to: u32,
}

// Neighbours in e are neighbours along what is contiguous: c, and n the other one.
fn block_of(operand: Operand, e: u32) -> Block {
    let n4 = divided(e, operand.by_fast);
    let c4 = e - n4 * operand.fast;
    let i4 = select(n4, c4, operand.turned);
    let j4 = select(c4, n4, operand.turned);
    let extent_c = select(operand.extents.y, operand.extents.x, operand.turned);
    let extent_n = select(operand.extents.x, operand.extents.y, operand.turned);
    let stride_n = select(operand.strides.x, operand.strides.y, operand.turned);
    let n = 4u * n4 + vec4<u32>(0u, 1u, 2u, 3u);
    return Block(
        4u * c4 + min(n, vec4<u32>(extent_n - 1u)) * stride_n,
        extent_c - 4u * c4,
        n < vec4<u32>(extent_n),
        operand.begin + i4 * block_size(operand.fours) + j4,
    );
}

fn place(operand: Operand, block: Block, run_a: vec4<f32>, run_b: vec4<f32>, run_c: vec4<f32>, run_d: vec4<f32>) {
    let in_run = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(block.count);
    let zero = vec4<f32>();
    let a = select(zero, run_a, in_run & vec4<bool>(block.there.x));
    let b = select(zero, run_b, in_run & vec4<bool>(block.there.y));
    let c = select(zero, run_c, in_run & vec4<bool>(block.there.z));
    let d = select(zero, run_d, in_run & vec4<bool>(block.there.w));
    let turned = operand.turned;
    let fours = operand.fours;
    tile[block.to] = select(a, vec4<f32>(a.x, b.x, c.x, d.x), turned);
    tile[block.to + fours] = select(b, vec4<f32>(a.y, b.y, c.y, d.y), turned);
    tile[block.to + 2u * fours] = select(c, vec4<f32>(a.z, b.z, c.z, d.z), turned);
    tile[block.to + 3u * fours] = select(d, vec4<f32>(a.w, b.w, c.w, d.w), turned);
}

// Eight rows of a vec4.
struct Tall {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

fn four(sum: vec4<f32>, a: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>) -> vec4<f32> {
    return fma(b3, a.wwww, fma(b2, a.zzzz, fma(b1, a.yyyy, fma(b0, a.xxxx, sum))));
}

// Adds to C[i,j] the terms of every `step`-th four of k. `a` is the first of the rows of A, `next_rows` the distance to
// the other four.
fn tall(sum: Tall, a: u32, fours_a: u32, next_rows: u32, b: u32, fours_b: u32, begin: u32, end: u32,
        step: u32) -> Tall {
    var s = sum;
    var at_b = b + begin * block_size(fours_b);
    for (var k = begin; k < end; k += step) {
        let b0 = tile[at_b];
        let b1 = tile[at_b + fours_b];
        let b2 = tile[at_b + 2u * fours_b];
        let b3 = tile[at_b + 3u * fours_b];
        let at = a + k;
        s.a = four(s.a, tile[at], b0, b1, b2, b3);
        s.b = four(s.b, tile[at + fours_a], b0, b1, b2, b3);
        s.c = four(s.c, tile[at + 2u * fours_a], b0, b1, b2, b3);
        s.d = four(s.d, tile[at + 3u * fours_a], b0, b1, b2, b3);
        let at_next = at + next_rows;
        s.e = four(s.e, tile[at_next], b0, b1, b2, b3);
        s.f = four(s.f, tile[at_next + fours_a], b0, b1, b2, b3);
        s.g = four(s.g, tile[at_next + 2u * fours_a], b0, b1, b2, b3);
        s.h = four(s.h, tile[at_next + 3u * fours_a], b0, b1, b2, b3);
        at_b += step * block_size(fours_b);
    }
    return s;
}

// In columns of the workgroup's width.
fn keep(sum: Tall, at: u32) {
    tile[at] = sum.a;
    tile[at + WORKGROUP_SIZE] = sum.b;
    tile[at + 2u * WORKGROUP_SIZE] = sum.c;
    tile[at + 3u * WORKGROUP_SIZE] = sum.d;
    tile[at + 4u * WORKGROUP_SIZE] = sum.e;
    tile[at + 5u * WORKGROUP_SIZE] = sum.f;
    tile[at + 6u * WORKGROUP_SIZE] = sum.g;
    tile[at + 7u * WORKGROUP_SIZE] = sum.h;
}

fn plus_kept(sum: Tall, at: u32) -> Tall {
    return Tall(
        sum.a + tile[at],
        sum.b + tile[at + WORKGROUP_SIZE],
        sum.c + tile[at + 2u * WORKGROUP_SIZE],
        sum.d + tile[at + 3u * WORKGROUP_SIZE],
        sum.e + tile[at + 4u * WORKGROUP_SIZE],
        sum.f + tile[at + 5u * WORKGROUP_SIZE],
        sum.g + tile[at + 6u * WORKGROUP_SIZE],
        sum.h + tile[at + 7u * WORKGROUP_SIZE],
    );
}

// Stores four rows from i on of a gradient, of the four columns from j on.
fn store_block(begin: u32, i: u32, j: u32, extents: vec2<u32>, strides: vec2<u32>,
        a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    let turned = strides.x == 1u && (extents.x > 1u || strides.y != 1u);
    let run = select(j, i, turned);
    let n = select(i, j, turned);
    let run_extent = select(extents.y, extents.x, turned);
    let n_extent = select(extents.x, extents.y, turned);
    let stride = select(strides.x, strides.y, turned);
    if (run >= run_extent) {
        return;
    }
    let count = run_extent - run;
    let to = begin + run + n * stride;
    if (n < n_extent) {
        store_sums(to, select(a, vec4<f32>(a.x, b.x, c.x, d.x), turned), count);
    }
    if (n + 1u < n_extent) {
        store_sums(to + stride, select(b, vec4<f32>(a.y, b.y, c.y, d.y), turned), count);
    }
    if (n + 2u < n_extent) {
        store_sums(to + 2u * stride, select(c, vec4<f32>(a.z, b.z, c.z, d.z), turned), count);
    }
    if (n + 3u < n_extent) {
        store_sums(to + 3u * stride, select(d, vec4<f32>(a.w, b.w, c.w, d.w), turned), count);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let lane = invocation.lane;
    let index = workgroup_index(invocation);
    let view = params.view;
    let batch = params.batch;
    let slots_f = params.slots_f;
    let slots_g = params.slots_g;
    relu = params.relu == 1u;
    scale = params.scale;
    let group = index / view.k;
    let k = index - group * view.k;
    if (group >= params.groups) {
        return;
    }
    let first = group * params.group_size;
    let end = min(first + params.group_size, batch);

    let r4 = fours_of(view.r);
    let s4 = fours_of(view.s);
    let v4 = fours_of(view.v);
    let w4 = fours_of(view.w);
    let begin_d = s4 * block_size(r4);
    let begin_f = begin_d + w4 * block_size(v4);
    let begin_g = begin_f + r4 * block_size(v4);
    let begin_u = begin_g + s4 * block_size(w4);
    let begin_t = begin_u + v4 * block_size(s4);
    let of_x = operand_of(vec2<u32>(view.s, view.r), vec2<u32>(view.x_s, view.x_r), 0u);
    let of_d = operand_of(vec2<u32>(view.w, view.v), vec2<u32>(view.y_w, view.y_v), begin_d);
    let of_f = operand_of(vec2<u32>(view.r, view.v), vec2<u32>(view.f_r, view.f_v), begin_f);
    let of_g = operand_of(vec2<u32>(view.s, view.w), vec2<u32>(view.g_s, view.g_w), begin_g);

    let from_f = k * view.f_k;
    for (var e = lane; e < of_f.blocks; e += WORKGROUP_SIZE) {
        let block = block_of(of_f, e);
        let at = from_f + block.at;
        place(of_f, block, run_of_f(at.x, block.count), run_of_f(at.y, block.count),
            run_of_f(at.z, block.count), run_of_f(at.w, block.count));
    }
    let from_g = k * view.g_k;
    for (var e = lane; e < of_g.blocks; e += WORKGROUP_SIZE) {
        let block = block_of(of_g, e);
        let at = from_g + block.at;
        place(of_g, block, run_of_g(at.x, block.count), run_of_g(at.y, block.count),
            run_of_g(at.z, block.count), run_of_g(at.w, block.count));
    }

    let tiles_v = (v4 + 1u) / 2u;
    let tiles_u = s4 * tiles_v;
    let by_tiles_v = 1.0 / f32(tiles_v);

    // The tile of a gradient. Where i has an odd number of fours, the last tile computes them twice and stores one.
    let tiles_g = (w4 + 1u) / 2u * s4;
    let lanes_g = slots_g * tiles_g;
    let is_f = lane >= lanes_g;
    let rows = select(w4, v4, is_f);
    let fours = select(v4, s4, is_f);
    let columns = select(s4, r4, is_f);
    let tiles = select(tiles_g, tiles_v * r4, is_f);
    let slots = select(slots_g, slots_f, is_f);
    let among = select(lane, lane - lanes_g, is_f);
    let slot = divided(among, 1.0 / f32(tiles));
    let in_slot = among - slot * tiles;
    let i2 = divided(in_slot, 1.0 / f32(columns));
    let j4 = in_slot - i2 * columns;
    let a = select(begin_d, begin_t, is_f) + 2u * i2 * block_size(fours);
    let next_rows = select(0u, block_size(fours), 2u * i2 + 1u < rows);
    let b = select(begin_u, 0u, is_f) + j4;
    let begin_k = select(fours, slot, slot < slots);

    var sum = Tall();
    for (var sample = first; sample < end; sample++) {
        let from_x = sample * view.s * view.r;
        for (var e = lane; e < of_x.blocks; e += WORKGROUP_SIZE) {
            let block = block_of(of_x, e);
            let at = from_x + block.at;
            place(of_x, block, run_of_x(at.x, block.count), run_of_x(at.y, block.count),
                run_of_x(at.z, block.count), run_of_x(at.w, block.count));
        }
        let from_d = sample * view.w * view.v;
        for (var e = lane; e < of_d.blocks; e += WORKGROUP_SIZE) {
            let block = block_of(of_d, e);
            let at = from_d + block.at;
            place(of_d, block, run_of_d(at.x, block.count), run_of_d(at.y, block.count),
                run_of_d(at.z, block.count), run_of_d(at.w, block.count));
        }
        workgroupBarrier();
        // U and T: tiles of 4 x 8.
        for (var t = lane; t < 2u * tiles_u; t += WORKGROUP_SIZE) {
            let is_t = t >= tiles_u;
            let at = select(t, t - tiles_u, is_t);
            let i = divided(at, by_tiles_v);
            let j = 2u * (at - i * tiles_v);
            let fours = select(r4, w4, is_t);
            let next = select(0u, 1u, j + 1u < v4);
            var at_a = select(0u, begin_g, is_t) + i * block_size(fours);
            var at_b = select(begin_f, begin_d, is_t) + j;
            let end_a = at_a + fours;
            var ab = Tile();
            var ab_next = Tile();
            for (; at_a < end_a; at_a++) {
                let a0 = tile[at_a];
                let a1 = tile[at_a + fours];
                let a2 = tile[at_a + 2u * fours];
                let a3 = tile[at_a + 3u * fours];
                let at_next = at_b + next;
                let x0 = vec4<f32>(a0.x, a1.x, a2.x, a3.x);
                ab = with_product(ab, x0, tile[at_b]);
                ab_next = with_product(ab_next, x0, tile[at_next]);
                let x1 = vec4<f32>(a0.y, a1.y, a2.y, a3.y);
                ab = with_product(ab, x1, tile[at_b + v4]);
                ab_next = with_product(ab_next, x1, tile[at_next + v4]);
                let x2 = vec4<f32>(a0.z, a1.z, a2.z, a3.z);
                ab = with_product(ab, x2, tile[at_b + 2u * v4]);
                ab_next = with_product(ab_next, x2, tile[at_next + 2u * v4]);
                let x3 = vec4<f32>(a0.w, a1.w, a2.w, a3.w);
                ab = with_product(ab, x3, tile[at_b + 3u * v4]);
                ab_next = with_product(ab_next, x3, tile[at_next + 3u * v4]);
                at_b += block_size(v4);
            }
            let to = select(begin_u, begin_t, is_t) + j * block_size(s4) + i;
            tile[to] = vec4<f32>(ab.a.x, ab.b.x, ab.c.x, ab.d.x);
            tile[to + s4] = vec4<f32>(ab.a.y, ab.b.y, ab.c.y, ab.d.y);
            tile[to + 2u * s4] = vec4<f32>(ab.a.z, ab.b.z, ab.c.z, ab.d.z);
            tile[to + 3u * s4] = vec4<f32>(ab.a.w, ab.b.w, ab.c.w, ab.d.w);
            let to_next = to + next * block_size(s4);
            tile[to_next] = vec4<f32>(ab_next.a.x, ab_next.b.x, ab_next.c.x, ab_next.d.x);
            tile[to_next + s4] = vec4<f32>(ab_next.a.y, ab_next.b.y, ab_next.c.y, ab_next.d.y);
            tile[to_next + 2u * s4] = vec4<f32>(ab_next.a.z, ab_next.b.z, ab_next.c.z, ab_next.d.z);
            tile[to_next + 3u * s4] = vec4<f32>(ab_next.a.w, ab_next.b.w, ab_next.c.w, ab_next.d.w);
        }
        workgroupBarrier();
        sum = tall(sum, a, fours, next_rows, b, columns, begin_k, fours, slots);
        workgroupBarrier();
    }

    // The slots one after the other, so that the order of the additions depends on the sizes alone.
    keep(sum, lane);
    workgroupBarrier();
    let row = group * params.columns;
    if (slot == 0u) {
        for (var other = 1u; other < slots; other++) {
            sum = plus_kept(sum, other * tiles + lane);
        }
        let begin = row + select(params.g_begin + k * view.g_k, params.f_begin + k * view.f_k, is_f);
        let extents = select(vec2<u32>(view.w, view.s), vec2<u32>(view.v, view.r), is_f);
        let strides = select(vec2<u32>(view.g_w, view.g_s), vec2<u32>(view.f_v, view.f_r), is_f);
        store_block(begin, 8u * i2, 4u * j4, extents, strides, sum.a, sum.b, sum.c, sum.d);
        store_block(begin, 8u * i2 + 4u, 4u * j4, extents, strides, sum.e, sum.f, sum.g, sum.h);
    }
    // D once more: sums of it from the first time would take 16 registers, which there are not.
    let of_bias = select(0u, params.bias_columns, k == 0u);
    for (var column = 4u * lane; column < of_bias; column += 4u * WORKGROUP_SIZE) {
        let count = of_bias - column;
        var total = vec4<f32>();
        for (var sample = first; sample < end; sample++) {
            total += run_of_d(sample * of_bias + column, count);
        }
        store_sums(row + params.bias_begin + column, total, count);
    }
}
