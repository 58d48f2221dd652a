//! The kinds of layers, one file for each.

mod conv2d;
mod dense;
mod dropout;
mod gelu;
mod mps;
mod pool;
mod relu;

pub use conv2d::{Channels, Conv2d};
pub use dense::Dense;
pub use dropout::Dropout;
pub use gelu::Gelu;
pub use mps::{Bond, Mps};
pub use pool::{AvgPool, MaxPool};
pub use relu::Relu;
use serde::{Deserialize, Serialize};

use super::Kind;

/// What a file need not say: that a layer has a bias.
fn yes() -> bool {
    true
}

macro_rules! layers {
    ($($(#[$doc:meta])* $kind:ident, $name:literal;)+) => {
        /// A layer of any kind, as a table `{ kind = …, … }`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Layer {
            $(
                $(#[$doc])*
                #[serde(rename = $name)]
                $kind($kind),
            )+
        }

        impl Layer {
            /// The name of every kind.
            pub const KINDS: &'static [&'static str] = &[$($name),+];

            /// The name of its kind.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$kind(_) => $name,)+ }
            }

            /// What it does.
            pub fn kind(&self) -> &dyn Kind {
                match self { $(Self::$kind(layer) => layer,)+ }
            }
        }

        $(impl From<$kind> for Layer {
            fn from(layer: $kind) -> Self {
                Self::$kind(layer)
            }
        })+
    };
}

layers! {
    /// A tensor network in place of a matrix.
    Mps, "mps";
    /// A matrix.
    Dense, "dense";
    /// A convolution.
    Conv2d, "conv2d";
    /// The largest number under a kernel.
    MaxPool, "maxpool";
    /// The mean under a kernel.
    AvgPool, "avgpool";
    /// `max(x, 0)`.
    Relu, "relu";
    /// `x Φ(x)`, a smooth kind of ReLU.
    Gelu, "gelu";
    /// Sets some of its inputs to 0 in training.
    Dropout, "dropout";
}
