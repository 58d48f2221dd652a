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
    /// Number of cores of every tensor network; none for as many as the factors of the first have, and two of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<usize>,
    /// Extents into which a first tensor network folds an image, one for each core; none for its height and width, each in
    /// factors where there are more cores.
    pub in_factors: Option<Vec<usize>>,
    /// Extents of the first layer's output, as many; none for [`factors_of`] its width.
    pub out_factors: Option<Vec<usize>>,
}

impl Default for Preset {
    fn default() -> Self {
        Self {
            model: Model::Mps,
            bond: vec![1],
            hidden: vec![512, 512],
            dropout: 0.2,
            cores: None,
            in_factors: None,
            out_factors: None,
        }
    }
}

/// So many factors of a width, those with the smallest sum, the larger ones first: 512 is 32 x 16 and 8 x 4 x 4 x 4, a
/// prime number is itself x 1.
pub fn factors_of(width: usize, count: usize) -> Vec<usize> {
    let divisors: Vec<usize> = (1..=width).filter(|small| width.is_multiple_of(*small)).collect();
    smallest_sum(width, count, width, &divisors).unwrap_or_default()
}

/// How many times the root that so many equal factors would be the largest one may be: 2. Of 4 factors, 512 has 8 x 4 x 4 x 4
/// (8 with a root of 4.8), and 510 would have 17 x 5 x 3 x 2.
const BALANCE: f64 = 2.0;

/// Whether no factor is far above the root of their product.
pub fn are_balanced(factors: &[usize]) -> bool {
    let product: f64 = factors.iter().map(|&factor| factor as f64).product();
    let largest = factors.iter().copied().max().unwrap_or(1);
    largest as f64 <= BALANCE * product.powf(1.0 / factors.len() as f64)
}

/// [`factors_of`] the smallest number from a width on that has [balanced](are_balanced) ones, and how much larger it is.
pub fn padded_factors(width: usize, count: usize) -> (Vec<usize>, usize) {
    let balanced = (width..).map(|padded| (factors_of(padded, count), padded - width));
    // A power of a number is balanced.
    balanced.into_iter().find(|(factors, _)| are_balanced(factors)).unwrap_or_default()
}

/// So many factors of an image: those of its rows, then those of its columns, so that a factor is a part of either. In colour,
/// the channels go with the rows.
pub fn image_factors([channels, height, width]: Shape, cores: usize) -> Vec<usize> {
    let halves = [(channels * height, cores.div_ceil(2)), (width, cores / 2)];
    let smaller_first = |(extent, count)| factors_of(extent, count).into_iter().rev();
    halves.into_iter().flat_map(smaller_first).collect()
}

/// The two factors of a width that are closest to each other, the larger first.
pub fn pair_of(width: usize) -> [usize; 2] {
    let small = (1..=width.isqrt()).rev().find(|small| width.is_multiple_of(*small));
    small.map_or([width, 1], |small| [width / small, small])
}

