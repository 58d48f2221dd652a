// Four numbers as they lie in a buffer.

alias Quad = vec4<f32>;

fn four(quad: Quad) -> vec4<f32> {
    return quad;
}

fn quad(four: vec4<f32>) -> Quad {
    return four;
}

