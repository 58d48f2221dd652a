// What is asked of an adapter before it is used: Y[g,i] = Σ_k X[g,k] W[k,i], one workgroup for each g, with what the
// kernels rely on: storage buffers, workgroup memory behind a barrier, a loop, and multiply-adds.
//
// Buffers:
//   x  [groups, 64] elements, read
//   w  [64, 64] elements, read
//   y  [groups, 64] elements, written

const WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> row: array<f32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let i = local.x;
    let begin = group.x * WORKGROUP_SIZE;
    row[i] = x[begin + i];
    workgroupBarrier();
    var sum = 0.0;
    for (var k = 0u; k < WORKGROUP_SIZE; k += 1u) {
        sum = fma(row[k], w[k * WORKGROUP_SIZE + i], sum);
    }
    y[begin + i] = sum;
}
