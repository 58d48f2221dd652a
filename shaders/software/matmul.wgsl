// A matrix product, C[i,j] = Σ_k A[i,k] B[k,j] (+ bias), for every size and layout: what
// matmul_tiled.wgsl cannot take because some mode is no multiple of 4, as of a layer of 10 classes.
//
// An invocation computes 4 i x 12 j from 16 loads of one number at each k; lanes are neighbours along i.
//
// As in contract.wgsl, a long sum is taken in several launches, the later ones adding to C.
//
// Buffers:
//   a       A, strides a_i, a_k
//   b       B, strides b_k, b_j
//   bias    strides bias_i, bias_j; read where `start` is START_BIAS
//   c       C, strides c_i, c_j; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 8u;

// Extents of an invocation's tile.
const MATMUL_ROWS: u32 = 4u;
const MATMUL_COLUMNS: u32 = 12u;

struct Params {
    rows: u32,
    columns: u32,
    a_i: u32,
    a_k: u32,
    b_k: u32,
    b_j: u32,
    c_i: u32,
    c_j: u32,
    bias_i: u32,
    bias_j: u32,
    start: u32,
    k_begin: u32,
    k_end: u32,
}

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@group(0) @binding(4) var<storage, read_write> params: Params;

// Offset in A of a row; rows past the end are clamped, computed and not stored.
fn row(i: u32) -> u32 {
    return min(i, params.rows - 1u) * params.a_i;
}

// Offset in B of a column, the same.
fn column(j: u32) -> u32 {
    return min(j, params.columns - 1u) * params.b_j;
}

// The t-th of four.
fn pick(t: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return select(select(a, b, t == 1u), select(c, d, t == 3u), t >= 2u);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = workgroup_index(invocation);
    let tiles = (params.columns + MATMUL_COLUMNS - 1u) / MATMUL_COLUMNS;
    let j0 = index % tiles * MATMUL_COLUMNS;
    let i0 = index / tiles * (MATMUL_ROWS * WORKGROUP_SIZE) + invocation.lane;
    if (i0 >= params.rows) {
        return;
    }

    let rows = vec4<u32>(
        row(i0),
        row(i0 + WORKGROUP_SIZE),
        row(i0 + 2u * WORKGROUP_SIZE),
        row(i0 + 3u * WORKGROUP_SIZE),
    );
    let columns0 =
        vec4<u32>(column(j0), column(j0 + 1u), column(j0 + 2u), column(j0 + 3u));
    let columns1 =
        vec4<u32>(column(j0 + 4u), column(j0 + 5u), column(j0 + 6u), column(j0 + 7u));
    let columns2 =
        vec4<u32>(column(j0 + 8u), column(j0 + 9u), column(j0 + 10u), column(j0 + 11u));
    // One of each i, along j.
    var sum00 = vec4<f32>();
    var sum10 = vec4<f32>();
    var sum20 = vec4<f32>();
    var sum30 = vec4<f32>();
    var sum01 = vec4<f32>();
    var sum11 = vec4<f32>();
    var sum21 = vec4<f32>();
    var sum31 = vec4<f32>();
    var sum02 = vec4<f32>();
    var sum12 = vec4<f32>();
    var sum22 = vec4<f32>();
    var sum32 = vec4<f32>();

    for (var k = params.k_begin; k < params.k_end; k++) {
        let at_a = rows + k * params.a_k;
        let a0 = a[at_a.x];
        let a1 = a[at_a.y];
        let a2 = a[at_a.z];
        let a3 = a[at_a.w];
        let at0 = columns0 + k * params.b_k;
        let b0 = vec4<f32>(b[at0.x], b[at0.y], b[at0.z], b[at0.w]);
        sum00 += a0 * b0;
        sum10 += a1 * b0;
        sum20 += a2 * b0;
        sum30 += a3 * b0;
        let at1 = columns1 + k * params.b_k;
        let b1 = vec4<f32>(b[at1.x], b[at1.y], b[at1.z], b[at1.w]);
        sum01 += a0 * b1;
        sum11 += a1 * b1;
        sum21 += a2 * b1;
        sum31 += a3 * b1;
        let at2 = columns2 + k * params.b_k;
        let b2 = vec4<f32>(b[at2.x], b[at2.y], b[at2.z], b[at2.w]);
        sum02 += a0 * b2;
        sum12 += a1 * b2;
        sum22 += a2 * b2;
        sum32 += a3 * b2;
    }

    // Picked by selects in loops whose ends the driver does not see: an array indexed by a loop variable takes
    // it twice as long again to compile as all the rest, and stores written out or unrolled still longer.
    let four = select(0u, 4u, params.rows > 0u);
    for (var t = 0u; t < four; t++) {
        let i = i0 + t * WORKGROUP_SIZE;
        let sums0 = pick(t, sum00, sum10, sum20, sum30);
        let sums1 = pick(t, sum01, sum11, sum21, sum31);
        let sums2 = pick(t, sum02, sum12, sum22, sum32);
        for (var n = 0u; n < 3u * four; n++) {
            let j = j0 + n;
            if (i < params.rows && j < params.columns) {
                let to = i * params.c_i + j * params.c_j;
                let sums = select(select(sums0, sums1, n >= 4u), sums2, n >= 8u);
                let low = select(sums.x, sums.y, n % 4u == 1u);
                let value = select(low, select(sums.z, sums.w, n % 4u == 3u), n % 4u >= 2u);
                var add = 0.0;
                if (params.start == START_BIAS) {
                    add = bias[i * params.bias_i + j * params.bias_j];
                } else if (params.start == START_OUTPUT) {
                    add = c[to];
                }
                c[to] = value + add;
            }
        }
    }
}
