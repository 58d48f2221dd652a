// The patches of images under a kernel, row by row: what a layer takes that is applied at every position.
//
//   patches[b, row, column, j, tap] = X[b, j, row·stride + tap_row - padding, column·stride + tap_column - padding]
//
// and 0 outside the image. One invocation writes one number; neighbours write neighbours.
//
// Buffers:
//   x        X, [batch, channels, height, width]
//   patches  [batch, rows, columns, channels, taps]; all is written
//   params   the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    window: Window,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> patches: array<f32>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let window = params.window;
    let taps = window.kernel_rows * window.kernel_columns;
    let tap = index % taps;
    let j = index / taps % window.channels;
    let position = index / taps / window.channels;
    let column = position % window.columns;
    let row = position / window.columns % window.rows;
    let b = position / window.columns / window.rows;
    let at = under(window, row, column, tap);
    var number = 0.0;
    if (at.z != 0u) {
        number = x[((b * window.channels + j) * window.height + at.x) * window.width + at.y];
    }
    patches[index] = number;
}
