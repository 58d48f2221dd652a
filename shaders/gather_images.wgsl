// A batch of images from the resident data set: X[b,p] = grey value of pixel p of image order[b],
// over 255.
//
// A row of the set is whole words; where an image does not fill them, the rest is not read. An index past the
// last image takes the last one: nothing outside the buffers is read, whatever `order` holds.
//
// Buffers:
//   images  [count, words], four grey values per word, the first in the lowest byte
//   order   [batch]
//   x       [batch, pixels]; every element is written
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    batch: u32,
    words: u32,
    pixels: u32,
    count: u32,
}

@group(0) @binding(0) var<storage, read_write> images: array<u32>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let index = invocation_index(invocation);
    let at = index * WIDTH;
    if (at >= params.batch * params.pixels) {
        return;
    }
    let pixel = at % params.pixels;
    let image = min(order[at / params.pixels], params.count - 1u);
    let word = images[image * params.words + pixel / 4u];
    let grey = (Index(word) >> (Index(8u * (pixel % 4u)) + 8u * OFFSETS)) & Index(255u);
    x[index] = Element(grey) / 255.0;
}
