//! Into which factors a layer's inputs and outputs are folded, and by how many zeros they are padded for it.

use crate::mps::Chain;
use crate::net::{
    Layer, MOST_CORES, Placed, are_balanced, factors_of, features, image_factors, padded_factors,
};
use crate::{Error, Result};

/// How a layer is to be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folding {
    /// Number of cores.
    pub cores: usize,
    /// Extents of the input, one for each core; none for those that a tensor layer of as many cores has, else an image's
    /// height and width, each in factors where there are more cores, else the factors closest to each other.
    pub in_factors: Option<Vec<usize>>,
    /// Extents of the output, as many; none for those that the layer has, else the factors closest to each other.
    pub out_factors: Option<Vec<usize>>,
    /// Whether a width is padded where those factors are not [balanced](are_balanced).
    pub is_auto: bool,
}

impl Default for Folding {
    /// Two cores with the usual factors.
    fn default() -> Self {
        Self { cores: 2, in_factors: None, out_factors: None, is_auto: false }
    }
}

/// The factors of a layer in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folded {
    pub in_factors: Vec<usize>,
    pub out_factors: Vec<usize>,
    /// Zeros after the inputs, and after the outputs.
    pub pad: [usize; 2],
    /// The bonds that the layer has, if it is a tensor layer of these factors.
    pub bonds: Option<Vec<usize>>,
}

impl Folding {
    pub(super) fn of(&self, placed: &Placed, outputs: usize) -> Result<Folded> {
        let Self { cores, .. } = *self;
        if !(2..=MOST_CORES).contains(&cores) {
            let problem = format!("{cores}: expected 2 to {MOST_CORES}");
            return Err(Error::argument("cores", problem));
        }
        let inputs = features(placed.input);
        let own = match placed.layer {
            Layer::Mps(mps) if mps.chain().cores() == cores => Some(mps),
            _ => None,
        };
        let usual = |width: usize| match self.is_auto {
            true => padded_factors(width, cores),
            false => (factors_of(width, cores), 0),
        };
        let of_image = || {
            let [channels, height, width] = placed.input;
            let image = image_factors(placed.input, cores);
            let is_image = channels * height > 1 && width > 1;
            match is_image && (!self.is_auto || are_balanced(&image)) {
                true => (image, 0),
                false => usual(inputs),
            }
        };
        let (in_factors, zeros) = match (&self.in_factors, own) {
            (Some(typed), _) => (checked("in_factors", typed, cores, inputs, placed)?, 0),
            (None, Some(own)) => (own.in_factors.clone(), own.pad[0]),
            (None, None) => of_image(),
        };
        let (out_factors, cut) = match (&self.out_factors, own) {
            (Some(typed), _) => (checked("out_factors", typed, cores, outputs, placed)?, 0),
            (None, Some(own)) => (own.out_factors.clone(), own.pad[1]),
            (None, None) => usual(outputs),
        };
        let kept = own.filter(|own| {
            own.in_factors == in_factors
                && own.out_factors == out_factors
                && own.pad == [zeros, cut]
        });
        let bonds = kept.map(|own| own.bond.cuts(cores));
        // Names what is impossible.
        Chain::new(&in_factors, &out_factors, &vec![1; cores - 1])?;
        Ok(Folded { in_factors, out_factors, pad: [zeros, cut], bonds })
    }
}

fn checked(
    name: &'static str,
    factors: &[usize],
    cores: usize,
    width: usize,
    placed: &Placed,
) -> Result<Vec<usize>> {
    let typed: Vec<String> = factors.iter().map(usize::to_string).collect();
    let typed = typed.join(",");
    let problem = if factors.len() != cores {
        format!("{typed}: expected {cores} factors, one for each core")
    } else if factors.iter().try_fold(1_usize, |all, one| all.checked_mul(*one)) != Some(width) {
        format!("{typed}: expected a product of {width}, as {} has", placed.name)
    } else {
        return Ok(factors.to_vec());
    };
    Err(Error::argument(name, problem))
}
