// The largest number, or the mean, of each channel under a kernel, at every position. There is no padding.
//
// Buffers:
//   x       [batch, channels, height, width]
//   y       [batch, channels, rows, columns]; all is written
//   params  the struct below; `mean` is 1 for the mean

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    window: Window,
    mean: u32,
}

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let window = params.window;
    let column = index % window.columns * window.stride;
    let row = index / window.columns % window.rows * window.stride;
    // Of a channel of an image.
    let channel = index / window.columns / window.rows;
    let begin = (channel * window.height + row) * window.width + column;
    let taps = window.kernel_rows * window.kernel_columns;
    var sum = 0.0;
    var largest = x[begin];
    for (var tap = 0u; tap < taps; tap++) {
        let number = x[begin + tap / window.kernel_columns * window.width + tap % window.kernel_columns];
        sum += number;
        largest = max(largest, number);
    }
    if (params.mean != 0u) {
        y[index] = sum / f32(taps);
    } else {
        y[index] = largest;
    }
}
