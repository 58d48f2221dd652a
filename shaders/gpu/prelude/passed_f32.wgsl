// A run of the gradient by the output, and of the output itself.

fn run_of_d(at: u32, count: u32) -> vec4<f32> {
    let from_d = run_at(at, count);
    let d = vec4<f32>(grad_y[from_d.x], grad_y[from_d.y], grad_y[from_d.z], grad_y[from_d.w]);
    if (!relu) {
        return d;
    }
    return passed(d, vec4<f32>(y[from_d.x], y[from_d.y], y[from_d.z], y[from_d.w]));
}
