//! What a training does, checked, and as it is written into the run folder.

use serde::{Deserialize, Serialize};

use crate::model::{ClassifierConfig, FirstLayer};
use crate::{Error, Result};

/// Everything that determines a training, apart from the data and the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images a step; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Adam's learning rate.
    pub lr: f64,
    /// What the weights, the order of the images and dropout are drawn from.
    pub seed: u64,
    /// Images held out of the training set, on which `best` is chosen; 0 for none.
    pub validation: usize,
    /// The network.
    pub classifier: ClassifierConfig,
}

impl TrainConfig {
    /// Holds the numbers against what makes sense.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] naming the option.
    pub fn check(&self) -> Result<()> {
        if self.epochs == 0 {
            return Err(Error::usage("--epochs", "0: at least one epoch is needed"));
        }
        if self.batch_size == 0 {
            return Err(Error::usage("--batch-size", "0: a batch needs at least one image"));
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return Err(Error::usage("--lr", format!("{}: expected a number above 0", self.lr)));
        }
        self.classifier.spec().map(drop)
    }

    /// What the first layer is, as the heading of a figure.
    pub fn title(&self) -> String {
        match self.classifier.model {
            FirstLayer::Mps => format!("mps, bond {}", self.classifier.bond),
            FirstLayer::Dense => "dense".into(),
        }
    }
}
