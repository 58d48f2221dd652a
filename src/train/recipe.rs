//! What is done in training besides steps of Adam at one rate, as many as there are epochs for.

use serde::{Deserialize, Serialize};

use super::RateSchedule;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<f64>,
    /// Epochs without a better accuracy on the held-out images after which training ends.
    #[serde(skip_serializing_if = "Option::is_none")]
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
