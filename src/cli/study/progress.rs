//! What the user sees while the runs of a study are trained: one line for all.

use std::time::Duration;

use indicatif::ProgressBar;

use super::super::progress::new_bar;
use super::super::say;
use crate::study::{Figures, Outcome, PlannedRun};
use crate::train::checkpoint::Checkpoint;
use crate::train::{EpochMetrics, Observer, StepReport};

/// A bar over the steps of all runs on a terminal, and a line for each run that has ended.
pub struct StudyProgress {
    bar: ProgressBar,
    /// Steps of the runs before this one.
    before: u64,
    /// Which of how many runs this one is.
    number: usize,
    count: usize,
    /// The run and its epochs.
    title: String,
    epochs: usize,
}

impl StudyProgress {
    /// Before the first of `count` runs, of so many steps in all.
    pub fn new(count: usize, steps: u64) -> Self {
        let bar = new_bar("{msg}  {eta} left");
        bar.set_length(steps);
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, before: 0, number: 0, count, title: String::new(), epochs: 0 }
    }

    /// The next run begins, or resumes.
    pub fn begin(&mut self, planned: &PlannedRun, from: Option<&Checkpoint>) {
        self.title = format!("{}, seed {}", planned.point.title(), planned.config.seed);
        self.epochs = planned.config.epochs;
        let done = from.map_or(0, |from| from.state.steps);
        self.bar.set_position(self.before + done);
        if done > 0 {
            // The remaining time is not estimated from steps of an earlier process.
            self.bar.reset_eta();
        }
        self.message("");
    }

    /// The next of the runs.
    pub fn next(&mut self) {
        self.number += 1;
    }

    /// The run of so many steps has ended.
    pub fn end_of_run(&mut self, planned: &PlannedRun, steps: u64, outcome: &Outcome) {
        self.before += steps;
        self.bar.set_position(self.before);
        let what = match outcome {
            Outcome::Failed(problem) => format!("failed: {problem}"),
            Outcome::Finished(figures) => {
                let Figures { epoch, validation_accuracy, test_accuracy, seconds, .. } = figures;
                format!(
                    "held-out accuracy {validation_accuracy:.4} after epoch {epoch}, test accuracy {test_accuracy:.4}, \
                     {seconds:.1} s"
                )
            }
        };
        let (number, count, name) = (self.number, self.count, &planned.name);
        self.line(&format!("[{number}/{count}] {name}: {what}"));
    }

    /// Another process trains the run of so many steps.
    pub fn taken(&mut self, planned: &PlannedRun, steps: u64) {
        self.before += steps;
        let (number, count, name) = (self.number, self.count, &planned.name);
        self.line(&format!("[{number}/{count}] {name}: another process trains it"));
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn message(&self, epoch: &str) {
        let Self { number, count, title, .. } = self;
        self.bar.set_message(format!("run {number}/{count}  {title}{epoch}"));
    }

    fn line(&self, line: &str) {
        if self.bar.is_hidden() {
            say!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Observer for StudyProgress {
    fn step(&mut self, report: &StepReport) {
        let StepReport { epoch, step, steps, accuracy, .. } = *report;
        self.bar.set_position(self.before + ((epoch - 1) * steps + step) as u64);
        self.message(&format!("  epoch {epoch}/{}  accuracy {accuracy:.4}", self.epochs));
    }

    fn epoch(&mut self, _metrics: &EpochMetrics) {}
}
