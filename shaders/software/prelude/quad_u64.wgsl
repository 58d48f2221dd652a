// Four numbers as two integers of 64 bits, where the device has these. llvmpipe loads and stores a vec4 number
// by number, with a bounds check for each; two at once take four fifths of a kernel's time.

alias Quad = vec2<u64>;

fn four(quad: Quad) -> vec4<f32> {
    let low = vec2<u32>(u32(quad.x), u32(quad.y));
    let high = vec2<u32>(u32(quad.x >> 32u), u32(quad.y >> 32u));
    return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
}

fn quad(four: vec4<f32>) -> Quad {
    let low = vec2<u64>(bitcast<vec4<u32>>(four).xz);
    let high = vec2<u64>(bitcast<vec4<u32>>(four).yw);
    return low | (high << vec2<u32>(32u));
}

