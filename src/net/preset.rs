//! The usual stacks: hidden layers, each followed by ReLU and dropout, and a dense output layer.
//!
//! ```text
//! layer 1 ▸ ReLU ▸ dropout ▸ layer 2 ▸ ReLU ▸ dropout ▸ … ▸ dense ─▶ logits
//! ```

use serde::{Deserialize, Serialize};

use super::{Dense, Dropout, Layer, Mps, Relu, Shape, Stack, features};
use crate::{Error, Result};

/// Which of the hidden layers are tensor networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// The first one, as in the article.
    #[default]
    Mps,
    /// None.
    Dense,
    /// All of them.
    MpsAll,
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Mps => "mps",
            Self::Dense => "dense",
            Self::MpsAll => "mps-all",
        })
    }
}

/// What determines such a stack, besides the data. [`Preset::default`] is the article's network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// Which layers are tensor networks.
    pub model: Model,
    /// The bond of all tensor networks, or of each.
    pub bond: Vec<usize>,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// The rate of dropout after each hidden layer; 0 for none.
    pub dropout: f64,
    /// Extents `[J, L]` into which a first tensor network folds an image; none for its height and width.
    pub in_factors: Option<[usize; 2]>,
    /// Extents `[M, N]` of the first layer's output; none for [`factors_of`] its width.
    pub out_factors: Option<[usize; 2]>,
}

impl Default for Preset {
    fn default() -> Self {
        Self {
            model: Model::Mps,
            bond: vec![1],
            hidden: vec![512, 512],
            dropout: 0.2,
            in_factors: None,
            out_factors: None,
        }
    }
}

/// The two factors of a width that are closest to each other, the larger first: 512 is 32 x 16, a prime number is
/// itself x 1.
pub fn factors_of(width: usize) -> [usize; 2] {
    let small = (1..=width.isqrt()).rev().find(|small| width.is_multiple_of(*small));
    small.map_or([width, 1], |small| [width / small, small])
}

impl Preset {
    /// The stack for images of a shape and a number of classes.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the field that makes no sense, [`Error::Layer`] naming a layer that is impossible.
    pub fn stack(&self, input: Shape, classes: usize) -> Result<Stack> {
        let tensor_layers = match self.model {
            Model::Mps => self.hidden.len().min(1),
            Model::Dense => 0,
            Model::MpsAll => self.hidden.len(),
        };
        if self.bond.len() != 1 && self.bond.len() != tensor_layers {
            let typed: Vec<String> = self.bond.iter().map(usize::to_string).collect();
            let problem = format!(
                "{}: expected one number, or one for each tensor layer, of which there are {tensor_layers}",
                typed.join(",")
            );
            return Err(Error::argument("bond", problem));
        }
        if self.model == Model::MpsAll && self.hidden.is_empty() {
            return Err(Error::argument("hidden", "none: mps-all needs a hidden layer"));
        }
        let mut layers: Vec<Layer> = Vec::new();
        let mut inputs = features(input);
        for (at, &width) in self.hidden.iter().enumerate() {
            let out_factors = match (at, self.out_factors) {
                (0, Some([m, n])) if m.checked_mul(n) != Some(width) => {
                    let problem =
                        format!("{m},{n}: expected a product of {width}, the first layer's width");
                    return Err(Error::argument("out_factors", problem));
                }
                (0, Some(factors)) => factors,
                _ => factors_of(width),
            };
            let in_factors = match at {
                0 => self.first_in_factors(input)?,
                _ => factors_of(inputs),
            };
            layers.push(match at < tensor_layers {
                true => {
                    let bond = self.bond[at % self.bond.len()];
                    Mps { in_factors, out_factors, bond, bias: true }.into()
                }
                false => Dense { out: width, bias: true }.into(),
            });
            layers.push(Relu {}.into());
            // A rate that is no such number is refused with the stack.
            if self.dropout != 0.0 {
                layers.push(Dropout { rate: self.dropout }.into());
            }
            inputs = width;
        }
        layers.push(Dense { out: classes, bias: true }.into());
        let stack = Stack { input, layers };
        stack.check()?;
        Ok(stack)
    }

    /// The factors of an image: by default its height and width; in colour, the channels go with the height.
    fn first_in_factors(&self, input: Shape) -> Result<[usize; 2]> {
        let [channels, height, width] = input;
        let Some([j, l]) = self.in_factors else { return Ok([channels * height, width]) };
        let pixels = features(input);
        if j.checked_mul(l) == Some(pixels) {
            return Ok([j, l]);
        }
        let image = match channels {
            1 => format!("{height} x {width}"),
            _ => format!("{channels} x {height} x {width}"),
        };
        let problem = format!("{j},{l}: expected a product of {pixels}, an image's {image} pixels");
        Err(Error::argument("in_factors", problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_as_close_as_possible() {
        for (width, factors) in [
            (512, [32, 16]),
            (784, [28, 28]),
            (300, [20, 15]),
            (509, [509, 1]),
            (2, [2, 1]),
            (1, [1, 1]),
        ] {
            assert_eq!(factors_of(width), factors, "{width}");
        }
    }
}
