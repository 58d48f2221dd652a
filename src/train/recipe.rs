//! What is done in training besides steps of Adam at one rate, as many as there are epochs for.

use serde::{Deserialize, Serialize};

use super::{RateSchedule, TrainConfig};
use crate::mps::MpsInit;
use crate::net::Stack;
use crate::{Error, Result};

/// What is done besides. The default is the article's: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// How the learning rate goes on after the warm-up.
    pub schedule: RateSchedule,
    /// Epochs, or a part of one, over which the learning rate rises to its value.
    pub warmup: f64,
    /// What Adam takes off each weight in a step, times the learning rate: AdamW.
    pub weight_decay: f64,
    /// The share of a label's probability that the loss spreads over all classes.
    pub label_smoothing: f64,
    /// The share of itself that a mean of the weights keeps in a step. That mean is evaluated then, and read from
    /// checkpoints.
    pub average: Option<f64>,
    /// Epochs without a better accuracy on the held-out images after which training ends.
    pub patience: Option<usize>,
}

impl Recipe {
    /// Checks that it makes sense in a run of so many epochs, with so many images held out.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the field.
    pub fn check(&self, epochs: usize, validation: usize) -> Result<()> {
        if !(0.0..=epochs as f64).contains(&self.warmup) {
            let problem = format!("{}: expected 0 to {epochs}, the epochs", self.warmup);
            return Err(Error::argument("warmup", problem));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            let problem = format!("{}: expected 0 or more", self.weight_decay);
            return Err(Error::argument("weight_decay", problem));
        }
        let shares = [("label_smoothing", Some(self.label_smoothing)), ("average", self.average)];
        for (name, share) in shares {
            if let Some(share) = share.filter(|share| !(0.0..1.0).contains(share)) {
                return Err(Error::argument(name, format!("{share}: expected 0 or more, below 1")));
            }
        }
        match self.patience {
            Some(0) => Err(Error::argument("patience", "0: expected at least one epoch")),
            Some(patience) if validation == 0 => {
                let problem = format!("{patience}: it needs images that are held out (validation)");
                Err(Error::argument("patience", problem))
            }
            _ => Ok(()),
        }
    }

    /// Whether training ends after `epoch`, where `best` is the epoch of the best network so far.
    pub fn is_over(&self, epoch: usize, best: Option<usize>) -> bool {
        let since = best.map(|best| epoch.saturating_sub(best));
        self.patience.zip(since).is_some_and(|(patience, since)| since >= patience)
    }

    /// Checks that a run of `epochs` epochs may be resumed for another number of them: one whose rates depend on it may not.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `epochs`.
    pub fn check_extension(&self, epochs: usize, to: usize) -> Result<()> {
        if self.schedule == RateSchedule::Constant || epochs == to {
            return Ok(());
        }
        let problem = format!(
            "{to}: the learning rate of the run falls over {epochs} epochs, which cannot be changed any more"
        );
        Err(Error::argument("epochs", problem))
    }
}

/// A set of options that goes together, under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum RecipeName {
    /// The article's: 50 epochs of Adam at a rate of 0.001, and dropout of 0.2.
    #[default]
    Article,
    /// What was found best for tensor networks of 5,000 to 50,000 parameters: `docs/recipes.md`.
    Small,
}

/// The options that a named recipe sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch_size: usize,
    /// Adam's learning rate.
    pub lr: f64,
    /// The rate of dropout after each hidden layer.
    pub dropout: f64,
    /// What is done besides.
    pub recipe: Recipe,
}

impl RecipeName {
    /// Its options.
    pub fn settings(self) -> Settings {
        let article = Settings {
            epochs: 50,
            batch_size: 128,
            lr: 1e-3,
            dropout: 0.2,
            recipe: Recipe::default(),
        };
        match self {
            Self::Article => article,
            Self::Small => Settings {
                epochs: 100,
                batch_size: 64,
                lr: 6e-3,
                dropout: 0.0,
                recipe: Recipe {
                    schedule: RateSchedule::Cosine,
                    weight_decay: 0.05,
                    label_smoothing: 0.1,
                    average: Some(0.9995),
                    ..article.recipe
                },
            },
        }
    }
}

