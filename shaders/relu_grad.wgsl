// The gradient of activate.wgsl with ReLU, in place: D[i] is scaled where the output Y[i] is above 0, which
// means that it was positive and kept; else it becomes 0.
//
// Buffers:
//   y       [count] elements
//   grad_y  D, [count] elements; every one is read and written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    count: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<Element>;
@group(0) @binding(1) var<storage, read_write> grad_y: array<Element>;
@group(0) @binding(2) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    if (index >= params.count) {
        return;
    }
    let scaled = grad_y[index] * params.scale;
    grad_y[index] = select(Element(0.0), scaled, y[index] > Element(0.0));
}
