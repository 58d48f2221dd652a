//! The configuration of a training run: checked, and saved in the run folder.

use serde::{Deserialize, Serialize};

use super::Recipe;
use crate::mps::MpsInit;
use crate::net::Stack;
use crate::{Error, Result};

/// Everything that determines a training run, except the data and the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Adam's learning rate; the highest, where it changes.
    pub lr: f64,
    /// Seed of the weights, the order of the images and dropout.
    pub seed: u64,
    /// Number of training images held out, by which `best` is chosen; 0 for none.
    pub validation: usize,
    /// Distribution of the weights before training. Dense layers are drawn by He's rule for `he`, and by Glorot's for
    /// `glorot` and `article` (the default of the article's framework).
    pub init: MpsInit,
    /// What is done besides the steps of Adam at one rate.
    #[serde(default)]
    pub recipe: Recipe,
    /// The network.
    pub network: Stack,
}

impl TrainConfig {
    /// Checks that the values make sense.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the field, [`Error::Layer`] naming the layer.
    pub fn check(&self) -> Result<()> {
        if self.epochs == 0 {
            return Err(Error::argument("epochs", "0: at least one epoch is needed"));
        }
        if self.batch_size == 0 {
            return Err(Error::argument("batch_size", "0: a batch needs at least one image"));
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return Err(Error::argument("lr", format!("{}: expected a number above 0", self.lr)));
        }
        self.recipe.check(self.epochs, self.validation)?;
        self.network.check()
    }
}
