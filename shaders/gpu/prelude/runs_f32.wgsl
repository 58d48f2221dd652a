// Runs of up to four numbers that follow each other in memory, one by one: their number need not be a multiple of 4. Past
// its end a run repeats its last number.

const AT_ONCE: bool = false;

fn run_at(at: u32, count: u32) -> vec4<u32> {
    return at + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(count - 1u));
}

fn run_of_x(at: u32, count: u32) -> vec4<f32> {
    let from_x = run_at(at, count);
    return vec4<f32>(x[from_x.x], x[from_x.y], x[from_x.z], x[from_x.w]);
}