/// Options of training: those of a named recipe, and others in place of some of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "snake_case")]
pub struct RecipeChoice {
    /// What it is called in a study of several.
    pub name: Option<String>,
    /// The named recipe.
    pub recipe: RecipeName,
    /// Passes over the training images.
    pub epochs: Option<usize>,
    /// Images per step.
    pub batch_size: Option<usize>,
    /// Adam's learning rate.
    pub lr: Option<f64>,
    /// Number of training images held out; how many by default depends on who trains.
    pub validation: Option<usize>,
    /// Distribution of the weights before training.
    pub init: Option<MpsInit>,
    /// See [`Recipe`], as the next five.
    pub schedule: Option<RateSchedule>,
    #[expect(missing_docs, reason = "see Recipe")]
    pub warmup: Option<f64>,
    #[expect(missing_docs, reason = "see Recipe")]
    pub weight_decay: Option<f64>,
    #[expect(missing_docs, reason = "see Recipe")]
    pub label_smoothing: Option<f64>,
    #[expect(missing_docs, reason = "see Recipe")]
    pub average: Option<f64>,
    #[expect(missing_docs, reason = "see Recipe")]
    pub patience: Option<usize>,
}

impl RecipeChoice {
    /// The configuration of a run; `held_out` is how many images are, where it does not say.
    pub fn config(&self, network: Stack, seed: u64, held_out: usize) -> TrainConfig {
        let settings = self.recipe.settings();
        let of_name = settings.recipe;
        TrainConfig {
            epochs: self.epochs.unwrap_or(settings.epochs),
            batch_size: self.batch_size.unwrap_or(settings.batch_size),
            lr: self.lr.unwrap_or(settings.lr),
            seed,
            validation: self.validation.unwrap_or(held_out),
            init: self.init.unwrap_or_default(),
            recipe: Recipe {
                schedule: self.schedule.unwrap_or(of_name.schedule),
                warmup: self.warmup.unwrap_or(of_name.warmup),
                weight_decay: self.weight_decay.unwrap_or(of_name.weight_decay),
                label_smoothing: self.label_smoothing.unwrap_or(of_name.label_smoothing),
                average: self.average.or(of_name.average),
                patience: self.patience.or(of_name.patience),
            },
            network,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_warm_up_is_refused() {
        for warmup in [-1.0, 3.5, f64::NAN, f64::INFINITY] {
            let line = Recipe { warmup, ..Recipe::default() }.check(3, 0).unwrap_err().to_string();
            assert!(line.starts_with("warmup: ") && line.contains("0 to 3"), "{line}");
        }
        Recipe { warmup: 3.0, ..Recipe::default() }.check(3, 0).unwrap();
    }

    #[test]
    fn patience_is_counted_from_the_best_epoch() {
        let recipe = Recipe { patience: Some(2), ..Recipe::default() };
        let over = |epoch, best| recipe.is_over(epoch, best);
        assert_eq!(
            [over(0, None), over(3, Some(2)), over(4, Some(2)), over(9, Some(2))],
            [false, false, true, true]
        );
        assert!(!Recipe::default().is_over(9, Some(1)));
        recipe.check(3, 1).unwrap();
        for (patience, validation) in [(0, 1), (2, 0)] {
            let recipe = Recipe { patience: Some(patience), ..recipe };
            let line = recipe.check(3, validation).unwrap_err().to_string();
            assert!(line.starts_with("patience: "), "{line}");
        }
    }

    #[test]
    fn shares_that_are_none_are_refused() {
        let none = Recipe::default();
        for (name, recipe) in [
            ("weight_decay", Recipe { weight_decay: -0.1, ..none }),
            ("weight_decay", Recipe { weight_decay: f64::INFINITY, ..none }),
            ("label_smoothing", Recipe { label_smoothing: 1.0, ..none }),
            ("label_smoothing", Recipe { label_smoothing: f64::NAN, ..none }),
            ("average", Recipe { average: Some(1.0), ..none }),
            ("average", Recipe { average: Some(-0.5), ..none }),
        ] {
            let line = recipe.check(3, 1).unwrap_err().to_string();
            assert!(line.starts_with(&format!("{name}: ")) && line.contains("expected"), "{line}");
        }
        let all = Recipe { weight_decay: 2.0, label_smoothing: 0.9, average: Some(0.0), ..none };
        all.check(3, 1).unwrap();
    }
}
