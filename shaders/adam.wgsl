// One step of Adam over a weight, in place, in one pass:
//
//   mean   = β₁ mean + (1 - β₁) grad
//   square = β₂ square + (1 - β₂) grad²
//   value -= size · mean / (√square + ε)
//
// with the corrections of the moments folded into size and ε by the caller.
//
// Buffers:
//   grad    [count] elements
//   value   [count] elements; every one is read and written, as of the next two
//   mean    [count] elements
//   square  [count] elements
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    beta_1: f32,
    beta_2: f32,
    size: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<storage, read_write> grad: array<Element>;
@group(0) @binding(1) var<storage, read_write> value: array<Element>;
@group(0) @binding(2) var<storage, read_write> mean: array<Element>;
@group(0) @binding(3) var<storage, read_write> square: array<Element>;
@group(0) @binding(4) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let beta_1 = params.beta_1;
    let beta_2 = params.beta_2;
    let d = grad[index];
    let m = beta_1 * mean[index] + (1.0 - beta_1) * d;
    let s = beta_2 * square[index] + (1.0 - beta_2) * d * d;
    mean[index] = m;
    square[index] = s;
    value[index] -= params.size * m / (sqrt(s) + params.epsilon);
}
