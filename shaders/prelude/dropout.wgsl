// What dropout keeps: whether an element stays follows from a hash of its index and the step's seed, by `lowbias32`
// of Chris Wellons, once for each half of the seed. The CPU draws the same.

fn hash(value: Index) -> Index {
    var bits = value;
    bits ^= bits >> Index(16u);
    bits *= 0x7feb352du;
    bits ^= bits >> Index(15u);
    bits *= 0x846ca68bu;
    return bits ^ (bits >> Index(16u));
}

// ReLU where `relu` is 1, then dropout. The element at `index` is kept, and scaled, where it is above 0 (or there is no
// ReLU) and the hash is not below the threshold; else it becomes 0. A NaN stays one. With a threshold of 0 and a scale
// of 1 nothing is dropped.
fn activated(value: Element, index: u32, relu: u32, seed: vec2<u32>, threshold: u32, scale: f32) -> Element {
    var result = value;
    if (threshold > 0u) {
        let drawn = hash(hash(Index(index * WIDTH) + OFFSETS + Index(seed.x)) ^ Index(seed.y));
        result *= select(Element(0.0), Element(scale), drawn >= Index(threshold));
    }
    if (relu == 1u) {
        result = select(result, Element(0.0), value <= Element(0.0));
    }
    return result;
}
