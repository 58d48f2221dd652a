//! Image classifiers whose big dense layers are replaced by tensor networks, trained on any GPU
//! through wgpu compute shaders, or on the CPU.
//!
//! # The equation
//!
//! A dense layer from `J·L` inputs to `M·N` outputs multiplies with a matrix `W`. Folded into modes,
//! `W` is replaced by two small tensors ("cores") that share a bond index `k` (a matrix product
//! state, MPS):
//!
//! ```text
//! Y[m,n] = Σ_{j,k,l} A[m,k,j] · C[l,k,n] · X[j,l] + B[m,n]
//! ```
//!
//! One vocabulary holds everywhere: batch `b`, output modes `m n`, input modes `j l`, bond `k`;
//! upper-case letters are the extents. `A` and `C` are the cores, `B` is the bias, and `grad_x`
//! names the gradient of the loss by `x`. The layer has `M·K·J + L·K·N + M·N` parameters.
//!
//! # Where to begin
//!
//! - [`nn::MpsLinear`] is the layer as a Burn module, [`op::mps_linear`] the bare operation.
//! - [`model::Classifier`] is the article's network, [`train::train`] trains it.
//! - [`device::open`] turns a name like `vulkan:0` into a device, [`verify`] checks that the device
//!   computes the layer right.
//! - [`mps::reference`] is the equation in plain f64 loops.
//!
//! # The way of the data
//!
//! ```text
//! four files ─ data ─▶ images, labels ─ data::batches ─▶ x[b,784], labels[b]
//! x ─ model: MpsLinear ▸ ReLU ▸ Dropout ▸ Linear ▸ ReLU ▸ Dropout ▸ Linear ─▶ logits
//!       MpsLinear ─ op ─▶ WGSL kernels (any GPU) or Rust (CPU)
//! loss ─ train ─▶ metrics.csv, curves.svg, checkpoints
//! ```

pub mod bench;
pub mod cli;
pub mod data;
pub mod device;
pub mod error;
mod files;
pub mod model;
pub mod mps;
pub mod nn;
pub mod op;
mod random;
pub mod report;
pub mod train;
pub mod verify;

pub use error::{Error, Result};

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
