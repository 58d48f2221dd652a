// Blocks of 4 x 4, and what the tiled kernels do with them.
//
// A block is a matrix that was loaded as four vec4 along the contiguous mode of its operand. llvmpipe
// computes with one register for each of the 16 numbers, which holds those of eight invocations, so
// transposing one costs nothing, and choosing between two a sixtieth of loading them.

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

// The block as the kernel needs it, where the contiguous mode may be either.
fn oriented(block: mat4x4<f32>, transposed: bool) -> mat4x4<f32> {
    return choose(transposed, block, transpose(block));
}

// The block of four quads, transposed where `transposed` says so.
fn to_block(a: Quad, b: Quad, c: Quad, d: Quad, transposed: bool) -> mat4x4<f32> {
    return oriented(mat4x4<f32>(four(a), four(b), four(c), four(d)), transposed);
}

fn choose(other: bool, a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        select(a[0], b[0], other),
        select(a[1], b[1], other),
        select(a[2], b[2], other),
        select(a[3], b[3], other),
    );
}

// The t-th of four. The outputs are stored in loops over what this and `column` pick, and the driver
// must not see where such a loop ends: a loop that it unrolls, an array indexed by a loop variable, which
// becomes branches, and stores that are written out take it longer to compile than all the rest (a
// product's kernel 1.2 s, and 0.4 so).
fn pick(t: u32, a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>) -> mat4x4<f32> {
    return choose(t >= 2u, choose(t == 1u, a, b), choose(t == 3u, c, d));
}

fn column(n: u32, block: mat4x4<f32>) -> vec4<f32> {
    let low = select(block[0], block[1], n == 1u);
    return select(low, select(block[2], block[3], n == 3u), n >= 2u);
}

