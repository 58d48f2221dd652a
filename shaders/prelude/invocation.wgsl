// Before the text of every kernel. All bindings are read_write, because pooled tensors may share one buffer,
// which must then have one kind of access.
//
// Where an invocation is in its launch. A launch of more than 65,535 workgroups, WebGPU's limit along one
// dimension, is laid out over two. WORKGROUP_SIZE is the kernel's own.

struct Invocation {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

fn workgroup_index(at: Invocation) -> u32 {
    return at.workgroup.y * at.workgroups.x + at.workgroup.x;
}

fn invocation_index(at: Invocation) -> u32 {
    return workgroup_index(at) * WORKGROUP_SIZE + at.lane;
}

