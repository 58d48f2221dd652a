//! What the user sees while a training run or a download is in progress.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::say;
use crate::Result;
use crate::data::{self, DataSet, Download, LoadOptions, Loading};
use crate::report::table;
use crate::train::checkpoint::Checkpoint;
use crate::train::{EpochMetrics, Observer, Profile, StepReport, TrainConfig};

/// Loads the data set, says what was assumed of it, and shows the progress of a download or of decoding: a bar on a
/// terminal, else one line per downloaded file.
pub fn load(path: Option<&Path>, options: &LoadOptions) -> Result<DataSet> {
    let mut bar = None;
    let mut follow = |loading: Loading<'_>| match loading {
        Loading::Download(Download { url, bytes, length }) => {
            let bar = bar.get_or_insert_with(|| new_bar("{bytes}/{total_bytes}  {msg}"));
            if bytes == 0 && bar.is_hidden() {
                say!("downloading {url}");
            }
            bar.set_length(length.unwrap_or_default());
            bar.set_message(url.to_owned());
            bar.set_position(bytes);
        }
        Loading::Images { done, count } => {
            let bar = bar.get_or_insert_with(|| new_bar("{pos}/{len} images  {eta} left"));
            bar.set_length(count as u64);
            bar.set_position(done as u64);
        }
    };
    let data = data::load(path, options, &mut follow);
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    data.inspect(|data| data.remarks.iter().for_each(|remark| say!("{remark}")))
}

/// A bar, seen only where standard error is a terminal, and what stands behind it.
pub fn new_bar(text: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(&format!("{{bar:24}} {text}")) {
        bar.set_style(style);
    }
    bar
}

/// Shows a training run: a bar on a terminal, else one line per epoch.
pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    /// Steps per epoch.
    steps: usize,
    profile: bool,
}

impl Progress {
    /// For a run on this many training images, before its first step.
    pub fn new(config: &TrainConfig, images: usize, profile: bool) -> Self {
        let steps = images.div_ceil(config.batch_size);
        let bar = new_bar("{msg}  {eta} left");
        bar.set_length((steps as u64).saturating_mul(config.epochs as u64));
        Self { bar, epochs: config.epochs, steps, profile }
    }

    /// Says where a resumed run continues.
    pub fn resume(&mut self, from: &Checkpoint) {
        let Checkpoint { epoch, step, .. } = *from;
        match step {
            0 => say!("resuming after epoch {epoch}/{}", self.epochs),
            _ => say!(
                "resuming in epoch {}/{} after step {step}/{}",
                epoch + 1,
                self.epochs,
                self.steps
            ),
        }
        self.bar.set_position(from.state.steps);
        // So that the remaining time is not estimated from steps of an earlier process.
        self.bar.reset_eta();
    }

    /// Removes the bar.
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
        let part = |loss: f64, accuracy: f64| format!("loss {loss:.4} accuracy {accuracy:.4}");
        self.line(&format!(
            "epoch {:>3}/{}  train: {}  test: {}  {:.1} s, {:.0} images/s",
            metrics.epoch,
            self.epochs,
            part(metrics.train_loss, metrics.train_accuracy),
            part(metrics.test_loss, metrics.test_accuracy),
            metrics.seconds,
            metrics.images_per_s
        ));
    }

    fn wants_profile(&self) -> bool {
        self.profile
    }

    fn profile(&mut self, profile: &Profile) {
        say!("{}", table::profile(profile.steps(), profile.parts()));
    }
}
