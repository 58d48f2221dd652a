// Runs of four numbers of the cores, and of sums by them, at once.

fn run_of_f(at: u32, count: u32) -> vec4<f32> {
    return f[at / 4u];
}

fn run_of_g(at: u32, count: u32) -> vec4<f32> {
    return g[at / 4u];
}

fn store_sums(to: u32, run: vec4<f32>, count: u32) {
    partial[to / 4u] = run;
}
