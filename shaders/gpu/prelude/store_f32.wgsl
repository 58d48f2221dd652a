// Up to four numbers that follow each other in memory, stored one by one: their number need not be a multiple of 4.
//
// `to` counts within an output, which begins at `begin` in the buffer.

fn store_run(begin: u32, to: u32, bias_at: u32, run: vec4<f32>, count: u32, after: After) {
    if (count > 0u) {
        y[begin + to] = finished(run.x, to, bias_at, after);
    }
    if (count > 1u) {
        y[begin + to + 1u] = finished(run.y, to + 1u, bias_at + 1u, after);
    }
    if (count > 2u) {
        y[begin + to + 2u] = finished(run.z, to + 2u, bias_at + 2u, after);
    }
    if (count > 3u) {
        y[begin + to + 3u] = finished(run.w, to + 3u, bias_at + 3u, after);
    }
}
