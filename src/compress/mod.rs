//! A dense layer, or a tensor layer of a large bond, as one of a smaller bond: by its weights alone ([`Nearest`]), or by the
//! inputs that it gets ([`fit()`]). Everything here is computed in f64 on the CPU.

mod cores;
mod fit;
mod inputs;
mod moments;
mod nearest;
mod network;

pub use cores::Cores;
pub use fit::{Fit, fit, output_error};
pub use inputs::inputs;
pub use moments::Moments;
pub use nearest::Nearest;
pub use network::{By, Candidate, Compressed, Matrix};
