//! What the folder of a run tells of it.

use std::path::{Path, PathBuf};

use crate::train::checkpoint::Checkpoint;
use crate::train::run::{self, Newest};
use crate::train::{EpochMetrics, TrainConfig};
use crate::{Error, Result};

/// A run that is over.
#[derive(Debug, Clone)]
pub struct FinishedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// How it was trained.
    pub config: TrainConfig,
    /// Its metrics, epoch by epoch.
    pub history: Vec<EpochMetrics>,
    /// Epoch and held-out accuracy of its best network, if images are held out.
    pub best: Option<(usize, f64)>,
    /// SHA-256 of the test images; none in files of earlier versions.
    pub test: Option<String>,
    /// How many training images it used, the held-out ones included, if `config.toml` tells.
    pub train_images: Option<usize>,
}

impl FinishedRun {
    /// Reads a run folder.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is none, is damaged, or its run is not over.
    pub fn read(folder: &Path) -> Result<Self> {
        let Newest { file, checkpoint, passed_over } = run::newest(folder)?;
        if !is_over(&checkpoint) {
            // The checkpoint of the last epoch may be there, and damaged.
            if let Some(error @ Error::Malformed { .. }) = passed_over {
                return Err(error);
            }
            let epochs = checkpoint.config.epochs;
            let found = format!("one in epoch {} of {epochs}", checkpoint.epoch + 1);
            return Err(Error::malformed(folder, "run", "one that is over", found));
        }
        let history = run::history_of(folder, checkpoint.epoch)?;
        let Checkpoint { config, best, test, .. } = checkpoint;
        let train_images = run::train_images(&file);
        Ok(Self { folder: folder.to_path_buf(), config, history, best, test, train_images })
    }

    /// The epoch whose network counts: the best on the held-out images, or the last.
    pub fn epoch(&self) -> usize {
        self.best.map_or(self.history.len(), |(epoch, _)| epoch)
    }

    /// The test accuracy of that network; NaN of a run without an epoch.
    pub fn test_accuracy(&self) -> f64 {
        let epoch = self.epoch().checked_sub(1).and_then(|at| self.history.get(at));
        epoch.map_or(f64::NAN, |metrics| metrics.test_accuracy)
    }

    /// Seconds of all training steps, without evaluation.
    pub fn seconds(&self) -> f64 {
        self.history.iter().map(|metrics| metrics.seconds).sum()
    }

    /// Seconds of one training step of a whole batch, on average over the epochs; NaN where none tells.
    pub fn step_seconds(&self) -> f64 {
        // By their rates: the seconds of short epochs are rounded to 0. An epoch that was resumed after its last step has
        // none.
        let rates = self.history.iter().map(|metrics| metrics.images_per_s);
        let each: Vec<f64> = rates.filter(|&rate| rate > 0.0).map(|rate| 1.0 / rate).collect();
        self.config.batch_size as f64 * each.iter().sum::<f64>() / each.len() as f64
    }
}

/// Whether nothing is left to train.
pub fn is_over(checkpoint: &Checkpoint) -> bool {
    let Checkpoint { ref config, epoch, step, best, .. } = *checkpoint;
    let best = best.map(|(epoch, _)| epoch);
    step == 0 && (epoch >= config.epochs || config.recipe.is_over(epoch, best))
}
