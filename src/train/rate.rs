//! The learning rate of every step: it follows from the options and the number of the step alone, so that a run that is
//! resumed goes on with the rates that it would have had.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::Recipe;

/// How the learning rate goes on after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum RateSchedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls to 0 over the run, like the cosine from 0 to π (I. Loshchilov, F. Hutter 2017, without restarts).
    Cosine,
}

impl std::fmt::Display for RateSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
        })
    }
}

/// The learning rates of a run.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    lr: f64,
    schedule: RateSchedule,
    /// Steps of the warm-up, and of the whole run.
    warmup: u64,
    steps: u64,
}

impl Rate {
    /// The same rate for every step.
    pub fn constant(lr: f64) -> Self {
        Self { lr, schedule: RateSchedule::Constant, warmup: 0, steps: 0 }
    }

    /// Of a run of `epochs` epochs of `steps` steps each.
    pub fn new(lr: f64, recipe: Recipe, epochs: usize, steps: usize) -> Self {
        let warmup = (recipe.warmup * steps as f64).round() as u64;
        let steps = (epochs as u64).saturating_mul(steps as u64);
        Self { lr, schedule: recipe.schedule, warmup, steps }
    }

    /// The rate of a step, counted from 1. In the warm-up it rises from `lr / warmup` to `lr` in equal steps.
    pub fn of(&self, step: u64) -> f64 {
        if step <= self.warmup {
            return self.lr * step as f64 / self.warmup as f64;
        }
        match self.schedule {
            RateSchedule::Constant => self.lr,
            RateSchedule::Cosine => {
                let rest = self.steps.saturating_sub(self.warmup).max(1) as f64;
                let done = ((step - self.warmup - 1) as f64 / rest).min(1.0);
                self.lr * 0.5 * (1.0 + (PI * done).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(recipe: Recipe, epochs: usize, steps: usize) -> Vec<f64> {
        let rate = Rate::new(0.5, recipe, epochs, steps);
        (1..=(epochs * steps) as u64).map(|step| rate.of(step)).collect()
    }

    #[test]
    fn without_a_recipe_the_rate_is_the_one_that_was_given() {
        assert!(rates(Recipe::default(), 3, 7).iter().all(|&rate| rate == 0.5));
        assert_eq!(Rate::constant(0.1).of(u64::MAX), 0.1);
    }

    #[test]
    fn a_warm_up_rises_in_equal_steps() {
        let recipe = Recipe { warmup: 0.5, ..Recipe::default() };
        assert_eq!(rates(recipe, 2, 8)[..6], [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]);
    }

    /// As optax's cosine_decay_schedule: 4 steps from 0.5 are 0.5, 0.427, 0.25, 0.073.
    #[test]
    fn a_cosine_falls_from_the_rate_towards_0() {
        let recipe = Recipe { schedule: RateSchedule::Cosine, ..Recipe::default() };
        let expected = [0.5, 0.426_776_695_296_636_9, 0.25, 0.073_223_304_703_363_12];
        for (rate, expected) in rates(recipe, 2, 2).iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-15, "{rate} for {expected}");
        }
        // After a warm-up of one epoch it falls over the others.
        let warmed = rates(Recipe { warmup: 1.0, ..recipe }, 3, 2);
        assert_eq!(warmed[..2], [0.25, 0.5]);
        for (rate, expected) in warmed[2..].iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-15, "{rate} for {expected}");
        }
        // What a step beyond the run would have is no surprise.
        assert_eq!(Rate::new(0.5, recipe, 2, 2).of(9), 0.0);
    }
}
