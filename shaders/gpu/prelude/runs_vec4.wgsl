// Runs of four numbers that follow each other in memory, at once.

const AT_ONCE: bool = true;

fn run_of_x(at: u32, count: u32) -> vec4<f32> {
    return x[at / 4u];
}
