// The last stage of the backward pass on a software adapter, where a launch takes 90 µs: three sums over
// rows in one launch, of the partial gradients by A and by C and, for the bias, of grad_y.
//
//   grad[i] = Σ_row partial[row,i]          for each of the three
//
// The order of the additions depends on the sizes alone. One invocation computes four neighbours: the tiled
// kernels, whose sums these are, work on multiples of 4 alone.
//
// Buffers:
//   partial_a  [rows_a, columns_a]
//   partial_c  [rows_c, columns_c]
//   grad_y     [rows_y, columns_y], or partial sums of its rows
//   grad_a     [columns_a]; every element is written, as of the next two
//   grad_c     [columns_c]
//   grad_bias  [columns_y]
//   params     the struct below; columns are counted in fours

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    rows_a: u32,
    columns_a: u32,
    rows_c: u32,
    columns_c: u32,
    rows_y: u32,
    columns_y: u32,
}

@group(0) @binding(0) var<storage, read_write> partial_a: array<Quad>;
@group(0) @binding(1) var<storage, read_write> partial_c: array<Quad>;
@group(0) @binding(2) var<storage, read_write> grad_y: array<Quad>;
@group(0) @binding(3) var<storage, read_write> grad_a: array<Quad>;
@group(0) @binding(4) var<storage, read_write> grad_c: array<Quad>;
@group(0) @binding(5) var<storage, read_write> grad_bias: array<Quad>;
@group(0) @binding(6) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let c = index - params.columns_a;
    let y = c - params.columns_c;
    var sum = vec4<f32>();
    if (index < params.columns_a) {
        for (var row = 0u; row < params.rows_a; row++) {
            sum += four(partial_a[row * params.columns_a + index]);
        }
        grad_a[index] = quad(sum);
    } else if (c < params.columns_c) {
        for (var row = 0u; row < params.rows_c; row++) {
            sum += four(partial_c[row * params.columns_c + c]);
        }
        grad_c[c] = quad(sum);
    } else if (y < params.columns_y) {
        for (var row = 0u; row < params.rows_y; row++) {
            sum += four(grad_y[row * params.columns_y + y]);
        }
        grad_bias[y] = quad(sum);
    }
}
