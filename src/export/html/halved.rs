//! Weights of 16 bits: integers, of which [`BLOCK`] side by side count in a step of their own.
//!
//! Of binary16 every number has 11 binary digits, however small beside its neighbours. Of these integers the largest of a block
//! has 15, and so have those that decide the sums which it is a term of. Weights in binary16 put the logits of seven networks on
//! 256 images 1.0e-3 to 3.3e-3 from those of weights of 32 bits; these put them 1.4e-4 to 4.9e-4 from them.

use crate::net::Snapshot;
use crate::{Error, Result};

/// Weights that share a step. The steps take 3 % of the space; of 256 weights they took 0.8 %, and logits were up to 7.3e-4 off.
pub(super) const BLOCK: usize = 64;

/// The largest integer.
const LARGEST: f32 = 32767.0;

/// So many of which are still a number of f32.
const LARGEST_STEP: f32 = 1.03849e34;

/// A network whose weights are rounded to 16 bits.
#[derive(Debug, Clone)]
pub struct Halved {
    snapshot: Snapshot,
    weights: Vec<Vec<u8>>,
}

impl Halved {
    /// Rounds the weights of a network.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] naming the weight that has a number that is not finite.
    pub fn new(snapshot: &Snapshot) -> Result<Self> {
        let names = snapshot.stack().weights()?;
        let mut rounded = Vec::with_capacity(names.len());
        let mut weights = Vec::with_capacity(names.len());
        for ((name, _), numbers) in names.into_iter().zip(snapshot.weights()) {
            if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
                let problem = format!("expected finite numbers, found {number}");
                return Err(Error::Layer { layer: name, problem });
            }
            let blocks: Vec<Block> = numbers.chunks(BLOCK).map(Block::of).collect();
            rounded.push(blocks.iter().flat_map(Block::numbers).collect());
            weights.push(blocks.iter().flat_map(Block::bytes).collect());
        }
        Ok(Self { snapshot: Snapshot::new(snapshot.stack().clone(), rounded)?, weights })
    }

    /// The network with the numbers that its weights have now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Of each weight, its blocks: the step, f32, and the integers, both little endian.
    pub(super) fn weights(&self) -> &[Vec<u8>] {
        &self.weights
    }
}

/// Weights side by side.
struct Block {
    step: f32,
    integers: Vec<i16>,
}

impl Block {
    fn of(numbers: &[f32]) -> Self {
        let largest = numbers.iter().fold(0f32, |largest, number| largest.max(number.abs()));
        let step = (largest / LARGEST).min(LARGEST_STEP);
        // Where all are 0 or next to it, so is the step, and whatever an integer is then, what it stands for is 0.
        let integer = |number: &f32| (number / step).round().clamp(-LARGEST, LARGEST) as i16;
        Self { step, integers: numbers.iter().map(integer).collect() }
    }

    fn numbers(&self) -> impl Iterator<Item = f32> {
        self.integers.iter().map(|integer| f32::from(*integer) * self.step)
    }

    fn bytes(&self) -> impl Iterator<Item = u8> {
        let integers = self.integers.iter().flat_map(|integer| integer.to_le_bytes());
        self.step.to_le_bytes().into_iter().chain(integers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rounded(numbers: &[f32]) -> Vec<f32> {
        numbers
            .chunks(BLOCK)
            .flat_map(|block| Block::of(block).numbers().collect::<Vec<_>>())
            .collect()
    }

    proptest! {
        /// Blocks whose largest number is of any size for which steps have all digits.
        #[test]
        fn numbers_are_off_by_half_a_step_of_their_block(
            numbers in prop::collection::vec(-1f32..1.0, 1..3 * BLOCK),
            exponent in -105i32..=127,
        ) {
            let numbers: Vec<f32> = numbers.iter().map(|number| number * 2f32.powi(exponent)).collect();
            let found = rounded(&numbers);
            prop_assert_eq!(found.len(), numbers.len());
            for (numbers, found) in numbers.chunks(BLOCK).zip(found.chunks(BLOCK)) {
                let largest = numbers.iter().fold(0f32, |most, &number| most.max(number.abs()));
                // And by what f32 rounds of the quotient, of up to 32767, and of the product.
                let most = f64::from(largest) * (0.5 / f64::from(LARGEST) + 3.0 * f64::from(f32::EPSILON));
                for (&number, &found) in numbers.iter().zip(found) {
                    let off = (f64::from(number) - f64::from(found)).abs();
                    prop_assert!(off <= most, "{number:e}: {found:e}, {off:e} of {most:e}");
                }
            }
        }
    }

    #[test]
    fn the_largest_and_the_least_numbers() {
        assert_eq!(rounded(&[1.0, 0.4 / 32767.0, -1.0]), [1.0, 0.0, -1.0]);
        let largest = rounded(&[f32::MAX]);
        assert!(largest[0].is_finite() && largest[0] > 3.4028e38, "{largest:?}");
        assert_eq!(rounded(&[0.0, -0.0]), [0.0, 0.0]);
        assert_eq!(rounded(&[f32::from_bits(1), -f32::from_bits(3)]), [0.0, 0.0]);
    }

    #[test]
    fn bytes_are_the_step_and_the_integers() {
        let bytes: Vec<u8> = Block::of(&[0.5, -65534.0]).bytes().collect();
        assert_eq!(bytes[..4], 2f32.to_le_bytes());
        assert_eq!(bytes[4..], [0, 0, 1, 128]);
    }
}
