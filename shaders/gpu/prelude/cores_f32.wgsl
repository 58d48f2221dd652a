// Runs of up to four numbers of the cores, and of sums by them, one by one: `count` is how many there are, or more.

fn run_of_f(at: u32, count: u32) -> vec4<f32> {
    let from_f = run_at(at, count);
    return vec4<f32>(f[from_f.x], f[from_f.y], f[from_f.z], f[from_f.w]);
}

fn run_of_g(at: u32, count: u32) -> vec4<f32> {
    let from_g = run_at(at, count);
    return vec4<f32>(g[from_g.x], g[from_g.y], g[from_g.z], g[from_g.w]);
}

fn store_sums(to: u32, run: vec4<f32>, count: u32) {
    partial[to] = run.x;
    if (count > 1u) {
        partial[to + 1u] = run.y;
    }
    if (count > 2u) {
        partial[to + 2u] = run.z;
    }
    if (count > 3u) {
        partial[to + 3u] = run.w;
    }
}
