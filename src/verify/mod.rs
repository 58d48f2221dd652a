//! Checks that a device computes tensor layers correctly: the forward pass and every gradient, through autodiff and as
//! in training, against the f64 reference or against reference files made by other programs.

pub mod chains;
pub mod convolutions;
mod file;
mod reader;
pub mod two_cores;

use std::fmt;

use burn::tensor::{Device, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::mps::reference::relative_error;
use crate::{Error, Result};

pub use file::from_folder;

/// Largest `‖got − reference‖ / ‖reference‖` that passes, for each output and gradient.
///
/// A sum of `t` terms in f32 has a relative error of about `2⁻²⁴ √(t/2)`. The longest sums here have
/// some 10⁴ terms, which gives 4e-6; sums over the batch are split into groups and stay below that.
/// A wrong index anywhere gives an error of the order of 1.
pub const TOLERANCE: f64 = 1e-5;

/// Operands and the expected results.
#[derive(Debug, Clone)]
pub enum Case {
    /// Of a layer of two cores.
    TwoCores(two_cores::Case),
    /// Of a chain of any number.
    Chain(chains::Case),
    /// Of a convolution of two cores.
    Convolution(convolutions::Case),
}

impl Case {
    /// What it tests, or the file's name.
    pub fn name(&self) -> &str {
        match self {
            Self::TwoCores(case) => &case.name,
            Self::Chain(case) => &case.name,
            Self::Convolution(case) => &case.name,
        }
    }

    /// Computes it on `device` (without autodiff) and measures the distances.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] when the device fails.
    pub fn run(&self, device: &Device) -> Result<Distances> {
        match self {
            Self::TwoCores(case) => two_cores::run(case, device),
            Self::Chain(case) => chains::run(case, device),
            Self::Convolution(case) => convolutions::run(case, device),
        }
    }
}

/// The cases of sizes that test the edges, with random operands.
pub fn built_in() -> Vec<Case> {
    let two_cores = two_cores::built_in().into_iter().map(Case::TwoCores);
    let chains = chains::built_in().into_iter().map(Case::Chain);
    let convolutions = convolutions::built_in().into_iter().map(Case::Convolution);
    two_cores.chain(chains).chain(convolutions).collect()
}

/// `‖got − reference‖ / ‖reference‖` of an output and of each gradient, by name; 0 where both are 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distances(Vec<(String, f64)>);

impl Distances {
    /// Adds one, or keeps the larger of two by the same name.
    fn add(&mut self, name: impl Into<String>, distance: f64) {
        let name = name.into();
        match self.0.iter_mut().find(|(other, _)| *other == name) {
            Some((_, known)) => *known = larger(*known, distance),
            None => self.0.push((name, distance)),
        }
    }

    /// Names and distances, the output first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, distance)| (&name[..], *distance))
    }

    /// Whether each is within [`TOLERANCE`]; NaN is not.
    pub fn pass(&self) -> bool {
        self.0.iter().all(|(_, distance)| *distance <= TOLERANCE)
    }

    /// The largest; NaN if one is.
    pub fn largest(&self, names: impl Fn(&str) -> bool) -> f64 {
        let chosen = self.iter().filter(|(name, _)| names(name));
        chosen.fold(0.0, |most, (_, distance)| larger(most, distance))
    }
}

/// The larger of two distances; NaN is larger than any.
fn larger(one: f64, other: f64) -> f64 {
    if one.is_nan() || one >= other { one } else { other }
}

/// An object with a member for each.
impl Serialize for Distances {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.iter().try_for_each(|(name, distance)| map.serialize_entry(name, &distance))?;
        map.end()
    }
}

impl fmt::Display for Distances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.iter().map(|(name, distance)| format!("{name} {distance:.1e}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// Uniform random numbers around a mean, the same for the same extents.
struct Numbers(ChaCha8Rng);

impl Numbers {
    fn of(extents: &[usize]) -> Self {
        let seed =
            extents.iter().fold(17, |seed: u64, &extent| seed.wrapping_mul(31) + extent as u64);
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn take(&mut self, count: usize, mean: f32) -> Vec<f32> {
        // 24 random bits make every f32 of the grid 2⁻²³ in [-1, 1).
        (0..count)
            .map(|_| (self.0.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0 + mean)
            .collect()
    }
}

/// Leaves NaN in freed memory of these sizes, so that an element which a kernel forgets to write shows up.
fn poison(counts: impl IntoIterator<Item = usize>, device: &Device) -> Result<()> {
    for count in counts {
        // Written by a kernel, then dropped; reading one element makes sure that the kernel has run.
        let poisoned = Tensor::<1>::full([count], f32::NAN, device);
        read(poisoned.clone().slice(0..1))?;
    }
    Ok(())
}

fn gradient<const D: usize>(gradient: Option<Tensor<D>>) -> Result<Tensor<D>> {
    gradient.ok_or_else(|| Error::internal("computing gradients", "a gradient is missing"))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_to_vec_as::<f32>().map_err(|error| Error::compute("reading a result", error))
}

fn distance<const D: usize>(got: Tensor<D>, expected: &[f64]) -> Result<f64> {
    Ok(relative_error(&read(got)?, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_distance_hides_another() {
        let mut distances = Distances::default();
        for (name, distance) in [("y", 1e-7), ("dx", 2e-7), ("y", 3e-7), ("y", 2e-7)] {
            distances.add(name, distance);
        }
        assert!(distances.pass());
        assert_eq!(distances.iter().collect::<Vec<_>>(), [("y", 3e-7), ("dx", 2e-7)]);
        assert_eq!(distances.largest(|name| name != "y"), 2e-7);
        for distance in [f64::NAN, 1e-7] {
            distances.add("y", distance);
            assert!(!distances.pass() && distances.largest(|_| true).is_nan());
        }
    }
}
