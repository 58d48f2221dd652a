// The gradient of pool.wgsl: that of the largest number goes to the first one under the kernel that is as large, that of the
// mean to all in equal parts.
//
// One invocation writes one number of `grad_x`, the sum over all positions of the kernel that it is under.
//
// Buffers:
//   x       [batch, channels, height, width]
//   grad_y  [batch, channels, rows, columns]
//   grad_x  [batch, channels, height, width]; all is written
//   params  the struct below; `mean` is 1 for the mean

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    window: Window,
    mean: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad_y: array<f32>;
@group(0) @binding(2) var<storage, read_write> grad_x: array<f32>;
@group(0) @binding(3) var<storage, read_write> params: Params;

// The tap of the first of the largest numbers under the kernel that begins here.
fn first_largest(begin: u32) -> u32 {
    let window = params.window;
    let taps = window.kernel_rows * window.kernel_columns;
    var first = 0u;
    var largest = x[begin];
    for (var tap = 1u; tap < taps; tap++) {
        let number = x[begin + tap / window.kernel_columns * window.width + tap % window.kernel_columns];
        if (number > largest) {
            largest = number;
            first = tap;
        }
    }
    return first;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let window = params.window;
    let column = index % window.width;
    let row = index / window.width % window.height;
    let channel = index / window.width / window.height;
    let taps = window.kernel_rows * window.kernel_columns;
    var sum = 0.0;
    for (var tap = 0u; tap < taps; tap++) {
        let tap_row = tap / window.kernel_columns;
        let tap_column = tap % window.kernel_columns;
        let fits = row >= tap_row && column >= tap_column
            && (row - tap_row) % window.stride == 0u && (column - tap_column) % window.stride == 0u
            && (row - tap_row) / window.stride < window.rows && (column - tap_column) / window.stride < window.columns;
        if (fits) {
            let position = (channel * window.rows + (row - tap_row) / window.stride) * window.columns
                + (column - tap_column) / window.stride;
            let begin = (channel * window.height + row - tap_row) * window.width + column - tap_column;
            if (params.mean != 0u) {
                sum += grad_y[position] / f32(taps);
            } else if (first_largest(begin) == tap) {
                sum += grad_y[position];
            }
        }
    }
    grad_x[index] = sum;
}
