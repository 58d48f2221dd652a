// A matrix product for GPUs, with what comes after it in the store:
//
//   C[i,j] = Σ_k A[i,k] B[k,j]
//
// plus a bias, then ReLU and dropout; one operand may first pass the gradient of a ReLU; and the columns of B may be
// summed, which is the gradient by a bias where B is that by the output.
//
// A workgroup of 256 computes a tile of C, each invocation 4 x 4 elements of it from tiles of A and B in workgroup
// memory: 64 multiply-adds for 8 loads, all of them from workgroup memory. A tile has 4·SIDE rows and columns; where it is
// small, several slices of invocations share the range of k, and their sums are added up in order. Where that is still
// too few workgroups, k is split among `parts` of them, and adam.wgsl or finish.wgsl adds up their sums. What lies beyond
// an extent is zero, so that the inner loop knows no edges.
//
// Buffers:
//   a       A, strides a_i, a_k
//   b       B, strides b_k, b_j
//   mask    the output of the ReLU, laid out like the operand that `masked` names
//   bias    [columns], read where `start` is START_BIAS
//   words   what changes from step to step; two words from `seed` on are read where something is dropped
//   c       [parts, row]: a part has C at its beginning and, where `sums` is 1, the sums of B's columns from `sums_begin`
//           on; every one of these elements is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 256u;

