// A matrix product, C[i,j] = Σ_k A[i,k] B[k,j] (+ bias), in tiles that stay in registers: for software
// adapters.
//
// On llvmpipe a load of a vec4 costs as much as ten or more vec4 multiply-adds, whether all lanes read
// one address or each its own, so an invocation computes a tile of 16 i x 16 j in 16 matrices: 256
// multiply-adds for 32 loads at each four k. Lanes are neighbours along i; B is the same for all of
// them. Larger tiles gain a tenth (32 j) and take three times as long to compile.
//
// Each matrix may lie transposed. Everything moves in blocks of 4 x 4: a block is four vec4 along the
// contiguous mode, turned where that is the other mode than the matrices here are written for (`*_TURNED`:
// A lies as [inner, rows], B as [columns, inner], C as [columns, rows]). The contiguous mode of each
// must be a multiple of 4. A mode that is contiguous in none needs only to be 4 or more: its last block
// overlaps the one before it, and what that would add or store twice is left out.
//
// Buffers (every one read_write, because pooled tensors may share one buffer), all in vec4:
//   a       A
//   b       B
//   bias    as long as a row of C as it lies in memory; counts where `start` is START_BIAS
//   c       C; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 8u;

// Extents of an invocation's tile; 4 x 4 are one matrix.
const MATMUL_I: u32 = 16u;
const MATMUL_J: u32 = 16u;

// What the sum begins with: nothing, or the bias.
const START_BIAS: u32 = 1u;

struct Params {
    rows: u32,
    inner: u32,
    columns: u32,
    a_turned: u32,
    b_turned: u32,
    c_turned: u32,
    start: u32,
}

@group(0) @binding(0) var<storage, read_write> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;
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

// Columns i, rows k; of the rows those that `fresh` says.
fn load_a(at: u32, stride: u32, turned: bool, fresh: vec4<bool>) -> mat4x4<f32> {
    let block =
        turn(mat4x4<f32>(a[at], a[at + stride], a[at + 2u * stride], a[at + 3u * stride]), turned);
    let zero = vec4<f32>();
    return mat4x4<f32>(
        select(zero, block[0], fresh),
        select(zero, block[1], fresh),
        select(zero, block[2], fresh),
        select(zero, block[3], fresh),
    );
}

// Columns k, rows j.
fn load_b(at: u32, stride: u32, turned: bool) -> mat4x4<f32> {
    let block = mat4x4<f32>(b[at], b[at + stride], b[at + 2u * stride], b[at + 3u * stride]);
    return turn(block, turned);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let tiles = (params.columns + MATMUL_J - 1u) / MATMUL_J;
    let j0 = index % tiles * MATMUL_J;
    // A workgroup's first blocks are neighbours, then its second ones, and so on.
    let apart = 4u * WORKGROUP_SIZE;
    let i0 = index / tiles * (MATMUL_I * WORKGROUP_SIZE) + 4u * lane;
    if (i0 >= params.rows) {
        return;
    }

    // Known only here: a kernel for each of the ways that a training needs would take 1.1 s more to compile.
    let a_turned = params.a_turned != 0u;
    let b_turned = params.b_turned != 0u;
    let c_turned = params.c_turned != 0u;
    // In elements, and of the mode that is not contiguous in vec4.
    let a_i = select(params.inner, 1u, a_turned);
    let a_k = select(1u, params.rows, a_turned);
    let b_k = select(params.columns, 1u, b_turned);
    let b_j = select(1u, params.inner, b_turned);
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

    // Columns i, rows j.
    var c00 = mat4x4<f32>();
    var c01 = mat4x4<f32>();
    var c02 = mat4x4<f32>();
    var c03 = mat4x4<f32>();
    var c10 = mat4x4<f32>();
    var c11 = mat4x4<f32>();
    var c12 = mat4x4<f32>();
    var c13 = mat4x4<f32>();
    var c20 = mat4x4<f32>();
    var c21 = mat4x4<f32>();
    var c22 = mat4x4<f32>();
    var c23 = mat4x4<f32>();
    var c30 = mat4x4<f32>();
    var c31 = mat4x4<f32>();
    var c32 = mat4x4<f32>();
    var c33 = mat4x4<f32>();

    for (var k = 0u; k < params.inner; k += 4u) {
        let from_k = min(k, params.inner - 4u);
        let fresh = vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(k - from_k);
        let at_a = from_k * a_k;
        let at_b = from_k * b_k;
        let a0 = load_a((at_a + at_a0) / 4u, a_stride, a_turned, fresh);
        let a1 = load_a((at_a + at_a1) / 4u, a_stride, a_turned, fresh);
        let a2 = load_a((at_a + at_a2) / 4u, a_stride, a_turned, fresh);
        let a3 = load_a((at_a + at_a3) / 4u, a_stride, a_turned, fresh);
        let b0 = load_b((at_b + at_b0) / 4u, b_stride, b_turned);
        c00 = multiply_add(c00, b0, a0);
        c10 = multiply_add(c10, b0, a1);
        c20 = multiply_add(c20, b0, a2);
        c30 = multiply_add(c30, b0, a3);
        let b1 = load_b((at_b + at_b1) / 4u, b_stride, b_turned);
        c01 = multiply_add(c01, b1, a0);
        c11 = multiply_add(c11, b1, a1);
        c21 = multiply_add(c21, b1, a2);
        c31 = multiply_add(c31, b1, a3);
        let b2 = load_b((at_b + at_b2) / 4u, b_stride, b_turned);
        c02 = multiply_add(c02, b2, a0);
        c12 = multiply_add(c12, b2, a1);
        c22 = multiply_add(c22, b2, a2);
        c32 = multiply_add(c32, b2, a3);
        let b3 = load_b((at_b + at_b3) / 4u, b_stride, b_turned);
        c03 = multiply_add(c03, b3, a0);
        c13 = multiply_add(c13, b3, a1);
        c23 = multiply_add(c23, b3, a2);
        c33 = multiply_add(c33, b3, a3);
    }

    // In a loop: written out, the stores take the driver long to compile. The bias is read in any case,
    // because a branch around it takes four times as long as all the rest.
    var tile = array<mat4x4<f32>, 16>(
        c00, c01, c02, c03, c10, c11, c12, c13, c20, c21, c22, c23, c30, c31, c32, c33,
    );
    let biased = params.start == START_BIAS;
    for (var t = 0u; t < 16u; t++) {
        let i = i0 + t / 4u * apart;
        let j = j0 + t % 4u * 4u;
        if (i < params.rows && j < params.columns) {
            // Rows and columns of C as it lies in memory.
            let block = turn(tile[t], c_turned);
            let row = select(i, j, c_turned);
            let from_row = min(row, select(last_i, last_j, c_turned));
            let column = select(j, i, c_turned);
            let stride = select(params.columns, params.rows, c_turned);
            let add = select(vec4<f32>(), bias[select(0u, column / 4u, biased)], biased);
            for (var n = 0u; n < 4u; n++) {
                if (from_row + n >= row) {
                    let to = ((from_row + n) * stride + column) / 4u;
                    c[to] = block[n] + add;
                }
            }
        }
    }
}
