// A matrix product, C[i,j] = Σ_k A[i,k] B[k,j] (+ bias), in tiles that stay in registers: for software
// adapters.
//
// On llvmpipe a load of a vec4 costs as much as ten or more vec4 multiply-adds, whether all lanes read
// one address or each its own, so an invocation computes a tile of 16 i x 32 j in 32 matrices: 512
// multiply-adds for 48 loads at each four k. Lanes are neighbours along i; B is the same for all of
// them. Tiles of 16 j take 0.4 s to compile instead of 0.9, and a fifth longer to run.
//
// Each matrix may lie transposed. Everything moves in blocks of 4 x 4: a block is four vec4 along the
// contiguous mode, transposed where that is the other mode than the matrices here are written for (`*_transposed`:
// A lies as [inner, rows], B as [columns, inner], C as [columns, rows]). The contiguous mode of each
// must be a multiple of 4. A mode that is contiguous in none needs only to be 4 or more: its last block
// overlaps the one before it, and what that would add or store twice is left out.
//
// A long sum is taken in several launches, the later ones adding to C.
//
// Buffers, all in fours:
//   a       A
//   b       B
//   bias    as long as a row of C as it lies in memory; counts where `start` is START_BIAS
//   c       C; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 8u;

// Extents of an invocation's tile; 4 x 4 are one matrix.
const MATMUL_I: u32 = 16u;
const MATMUL_J: u32 = 32u;

struct Params {
    rows: u32,
    inner: u32,
    columns: u32,
    a_transposed: u32,
    b_transposed: u32,
    c_transposed: u32,
    start: u32,
    k_begin: u32,
    k_end: u32,
}

@group(0) @binding(0) var<storage, read_write> a: array<Quad>;
@group(0) @binding(1) var<storage, read_write> b: array<Quad>;
@group(0) @binding(2) var<storage, read_write> bias: array<Quad>;
@group(0) @binding(3) var<storage, read_write> c: array<Quad>;
@group(0) @binding(4) var<storage, read_write> params: Params;

// Columns i, rows k; of the rows those that `fresh` says.
fn load_a(at: u32, by: u32, transposed: bool, fresh: vec4<bool>) -> mat4x4<f32> {
    let block = to_block(a[at], a[at + by], a[at + 2u * by], a[at + 3u * by], transposed);
    let zero = vec4<f32>();
    return mat4x4<f32>(
        select(zero, block[0], fresh),
        select(zero, block[1], fresh),
        select(zero, block[2], fresh),
        select(zero, block[3], fresh),
    );
}

// Columns k, rows j.
fn load_b(at: u32, by: u32, transposed: bool) -> mat4x4<f32> {
    return to_block(b[at], b[at + by], b[at + 2u * by], b[at + 3u * by], transposed);
}

