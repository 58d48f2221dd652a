// Three modes of a core, the outermost first: their extents, and from one index to the next in the core and in the tensor
// that has the mode too. See src/mps/chain/steps.rs.

struct CoreModes {
    extent_0: u32,
    extent_1: u32,
    extent_2: u32,
    core_0: u32,
    core_1: u32,
    core_2: u32,
    tensor_0: u32,
    tensor_1: u32,
    tensor_2: u32,
}

fn extent(modes: CoreModes) -> u32 {
    return modes.extent_0 * modes.extent_1 * modes.extent_2;
}

// The offset of an index in the core, and in the tensor.
fn offsets(modes: CoreModes, index: u32) -> vec2<u32> {
    let outer = index / modes.extent_2;
    let at = vec3<u32>(outer / modes.extent_1, outer % modes.extent_1, index % modes.extent_2);
    return at.x * vec2<u32>(modes.core_0, modes.tensor_0)
        + at.y * vec2<u32>(modes.core_1, modes.tensor_1)
        + at.z * vec2<u32>(modes.core_2, modes.tensor_2);
}
