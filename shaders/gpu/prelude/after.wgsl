// What a GPU's kernel does to its results before it stores them: the bias, ReLU and dropout. The kernel has bindings
// `bias` and `words`.

struct After {
    start: u32,
    relu: u32,
    seed: vec2<u32>,
    threshold: u32,
    scale: f32,
}

fn after_of(start: u32, relu: u32, seed: u32, threshold: u32, scale: f32) -> After {
    var after = After(start, relu, vec2<u32>(), threshold, scale);
    // Where nothing is dropped there may be no words.
    if (threshold > 0u) {
        after.seed = vec2<u32>(words[seed], words[seed + 1u]);
    }
    return after;
}

// `index` and `bias_at` count elements.
fn finished(result: Element, index: u32, bias_at: u32, after: After) -> Element {
    var value = result;
    if (after.start == START_BIAS) {
        value += bias[bias_at];
    }
    return activated(value, index, after.relu, after.seed, after.threshold, after.scale);
}