// Columns i, rows j.
fn store(i: u32, j: u32, tile: mat4x4<f32>) {
    // Rows and columns of C as it lies in memory.
    let transposed = params.c_transposed != 0u;
    let block = oriented(tile, transposed);
    let row = select(i, j, transposed);
    let first_row = min(row, select(params.rows, params.columns, transposed) - 4u);
    let column_c = select(j, i, transposed);
    let stride = select(params.columns, params.rows, transposed);
    // The bias is read in any case, because a branch around it takes four times as long as all the rest
    // to compile.
    let biased = params.start == START_BIAS;
    let add = select(vec4<f32>(), four(bias[select(0u, column_c / 4u, biased)]), biased);
    let end = select(0u, 4u, i < params.rows && j < params.columns);
    for (var n = row - first_row; n < end; n++) {
        let to = ((first_row + n) * stride + column_c) / 4u;
        let before = select(vec4<f32>(), four(c[to]), params.start == START_OUTPUT);
        c[to] = quad(column(n, block) + add + before);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = workgroup_index(invocation);
    let tiles = (params.columns + MATMUL_J - 1u) / MATMUL_J;
    let j0 = index % tiles * MATMUL_J;
    // A workgroup's first blocks are neighbours, then its second ones, and so on.
    let apart = 4u * WORKGROUP_SIZE;
    let i0 = index / tiles * (MATMUL_I * WORKGROUP_SIZE) + 4u * invocation.lane;
    if (i0 >= params.rows) {
        return;
    }

    // Known at run time only: a kernel for each layout that training needs would take 1.1 s more to compile.
    let a_transposed = params.a_transposed != 0u;
    let b_transposed = params.b_transposed != 0u;
    // In elements, and of the mode that is not contiguous in vec4.
    let a_i = select(params.inner, 1u, a_transposed);
    let a_k = select(1u, params.rows, a_transposed);
    let b_k = select(params.columns, 1u, b_transposed);
    let b_j = select(1u, params.inner, b_transposed);
    let a_stride = max(a_i, a_k) / 4u;
    let b_stride = max(b_k, b_j) / 4u;

    // Blocks past the end are clamped, computed and not stored.
    let last_i = params.rows - 4u;
    let last_j = params.columns - 4u;
    let at_a0 = min(i0, last_i) * a_i;
    let at_a1 = min(i0 + apart, last_i) * a_i;
    let at_a2 = min(i0 + 2u * apart, last_i) * a_i;
    let at_a3 = min(i0 + 3u * apart, last_i) * a_i;
    let at_b0 = min(j0, last_j) * b_j;
    let at_b1 = min(j0 + 4u, last_j) * b_j;
    let at_b2 = min(j0 + 8u, last_j) * b_j;
    let at_b3 = min(j0 + 12u, last_j) * b_j;
    let at_b4 = min(j0 + 16u, last_j) * b_j;
    let at_b5 = min(j0 + 20u, last_j) * b_j;
    let at_b6 = min(j0 + 24u, last_j) * b_j;
    let at_b7 = min(j0 + 28u, last_j) * b_j;

    // Columns i, rows j.
    var c00 = mat4x4<f32>();
    var c01 = mat4x4<f32>();
    var c02 = mat4x4<f32>();
    var c03 = mat4x4<f32>();
    var c04 = mat4x4<f32>();
    var c05 = mat4x4<f32>();
    var c06 = mat4x4<f32>();
    var c07 = mat4x4<f32>();
    var c10 = mat4x4<f32>();
    var c11 = mat4x4<f32>();
    var c12 = mat4x4<f32>();
    var c13 = mat4x4<f32>();
    var c14 = mat4x4<f32>();
    var c15 = mat4x4<f32>();
    var c16 = mat4x4<f32>();
    var c17 = mat4x4<f32>();
    var c20 = mat4x4<f32>();
    var c21 = mat4x4<f32>();
    var c22 = mat4x4<f32>();
    var c23 = mat4x4<f32>();
    var c24 = mat4x4<f32>();
    var c25 = mat4x4<f32>();
    var c26 = mat4x4<f32>();
    var c27 = mat4x4<f32>();
    var c30 = mat4x4<f32>();
    var c31 = mat4x4<f32>();
    var c32 = mat4x4<f32>();
    var c33 = mat4x4<f32>();
    var c34 = mat4x4<f32>();
    var c35 = mat4x4<f32>();
    var c36 = mat4x4<f32>();
    var c37 = mat4x4<f32>();

    for (var k = params.k_begin; k < params.k_end; k += 4u) {
        let from_k = min(k, params.inner - 4u);
        let fresh = vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(k - from_k);
        let at_a = from_k * a_k;
        let at_b = from_k * b_k;
        let a0 = load_a((at_a + at_a0) / 4u, a_stride, a_transposed, fresh);
        let a1 = load_a((at_a + at_a1) / 4u, a_stride, a_transposed, fresh);
        let a2 = load_a((at_a + at_a2) / 4u, a_stride, a_transposed, fresh);
        let a3 = load_a((at_a + at_a3) / 4u, a_stride, a_transposed, fresh);
        let b0 = load_b((at_b + at_b0) / 4u, b_stride, b_transposed);
        c00 = multiply_add(c00, b0, a0);
        c10 = multiply_add(c10, b0, a1);
        c20 = multiply_add(c20, b0, a2);
        c30 = multiply_add(c30, b0, a3);
        let b1 = load_b((at_b + at_b1) / 4u, b_stride, b_transposed);
        c01 = multiply_add(c01, b1, a0);
        c11 = multiply_add(c11, b1, a1);
        c21 = multiply_add(c21, b1, a2);
        c31 = multiply_add(c31, b1, a3);
        let b2 = load_b((at_b + at_b2) / 4u, b_stride, b_transposed);
        c02 = multiply_add(c02, b2, a0);
        c12 = multiply_add(c12, b2, a1);
        c22 = multiply_add(c22, b2, a2);
        c32 = multiply_add(c32, b2, a3);
        let b3 = load_b((at_b + at_b3) / 4u, b_stride, b_transposed);
        c03 = multiply_add(c03, b3, a0);
        c13 = multiply_add(c13, b3, a1);
        c23 = multiply_add(c23, b3, a2);
        c33 = multiply_add(c33, b3, a3);
        let b4 = load_b((at_b + at_b4) / 4u, b_stride, b_transposed);
        c04 = multiply_add(c04, b4, a0);
        c14 = multiply_add(c14, b4, a1);
        c24 = multiply_add(c24, b4, a2);
        c34 = multiply_add(c34, b4, a3);
        let b5 = load_b((at_b + at_b5) / 4u, b_stride, b_transposed);
        c05 = multiply_add(c05, b5, a0);
        c15 = multiply_add(c15, b5, a1);
        c25 = multiply_add(c25, b5, a2);
        c35 = multiply_add(c35, b5, a3);
        let b6 = load_b((at_b + at_b6) / 4u, b_stride, b_transposed);
        c06 = multiply_add(c06, b6, a0);
        c16 = multiply_add(c16, b6, a1);
        c26 = multiply_add(c26, b6, a2);
        c36 = multiply_add(c36, b6, a3);
        let b7 = load_b((at_b + at_b7) / 4u, b_stride, b_transposed);
        c07 = multiply_add(c07, b7, a0);
        c17 = multiply_add(c17, b7, a1);
        c27 = multiply_add(c27, b7, a2);
        c37 = multiply_add(c37, b7, a3);
    }

    // A loop whose end the driver does not see; see `pick`.
    let rounds = select(0u, 4u, params.rows > 0u);
    for (var t = 0u; t < rounds; t++) {
        let i = i0 + t * apart;
        store(i, j0, pick(t, c00, c10, c20, c30));
        store(i, j0 + 4u, pick(t, c01, c11, c21, c31));
        store(i, j0 + 8u, pick(t, c02, c12, c22, c32));
        store(i, j0 + 12u, pick(t, c03, c13, c23, c33));
        store(i, j0 + 16u, pick(t, c04, c14, c24, c34));
        store(i, j0 + 20u, pick(t, c05, c15, c25, c35));
        store(i, j0 + 24u, pick(t, c06, c16, c26, c36));
        store(i, j0 + 28u, pick(t, c07, c17, c27, c37));
    }
}
