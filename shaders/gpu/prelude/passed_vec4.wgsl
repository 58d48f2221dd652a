// A run of the gradient by the output, and of the output itself, at once.

fn run_of_d(at: u32, count: u32) -> vec4<f32> {
    let d = grad_y[at / 4u];
    if (!relu) {
        return d;
    }
    return passed(d, y[at / 4u]);
}
