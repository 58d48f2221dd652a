//! Image classifiers whose large dense layers are replaced by tensor networks, trained on any GPU
//! through wgpu compute shaders, or on the CPU.
//!
//! # The equation
//!
//! A dense layer from `J·L` inputs to `M·N` outputs multiplies by a matrix `W`. Here the input is
//! folded into a matrix `X[j,l]`, the output into `Y[m,n]`, and `W` is replaced by two small tensors
//! ("cores") that share a bond index `k`: a matrix product state (MPS).
//!
//! ```text
//! Y[m,n] = Σ_{j,k,l} A[m,k,j] · C[l,k,n] · X[j,l] + B[m,n]
//! ```
//!
//! The letters are the same everywhere: batch `b`, output modes `m n`, input modes `j l`, bond `k`;
//! upper-case letters are the extents. `A` and `C` are the cores, `B` is the bias. The layer has
//! `M·K·J + L·K·N + M·N` parameters.
//!
//! # Gradients
//!
//! `D = grad_y` is the gradient of the loss with respect to `Y`, and likewise for the other names.
//!
//! ```text
//! U[j,k,n]       = Σ_l X[j,l] · C[l,k,n]
//! V[j,k,n]       = Σ_m A[m,k,j] · D[m,n]
//! grad_bias[m,n] = Σ_b D[m,n]
//! grad_A[m,k,j]  = Σ_{b,n} D[m,n] · U[j,k,n]
//! grad_C[l,k,n]  = Σ_{b,j} X[j,l] · V[j,k,n]
//! grad_x[j,l]    = Σ_{k,n} V[j,k,n] · C[l,k,n]
//! ```
//!
//! On a GPU, `shaders/contract.wgsl` computes the forward pass, and also `grad_x`, which is the same
//! contraction with the roles of inputs and outputs exchanged. `shaders/grad_core.wgsl` computes
//! `grad_A` and `grad_C`, and `shaders/sum_rows.wgsl` computes `grad_bias` and adds up partial sums
//! over the batch in a fixed order, so that equal runs give equal bits. On software adapters, tiled
//! kernels in `shaders/software/*_tiled.wgsl` take their place, and on the CPU device Rust code in
//! [`op`].
//!
//! # Where to start
//!
//! - [`nn::MpsLinear`] is the layer as a Burn module, [`op::mps_linear`] the bare operation.
//! - [`net::Stack`] is a network as data, [`net::Preset`] makes the article's, [`train::train`] trains it.
//! - [`device::open`] opens a device by a name like `vulkan:0`; [`verify`] checks that it computes the
//!   layer correctly.
//! - [`model::ModelFile`] reads a trained network, of this program or another, [`net::Network::load`] puts it on a device.
//! - [`compress`] finds the cores nearest to a dense layer, [`export`] writes a network for other programs.
//! - [`mps::reference`] is the equation in plain f64 loops.
//!
//! # Data flow
//!
//! ```text
//! files ─ data ─▶ images, labels ─ data::batches ─▶ x[b,784], labels[b]
//! x ─ net: a list of layers (mps, dense, relu, dropout) ─▶ logits
//!       mps ─ op ─▶ WGSL kernels (any GPU) or Rust (CPU)
//! loss ─ train ─▶ metrics.csv, curves.svg, checkpoints
//! ```
//!
//! # Features
//!
//! `cli` (on by default) is the program `tnet-gpu`, the benchmark and the download of the data set.
//! `images`, which is part of it, reads data sets as folders of images and as NumPy archives.
//! Without both the crate is the layer, the networks and the trainer.

#[cfg(feature = "cli")]
pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
pub mod compress;
pub mod data;
pub mod device;
pub mod error;
pub mod export;
mod files;
#[cfg(feature = "images")]
mod memory;
pub mod model;
pub mod mps;
pub mod net;
pub mod nn;
pub mod op;
mod random;
pub mod report;
#[cfg(feature = "cli")]
pub mod study;
mod tensor_file;
mod text;
pub mod train;
pub mod verify;

pub use error::{Error, Result};

/// The code in the README, compiled as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Bytes as hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
