//! What is measured after each epoch, and `metrics.csv`.

/// The metrics of one epoch; a line of `metrics.csv`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean loss over the epoch, while training (with dropout), in nats.
    pub train_loss: f64,
    /// Share of images classified right over the epoch, while training.
    pub train_accuracy: f64,
    /// Mean loss on the test images after the epoch.
    pub test_loss: f64,
    /// Share of test images classified right after the epoch.
    pub test_accuracy: f64,
    /// Time of the epoch's training, without evaluation.
    pub seconds: f64,
    /// Training images a second.
    pub images_per_s: f64,
}

impl EpochMetrics {
    /// The first line of `metrics.csv`.
    pub const HEADER: &str =
        "epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds,images_per_s";

    /// The line of this epoch.
    pub fn line(&self) -> String {
        let Self {
            epoch,
            train_loss,
            train_accuracy,
            test_loss,
            test_accuracy,
            seconds,
            images_per_s,
        } = self;
        format!(
            "{epoch},{train_loss:.6},{train_accuracy:.6},{test_loss:.6},{test_accuracy:.6},{seconds:.3},{images_per_s:.1}"
        )
    }
}
