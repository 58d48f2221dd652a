//! What software adapters get in place of the kernels for GPUs: rasterizers that run shaders on the CPU's
//! cores, where a launch and a load cost much and lanes are no faster than loops.

pub mod matmul;
pub(super) mod padding;
pub(super) mod tiled;