struct Params {
    rows: u32,
    inner: u32,
    columns: u32,
    a_i: u32,
    a_k: u32,
    b_k: u32,
    b_j: u32,
    part_k: u32,
    parts: u32,
    masked: u32,
    mask_scale: f32,
    row: u32,
    sums: u32,
    sums_begin: u32,
    start: u32,
    relu: u32,
    seed: u32,
    threshold: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> mask: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> words: array<u32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
@group(0) @binding(6) var<storage, read_write> params: Params;

// What `masked` names: A, B or neither.
const MASKED_A: u32 = 1u;
const MASKED_B: u32 = 2u;

const TILE: u32 = 4u * SIDE;
// Invocations of a slice, and slices.
const SLICE: u32 = SIDE * SIDE;
const SLICES: u32 = WORKGROUP_SIZE / SLICE;
// Of k, at once, so that each invocation loads one vec4 of A and one of B.
const STEP: u32 = SIDE;
// A row of a tile in workgroup memory: one more than it holds, so that lanes that store a column do not meet in a bank.
const ROW: u32 = SIDE + 1u;

var<workgroup> a_tile: array<vec4<f32>, SLICES * STEP * ROW>;      // [slice, k][i]
var<workgroup> b_tile: array<vec4<f32>, SLICES * STEP * ROW>;      // [slice, k][j]

struct Loaded {
    a: vec4<f32>,
    b: vec4<f32>,
}

fn through_mask(four: vec4<f32>, at: vec4<u32>) -> vec4<f32> {
    let kept = vec4<f32>(mask[at.x], mask[at.y], mask[at.z], mask[at.w]) > vec4<f32>();
    return select(vec4<f32>(), four * mask_scale, kept);
}

var<private> inner: u32;
var<private> a_k: u32;
var<private> b_k: u32;
var<private> masked: u32;
var<private> mask_scale: f32;

// Four numbers of each operand. Past the end of k they are those of its last index, which are not used.
fn loaded(k_a: u32, k_b: u32, a_at: vec4<u32>, b_at: vec4<u32>) -> Loaded {
    let from_a = a_at + min(k_a, inner - 1u) * a_k;
    let from_b = b_at + min(k_b, inner - 1u) * b_k;
    var of_a = vec4<f32>(a[from_a.x], a[from_a.y], a[from_a.z], a[from_a.w]);
    var of_b = vec4<f32>(b[from_b.x], b[from_b.y], b[from_b.z], b[from_b.w]);
    if (masked == MASKED_A) {
        of_a = through_mask(of_a, from_a);
    } else if (masked == MASKED_B) {
        of_b = through_mask(of_b, from_b);
    }
    return Loaded(of_a, of_b);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let lane = invocation.lane;
    let rows = params.rows;
    inner = params.inner;
    let columns = params.columns;
    masked = params.masked;
    mask_scale = params.mask_scale;
    a_k = params.a_k;
    b_k = params.b_k;
    let parts = params.parts;
    let tiles_j = (columns + TILE - 1u) / TILE;
    let tiles_i = (rows + TILE - 1u) / TILE;
    let index = workgroup_index(invocation);
    let j_begin = index % tiles_j * TILE;
    let i_begin = index / tiles_j % tiles_i * TILE;
    let part = index / tiles_j / tiles_i;
    if (part >= parts) {
        return;
    }

    // A part has as many steps for each slice; the last ones may find nothing left.
    let steps = (params.part_k + SLICES * STEP - 1u) / (SLICES * STEP);
    let part_end = min((part + 1u) * params.part_k, inner);
    // What this invocation loads: four of i at one k, four of j at one k, in the slice of `load_slice`. Lanes go along
    // what is contiguous.
    let load_slice = lane / (STEP * SIDE);
    let load = lane % (STEP * SIDE);
    let a_by_k = a_k == 1u;
    let a_k4 = select(load / SIDE, load % STEP, a_by_k);
    let a_i4 = select(load % SIDE, load / STEP, a_by_k);
    let b_by_k = b_k == 1u;
    let b_k4 = select(load / SIDE, load % STEP, b_by_k);
    let b_j4 = select(load % SIDE, load / STEP, b_by_k);
    let slice_k = part * params.part_k + load_slice * steps * STEP;
    let i4 = vec4<u32>(0u, 1u, 2u, 3u) + (i_begin + 4u * a_i4);
    let j4 = vec4<u32>(0u, 1u, 2u, 3u) + (j_begin + 4u * b_j4);
    let a_at = min(i4, vec4<u32>(rows - 1u)) * params.a_i;
    let b_at = min(j4, vec4<u32>(columns - 1u)) * params.b_j;
    let a_there = i4 < vec4<u32>(rows);
    let b_there = j4 < vec4<u32>(columns);
    let a_to = (load_slice * STEP + a_k4) * ROW + a_i4;
    let b_to = (load_slice * STEP + b_k4) * ROW + b_j4;

    // What it computes.
    let slice = lane / SLICE;
    let ti = lane % SLICE / SIDE;
    let tj = lane % SIDE;
    let a_from = slice * STEP * ROW + ti;
    let b_from = slice * STEP * ROW + tj;
    var tile = Tile();
    var sum = vec4<f32>();
    // The numbers of the next step are on their way while this one is computed.
    var next = loaded(slice_k + a_k4, slice_k + b_k4, a_at, b_at);
    for (var step = 0u; step < steps; step++) {
        let k_a = slice_k + step * STEP + a_k4;
        let k_b = slice_k + step * STEP + b_k4;
        let of_a = select(vec4<f32>(), next.a, a_there & vec4<bool>(k_a < part_end));
        let of_b = select(vec4<f32>(), next.b, b_there & vec4<bool>(k_b < part_end));
        sum += of_b;
        workgroupBarrier();
        a_tile[a_to] = of_a;
        b_tile[b_to] = of_b;
        workgroupBarrier();
        next = loaded(k_a + STEP, k_b + STEP, a_at, b_at);
        for (var k = 0u; k < STEP * ROW; k += 4u * ROW) {
            let aa = a_tile[a_from + k];
            let ab = a_tile[a_from + k + ROW];
            let ac = a_tile[a_from + k + 2u * ROW];
            let ad = a_tile[a_from + k + 3u * ROW];
            let ba = b_tile[b_from + k];
            let bb = b_tile[b_from + k + ROW];
            let bc = b_tile[b_from + k + 2u * ROW];
            let bd = b_tile[b_from + k + 3u * ROW];
            tile = with_product(tile, aa, ba);
            tile = with_product(tile, ab, bb);
            tile = with_product(tile, ac, bc);
            tile = with_product(tile, ad, bd);
        }
    }

    // The slices' sums, in order.
    let own = lane % SLICE;
    for (var other = 1u; other < SLICES; other++) {
        workgroupBarrier();
        if (slice == other) {
            a_tile[own] = tile.a;
            a_tile[own + SLICE] = tile.b;
            b_tile[own] = tile.c;
            b_tile[own + SLICE] = tile.d;
        }
        workgroupBarrier();
        if (slice == 0u) {
            tile.a += a_tile[own];
            tile.b += a_tile[own + SLICE];
            tile.c += b_tile[own];
            tile.d += b_tile[own + SLICE];
        }
    }
    let begin = part * params.row;
    if (params.sums == 1u && i_begin == 0u) {
        workgroupBarrier();
        b_tile[b_to] = sum;
        workgroupBarrier();
        let j = j_begin + lane;
        if (lane < TILE && j < columns) {
            var total = 0.0;
            for (var k = 0u; k < SLICES * STEP; k++) {
                total += b_tile[k * ROW + lane / 4u][lane % 4u];
            }
            c[begin + params.sums_begin + j] = total;
        }
    }
    if (slice > 0u) {
        return;
    }
    let after = after_of(params.start, params.relu, params.seed, params.threshold, params.scale);
    let j0 = j_begin + 4u * tj;
    let i0 = i_begin + 4u * ti;
    store(begin, i0, j0, tile.a, after);
    store(begin, i0 + 1u, j0, tile.b, after);
    store(begin, i0 + 2u, j0, tile.c, after);
    store(begin, i0 + 3u, j0, tile.d, after);
}

fn store(begin: u32, i: u32, j: u32, four: vec4<f32>, after: After) {
    if (i < params.rows) {
        store_one(begin, i, j, four.x, after);
        store_one(begin, i, j + 1u, four.y, after);
        store_one(begin, i, j + 2u, four.z, after);
        store_one(begin, i, j + 3u, four.w, after);
    }
}

fn store_one(begin: u32, i: u32, j: u32, number: f32, after: After) {
    if (j < params.columns) {
        let at = i * params.columns + j;
        c[begin + at] = finished(number, at, j, after);
    }
}
