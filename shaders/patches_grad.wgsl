// The gradient of patches.wgsl: each number of an image gets those of all patches that it is part of.
//
//   grad_x[b, j, y, x] = Σ_tap D[b, row, column, j, tap]   where row·stride + tap_row - padding = y, and the same of columns
//
// One invocation writes one number, so that none is written twice and the sums have one order.
//
// Buffers:
//   d       D, [batch, rows, columns, channels, taps]
//   grad_x  [batch, channels, height, width]; all is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    window: Window,
}

@group(0) @binding(0) var<storage, read_write> d: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad_x: array<f32>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let window = params.window;
    let x = index % window.width;
    let y = index / window.width % window.height;
    let j = index / window.width / window.height % window.channels;
    let b = index / window.width / window.height / window.channels;
    let taps = window.kernel_rows * window.kernel_columns;
    var sum = 0.0;
    for (var tap = 0u; tap < taps; tap++) {
        let tap_row = tap / window.kernel_columns;
        let tap_column = tap % window.kernel_columns;
        let row = y + window.padding - tap_row;
        let column = x + window.padding - tap_column;
        // Of two numbers below 0, which are large here, neither is a row or a column.
        let fits = y + window.padding >= tap_row && x + window.padding >= tap_column
            && row % window.stride == 0u && column % window.stride == 0u
            && row / window.stride < window.rows && column / window.stride < window.columns;
        if (fits) {
            let position = (b * window.rows + row / window.stride) * window.columns + column / window.stride;
            sum += d[(position * window.channels + j) * taps + tap];
        }
    }
    grad_x[index] = sum;
}
