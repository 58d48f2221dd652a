// Four numbers that follow each other in memory, stored at once.
//
// `to` counts within an output, which begins at `begin` in the buffer.

fn store_run(begin: u32, to: u32, bias_at: u32, run: vec4<f32>, count: u32, after: After) {
    if (count > 0u) {
        y[(begin + to) / 4u] = finished(run, to / 4u, bias_at / 4u, after);
    }
}
