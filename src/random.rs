//! The random numbers of a training run, all determined by its seed.
//!
//! ChaCha8 (D. J. Bernstein 2008) gives the random words, and everything derived from them is written
//! out here, so that a run can be repeated on another device, and with later versions of the program
//! and its libraries.

use std::f64::consts::TAU;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What the random numbers of a (seed, epoch) are for; each purpose has its own stream.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    Order = 1,
    Dropout = 2,
    HoldOut = 3,
    Weights = 4,
    #[cfg(feature = "images")]
    Test = 5,
}

pub fn random(purpose: Purpose, seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(epoch as u64).to_le_bytes());
    key[16] = purpose as u8;
    ChaCha8Rng::from_seed(key)
}

/// A uniform number below `bound` (D. Lemire 2019, algorithm 5).
pub fn below(random: &mut impl Rng, bound: u32) -> u32 {
    let mut product = u64::from(random.next_u32()) * u64::from(bound);
    if (product as u32) < bound {
        // Low words below 2³² mod `bound` would occur once too often.
        let surplus = bound.wrapping_neg() % bound;
        while (product as u32) < surplus {
            product = u64::from(random.next_u32()) * u64::from(bound);
        }
    }
    (product >> 32) as u32
}

/// Uniform in [0, 1), with 53 random bits.
pub fn unit(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// From N(0, 1) (G. Box and M. Muller 1958).
pub fn normal(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(random)).ln()).sqrt();
    radius * (TAU * unit(random)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean, variance and fourth moment of 100,000 numbers are within five standard deviations, which
    /// are 1/√n, √(2/n) and √(96/n).
    #[test]
    fn normal_numbers_have_the_moments_of_their_distribution() {
        let mut random = random(Purpose::Weights, 1, 0);
        let count = 100_000;
        let mut moments = [0.0; 4];
        for _ in 0..count {
            let value = normal(&mut random);
            (1..=4).for_each(|power| moments[power - 1] += value.powi(power as i32) / count as f64);
        }
        let [mean, square, _, fourth] = moments;
        let root = f64::from(count).sqrt();
        assert!(mean.abs() < 5.0 / root, "{mean}");
        assert!((square - 1.0).abs() < 5.0 * 2.0_f64.sqrt() / root, "{square}");
        assert!((fourth - 3.0).abs() < 5.0 * 96.0_f64.sqrt() / root, "{fourth}");
    }
}
