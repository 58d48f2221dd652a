//! What the user sees of a training while it runs.

use indicatif::{ProgressBar, ProgressStyle};

use super::say;
use crate::report::table;
use crate::train::checkpoint::Checkpoint;
use crate::train::{EpochMetrics, Observer, Profile, StepReport, TrainConfig};

/// Shows a training: a bar where someone looks at a terminal, else a line an epoch.
pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    /// Steps an epoch.
    steps: usize,
    profile: bool,
}

impl Progress {
    /// Before the first step of a training on so many images.
    pub fn new(config: &TrainConfig, images: usize, profile: bool) -> Self {
        let steps = images.div_ceil(config.batch_size);
        // indicatif draws on standard error, and nothing where that is no terminal.
        let bar = ProgressBar::new((steps as u64).saturating_mul(config.epochs as u64));
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}  {eta} left") {
            bar.set_style(style);
        }
        Self { bar, epochs: config.epochs, steps, profile }
    }

    /// Says where a training goes on.
    pub fn go_on(&mut self, from: &Checkpoint) {
        let Checkpoint { epoch, step, .. } = *from;
        match step {
            0 => say!("going on after epoch {epoch}/{}", self.epochs),
            _ => say!(
                "going on in epoch {}/{} after step {step}/{}",
                epoch + 1,
                self.epochs,
                self.steps
            ),
        }
        self.bar.set_position(from.state.steps);
        // So that the time left is not taken from steps of another process.
        self.bar.reset_eta();
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, line: &str) {
        if self.bar.is_hidden() {
            say!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, report: &StepReport) {
        let StepReport { epoch, step, steps, loss, accuracy, images_per_s } = *report;
        self.bar.set_position(((epoch - 1) * steps + step) as u64);
        self.bar.set_message(format!(
            "epoch {epoch}/{}  loss {loss:.4}  accuracy {accuracy:.4}  {images_per_s:.0} images/s",
            self.epochs
        ));
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        let EpochMetrics {
            epoch,
            train_loss,
            train_accuracy,
            test_loss,
            test_accuracy,
            seconds,
            images_per_s,
        } = *metrics;
        self.line(&format!(
            "epoch {epoch:>3}/{}  train: loss {train_loss:.4} accuracy {train_accuracy:.4}  \
             test: loss {test_loss:.4} accuracy {test_accuracy:.4}  {seconds:.1} s, \
             {images_per_s:.0} images/s",
            self.epochs
        ));
    }

    fn wants_profile(&self) -> bool {
        self.profile
    }

    fn profile(&mut self, profile: &Profile) {
        say!("{}", table::profile(profile.steps(), profile.parts()));
    }
}
