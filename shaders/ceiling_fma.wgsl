// The multiply-add rate of an adapter: 32 vec4 fused multiply-adds an iteration, in eight chains that
// do not wait for each other, on registers alone.
//
// Buffers:
//   output  [invocations]; a number of each, so that nothing can be left out
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    invocations: u32,
    iterations: u32,
}

@group(0) @binding(0) var<storage, read_write> output: array<f32>;
@group(0) @binding(1) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.invocations) {
        return;
    }
    let start = vec4<f32>(f32(index & 255u) * 0.001);
    // A contraction towards 1: no number grows, none becomes denormal.
    let f = vec4<f32>(0.5);
    let g = vec4<f32>(0.5);
    var a = start;
    var b = start + 0.1;
    var c = start + 0.2;
    var d = start + 0.3;
    var e = start + 0.4;
    var h = start + 0.5;
    var p = start + 0.6;
    var q = start + 0.7;
    for (var i = 0u; i < params.iterations; i++) {
        a = fma(a, f, g); b = fma(b, f, g); c = fma(c, f, g); d = fma(d, f, g);
        e = fma(e, f, g); h = fma(h, f, g); p = fma(p, f, g); q = fma(q, f, g);
        a = fma(a, f, g); b = fma(b, f, g); c = fma(c, f, g); d = fma(d, f, g);
        e = fma(e, f, g); h = fma(h, f, g); p = fma(p, f, g); q = fma(q, f, g);
        a = fma(a, f, g); b = fma(b, f, g); c = fma(c, f, g); d = fma(d, f, g);
        e = fma(e, f, g); h = fma(h, f, g); p = fma(p, f, g); q = fma(q, f, g);
        a = fma(a, f, g); b = fma(b, f, g); c = fma(c, f, g); d = fma(d, f, g);
        e = fma(e, f, g); h = fma(h, f, g); p = fma(p, f, g); q = fma(q, f, g);
    }
    let sum = a + b + c + d + e + h + p + q;
    output[index] = sum.x + sum.y + sum.z + sum.w;
}
