// The last stage of the backward pass on a software adapter, where a launch takes 90 µs: three sums over
// rows in one launch, of the partial gradients by G and by F and, for the bias, of grad_y.
//
//   grad[i] = Σ_row partial[row,i]          for each of the three
//
// The order of the additions depends on the sizes alone. One invocation computes four neighbours: the tiled
// kernels, whose sums these are, work on multiples of 4 alone.
//
// Buffers (every one read_write, because pooled tensors may share one buffer):
//   partial_g  [rows_g, columns_g]
//   partial_f  [rows_f, columns_f]
//   grad_y     [rows_y, columns_y], or partial sums of its rows
//   grad_g     [columns_g]; every element is written, as of the next two
//   grad_f     [columns_f]
//   grad_bias  [columns_y]
//   params     the struct below; columns are counted in fours

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    rows_g: u32,
    columns_g: u32,
    rows_f: u32,
    columns_f: u32,
    rows_y: u32,
    columns_y: u32,
}

@group(0) @binding(0) var<storage, read_write> partial_g: array<Quad>;
@group(0) @binding(1) var<storage, read_write> partial_f: array<Quad>;
@group(0) @binding(2) var<storage, read_write> grad_y: array<Quad>;
@group(0) @binding(3) var<storage, read_write> grad_g: array<Quad>;
@group(0) @binding(4) var<storage, read_write> grad_f: array<Quad>;
@group(0) @binding(5) var<storage, read_write> grad_bias: array<Quad>;
@group(0) @binding(6) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP_SIZE + lane;
    let f = index - params.columns_g;
    let y = f - params.columns_f;
    var sum = vec4<f32>();
    if (index < params.columns_g) {
        for (var row = 0u; row < params.rows_g; row++) {
            sum += four(partial_g[row * params.columns_g + index]);
        }
        grad_g[index] = quad(sum);
    } else if (f < params.columns_f) {
        for (var row = 0u; row < params.rows_f; row++) {
            sum += four(partial_f[row * params.columns_f + f]);
        }
        grad_f[f] = quad(sum);
    } else if (y < params.columns_y) {
        for (var row = 0u; row < params.rows_y; row++) {
            sum += four(grad_y[row * params.columns_y + y]);
        }
        grad_bias[y] = quad(sum);
    }
}
