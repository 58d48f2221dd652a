//! A dense layer, or a tensor layer of a large bond, as one of a smaller bond: by its weights alone ([`Nearest`]; [`TtSvd`] for
//! more than two cores), or by the inputs that it gets ([`fit()`], [`fit_chain()`]). Everything here is computed in f64 on the CPU.

mod chain;
mod cores;
mod fit;
mod fit_chain;
mod folding;
mod inputs;
mod matrix;
mod moments;
mod nearest;
mod network;
mod tt_svd;

pub use chain::ChainCores;
pub use cores::Cores;
pub use fit::{Fit, fit, output_error};
pub use fit_chain::{chain_output_error, fit_chain};
pub use folding::Folding;
pub use inputs::inputs;
pub use matrix::Matrix;
pub use moments::Moments;
pub use nearest::Nearest;
pub use network::{By, Candidate, Compressed};
pub use tt_svd::TtSvd;
