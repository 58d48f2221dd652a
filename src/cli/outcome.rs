//! What `train` prints at the end of a run.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::out;
use super::paths::lossy;
use crate::Result;
use crate::net::Stack;
use crate::report::table;
use crate::text::shown;
use crate::train::{RunFolder, Summary};

/// What a finished run has to tell.
pub struct Outcome {
    /// The network.
    pub network: Stack,
    /// Its figures.
    pub summary: Summary,
    /// Its folder.
    pub run: RunFolder,
}

/// The object that `--json` prints.
#[derive(Serialize)]
pub struct Line<'a> {
    parameters: usize,
    layers: Vec<LayerLine>,
    epochs: usize,
    test_accuracy: f64,
    test_loss: f64,
    mean_test_accuracy: f64,
    averaged_epochs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    best: Option<BestLine>,
    images_per_s: f64,
    seconds: f64,
    #[serde(serialize_with = "lossy")]
    run: &'a Path,
}

#[derive(Serialize)]
struct LayerLine {
    name: String,
    parameters: usize,
    dense_parameters: usize,
}

#[derive(Serialize)]
struct BestLine {
    epoch: usize,
    held_out_accuracy: f64,
}

impl Outcome {
    /// As `--json` prints it.
    pub fn line(&self) -> Result<Line<'_>> {
        let Summary { last, best, training, images_per_s, mean_test_accuracy, averaged } =
            self.summary;
        let layers = self.network.placed()?.into_iter().map(|placed| LayerLine {
            parameters: placed.parameters(),
            dense_parameters: placed.dense_parameters(),
            name: placed.name,
        });
        Ok(Line {
            parameters: self.network.parameters()?,
            layers: layers.collect(),
            epochs: last.epoch,
            test_accuracy: last.test_accuracy,
            test_loss: last.test_loss,
            mean_test_accuracy,
            averaged_epochs: averaged,
            best: best.map(|(epoch, held_out_accuracy)| BestLine { epoch, held_out_accuracy }),
            images_per_s,
            seconds: training.as_secs_f64(),
            run: self.run.path(),
        })
    }

    /// Prints it for people.
    pub fn print(&self) -> Result<()> {
        let Summary { last, best, training, mean_test_accuracy, averaged, .. } = self.summary;
        out(&table::parameters(&self.network)?.to_string())?;
        out(&format!("test accuracy: {:.4} after epoch {}", last.test_accuracy, last.epoch))?;
        if averaged > 1 {
            out(&format!(
                "mean test accuracy of the last {averaged} epochs: {mean_test_accuracy:.4}"
            ))?;
        }
        if let Some((epoch, accuracy)) = best {
            out(&format!("best on the held-out images: {accuracy:.4} after epoch {epoch}"))?;
        }
        out(&format!("training time: {}", duration(training)))?;
        out(&format!("run: {}", shown(self.run.path())))
    }
}

/// `75.3 s` or `12 min 5 s`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_to_read() {
        assert_eq!(duration(Duration::from_millis(75_340)), "75.3 s");
        assert_eq!(duration(Duration::from_secs(725)), "12 min 5 s");
    }
}
