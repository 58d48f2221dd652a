//! A network as data: the shape of its input and a list of layers ([`Stack`]).
//!
//! One file per kind of layer, in `layer/`, behind one trait ([`Kind`]). `--network` files, `config.toml` and checkpoints hold
//! the same list ([`mod@file`]); [`Snapshot`] has its weights on the host, [`Network`] computes it on a device, and
//! [`Preset`] makes the usual lists.
//!
//! ```text
//! Stack ─ stages ─▶ Stage: a layer and the ReLU and dropout after it, which run in one pass
//! ```
//!
//! To add a kind: a file in `layer/` with its struct and its `impl Kind`, and three lines in `layer/mod.rs`.

pub mod file;
mod kind;
mod layer;
mod network;
mod preset;
mod snapshot;
mod stack;

pub use kind::{Backward, Call, Draw, Kind, MultiplyAdds, Stepped, Weight, Weights};
pub use layer::*;
pub use network::{Network, Prediction, Stage};
pub(crate) use network::{rows, softmax};
pub(crate) use preset::MOST_CORES;
pub use preset::{Model, Preset, are_balanced, factors_of, image_factors, padded_factors, pair_of};
pub use snapshot::Snapshot;
pub use stack::{Placed, Stack};

/// Extents `[channels, height, width]` of one sample between two layers; features without an order are channels
/// of 1 x 1.
pub type Shape = [usize; 3];

/// Number of elements of a sample. [`Stack::check`] has made sure that it is not too large.
pub fn features(shape: Shape) -> usize {
    shape.iter().fold(1, |product: usize, &extent| product.saturating_mul(extent))
}
