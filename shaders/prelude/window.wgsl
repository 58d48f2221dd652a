// What is convolved or pooled, in src/mps/conv/mod.rs: an image `[channels, height, width]`, a kernel, and as many positions of
// it as the output has.

struct Window {
    channels: u32,
    height: u32,
    width: u32,
    kernel_rows: u32,
    kernel_columns: u32,
    stride: u32,
    padding: u32,
    rows: u32,
    columns: u32,
}

// Row and column of the image under a tap, at a position of the output, and 1; 0 in place of the 1 outside the image.
fn under(window: Window, row: u32, column: u32, tap: u32) -> vec3<u32> {
    let padded_row = row * window.stride + tap / window.kernel_columns;
    let padded_column = column * window.stride + tap % window.kernel_columns;
    // Beyond the image, too, where the difference is below 0.
    let at = vec2<u32>(padded_row - window.padding, padded_column - window.padding);
    return vec3<u32>(at, u32(at.x < window.height && at.y < window.width));
}
