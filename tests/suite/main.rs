//! The promises that one part alone cannot keep, a file each. One executable, because linking Burn
//! takes longer than running most of these.
//!
//! Tests in a module `vulkan` run on the Vulkan adapter, llvmpipe where there is no GPU. Without any
//! adapter they say that they were skipped; `TNET_REQUIRE_ADAPTER=1` turns that into failure.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails by panicking")]

#[macro_use]
mod common;

mod bad_data;
mod bench;
mod cli;
mod faults;
mod layer;
mod matmul;
mod model;
mod resume;
mod shaders;
mod soak;
mod training_ops;
