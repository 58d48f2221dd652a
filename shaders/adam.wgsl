// One step of Adam over weights of a layer, in place, from partial sums of their gradients, in one pass:
//
//   grad   = Σ_row partial[row]
//   mean   = β₁ mean + (1 - β₁) grad
//   square = β₂ square + (1 - β₂) grad²
//   value  = keep · value - size · mean / (√square + ε)
//
// with the corrections of the moments folded into size and ε, which are with `keep` the first of the words that change
// from step to step. The order of the additions depends on the sizes alone.
//
// Buffers:
//   partial  [rows, columns] elements
//   state    values, means and squares, `stride` elements from one to the next; those from `begin` on are read and
//            written
//   words    what changes from step to step
//   params   the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    rows: u32,
    columns: u32,
    begin: u32,
    stride: u32,
    beta_1: f32,
    beta_2: f32,
}

@group(0) @binding(0) var<storage, read_write> partial: array<Element>;
@group(0) @binding(1) var<storage, read_write> state: array<Element>;
@group(0) @binding(2) var<storage, read_write> words: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let rows = params.rows;
    let columns = params.columns;
    if (index >= columns) {
        return;
    }
    // The first row outside the loops: of many gradients there is only one, and llvmpipe loads slowly within a loop.
    var grad = partial[index];
    var at = index + columns;
    var row = 1u;
    // Eight loads that do not wait for each other.
    for (; row + 8u <= rows; row += 8u) {
        let a = partial[at] + partial[at + columns];
        let b = partial[at + 2u * columns] + partial[at + 3u * columns];
        let c = partial[at + 4u * columns] + partial[at + 5u * columns];
        let d = partial[at + 6u * columns] + partial[at + 7u * columns];
        grad += (a + b) + (c + d);
        at += 8u * columns;
    }
    for (; row < rows; row++) {
        grad += partial[at];
        at += columns;
    }
    let beta_1 = params.beta_1;
    let beta_2 = params.beta_2;
    let of_value = params.begin + index;
    let of_mean = of_value + params.stride;
    let of_square = of_mean + params.stride;
    let mean = beta_1 * state[of_mean] + (1.0 - beta_1) * grad;
    let square = beta_2 * state[of_square] + (1.0 - beta_2) * grad * grad;
    state[of_mean] = mean;
    state[of_square] = square;
    state[of_value] = words[2] * state[of_value] - words[0] * mean / (sqrt(square) + words[1]);
}