/// The factors that are at most `most`, if there are any.
fn smallest_sum(width: usize, count: usize, most: usize, divisors: &[usize]) -> Option<Vec<usize>> {
    if count <= 1 {
        return (count == 1 && width <= most).then(|| vec![width]);
    }
    let fits = |first: &&usize| **first <= most && width.is_multiple_of(**first);
    let with = |&first: &usize| {
        let rest = smallest_sum(width / first, count - 1, first, divisors)?;
        Some([&[first], &rest[..]].concat())
    };
    divisors
        .iter()
        .filter(fits)
        .filter_map(with)
        .min_by_key(|factors| factors.iter().sum::<usize>())
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
            let (in_factors, out_factors) = match at {
                0 => self.first_factors(input, width)?,
                _ => {
                    let cores = self.cores.unwrap_or(2);
                    (factors_of(inputs, cores), factors_of(width, cores))
                }
            };
            layers.push(match at < tensor_layers {
                true => {
                    let bond = self.bond[at % self.bond.len()];
                    Mps::new(in_factors, out_factors, bond).into()
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

    /// The factors of an image and of the first layer's width. Those of an image are by default its height and width, of
    /// more cores the factors of both; in colour, the channels go with the height.
    fn first_factors(&self, input: Shape, outputs: usize) -> Result<(Vec<usize>, Vec<usize>)> {
        let typed = self.in_factors.as_ref().or(self.out_factors.as_ref());
        let cores = self.cores.or(typed.map(Vec::len)).unwrap_or(2);
        if !(2..=MOST_CORES).contains(&cores) {
            let problem = format!("{cores}: expected 2 to {MOST_CORES}");
            return Err(Error::argument("cores", problem));
        }
        let [channels, height, width] = input;
        let image = match channels {
            1 => format!("{height} x {width}"),
            _ => format!("{channels} x {height} x {width}"),
        };
        let in_factors = self.in_factors.clone().unwrap_or_else(|| image_factors(input, cores));
        let out_factors = self.out_factors.clone().unwrap_or_else(|| factors_of(outputs, cores));
        for (name, factors, product, of) in [
            ("in_factors", &in_factors, features(input), format!("an image's {image} pixels")),
            ("out_factors", &out_factors, outputs, "the first layer's width".to_owned()),
        ] {
            let found: Vec<String> = factors.iter().map(usize::to_string).collect();
            let found = found.join(",");
            if factors.len() != cores {
                let problem = format!("{found}: expected {cores} factors, one for each core");
                return Err(Error::argument(name, problem));
            }
            if factors.iter().try_fold(1_usize, |all, &factor| all.checked_mul(factor))
                != Some(product)
            {
                let problem = format!("{found}: expected a product of {product}, {of}");
                return Err(Error::argument(name, problem));
            }
        }
        Ok((in_factors, out_factors))
    }
}

/// Most cores of a tensor network that is made from options.
pub(crate) const MOST_CORES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_as_close_as_possible() {
        for (width, factors) in [
            (512, &[32, 16][..]),
            (784, &[28, 28]),
            (300, &[20, 15]),
            (509, &[509, 1]),
            (2, &[2, 1]),
            (1, &[1, 1]),
            (512, &[8, 4, 4, 4]),
            (784, &[14, 8, 7]),
            (28_224, &[14, 14, 12, 12]),
            (7, &[7, 1, 1, 1]),
        ] {
            assert_eq!(factors_of(width, factors.len()), factors, "{width}");
        }
    }

    #[test]
    fn a_width_without_balanced_factors_is_padded() {
        for (width, factors, pad) in [
            (509, &[8, 4, 4, 4][..], 3),
            (512, &[32, 16], 0),
            (521, &[29, 18], 1),
            (10, &[5, 2], 0),
            (7, &[2, 2, 2, 1], 1),
            (1, &[1, 1, 1], 0),
        ] {
            assert_eq!(padded_factors(width, factors.len()), (factors.to_vec(), pad), "{width}");
        }
        assert!(are_balanced(&[4, 7, 4, 7]) && !are_balanced(&[4, 7, 28]));
    }

    #[test]
    fn a_chain_keeps_the_rows_of_an_image() {
        let factors = |cores, input: Shape| {
            let preset = Preset { cores: Some(cores), ..Preset::default() };
            let stack = preset.stack(input, 10).unwrap();
            let Layer::Mps(layer) = &stack.layers[0] else { panic!("{stack:?}") };
            (layer.in_factors.clone(), layer.out_factors.clone())
        };
        assert_eq!(factors(4, [1, 28, 28]), (vec![4, 7, 4, 7], vec![8, 4, 4, 4]));
        assert_eq!(factors(3, [1, 28, 28]), (vec![4, 7, 28], vec![8, 8, 8]));
        assert_eq!(factors(2, [3, 32, 32]), (vec![96, 32], vec![32, 16]));
        assert_eq!(factors(4, [3, 32, 32]).0, [8, 12, 4, 8]);
    }
}
