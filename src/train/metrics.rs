//! The metrics of each epoch, and the file `metrics.csv`.

use std::path::Path;

use crate::{Error, Result};

/// The metrics of one epoch; a line of `metrics.csv`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean loss over the epoch during training (with dropout), in nats.
    pub train_loss: f64,
    /// Fraction of images classified correctly over the epoch, during training.
    pub train_accuracy: f64,
    /// Mean loss on the test images after the epoch.
    pub test_loss: f64,
    /// Fraction of test images classified correctly after the epoch.
    pub test_accuracy: f64,
    /// Time of the epoch's training steps, without evaluation; for a resumed epoch, only those since
    /// it was resumed.
    pub seconds: f64,
    /// Training images per second in that time.
    pub images_per_s: f64,
}

impl EpochMetrics {
    /// The header line of `metrics.csv`.
    pub const HEADER: &str =
        "epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds,images_per_s";

    /// The line of this epoch.
    pub fn line(&self) -> String {
        let Self { epoch, train_loss, test_loss, seconds, .. } = self;
        let [train_accuracy, test_accuracy] = [self.train_accuracy, self.test_accuracy];
        format!(
            "{epoch},{train_loss:.6},{train_accuracy:.6},{test_loss:.6},{test_accuracy:.6},{seconds:.3},{:.1}",
            self.images_per_s
        )
    }

    /// The whole file.
    pub fn file(history: &[Self]) -> String {
        let lines = history.iter().map(Self::line);
        let lines: Vec<String> = std::iter::once(Self::HEADER.to_owned()).chain(lines).collect();
        lines.join("\n") + "\n"
    }

    /// Reads the lines of the first `epochs` epochs and ignores what follows. Errors name `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] naming the line that is missing or malformed.
    pub fn parse(path: &Path, text: &str, epochs: usize) -> Result<Vec<Self>> {
        // Spreadsheets begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines();
        if lines.next() != Some(Self::HEADER) {
            let found = text.lines().next().unwrap_or("an empty file");
            return Err(Error::malformed(path, "line 1", Self::HEADER, found));
        }
        (1..=epochs)
            .map(|epoch| {
                let line = lines.next();
                line.and_then(|line| Self::parse_line(line, epoch)).ok_or_else(|| {
                    let expected = format!("the seven numbers of epoch {epoch}");
                    let found = line.unwrap_or("the end of the file");
                    Error::malformed(path, format!("line {}", epoch + 1), expected, found)
                })
            })
            .collect()
    }

    fn parse_line(line: &str, expected: usize) -> Option<Self> {
        let (epoch, numbers) = line.split_once(',')?;
        let numbers: Vec<f64> =
            numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [train_loss, train_accuracy, test_loss, test_accuracy, seconds, images_per_s] =
            *numbers.as_array()?;
        let shares = [train_accuracy, test_accuracy];
        if epoch.parse() != Ok(expected)
            || !numbers.iter().all(|number| number.is_finite() && *number >= 0.0)
            || !shares.iter().all(|share| *share <= 1.0)
        {
            return None;
        }
        Some(Self {
            epoch: expected,
            train_loss,
            train_accuracy,
            test_loss,
            test_accuracy,
            seconds,
            images_per_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> Vec<EpochMetrics> {
        [1, 2, 3]
            .map(|epoch| EpochMetrics {
                epoch,
                train_loss: 1.0 / epoch as f64,
                train_accuracy: 0.123_456_7,
                test_loss: 2.0 / 3.0,
                test_accuracy: 1.0,
                seconds: 1.5,
                images_per_s: 1e6 / 3.0,
            })
            .to_vec()
    }

    #[test]
    fn lines_survive_reading_and_writing() {
        let text = EpochMetrics::file(&history());
        for epochs in 0..=3 {
            let read = EpochMetrics::parse(Path::new("metrics.csv"), &text, epochs).unwrap();
            assert_eq!(EpochMetrics::file(&read), EpochMetrics::file(&history()[..epochs]));
        }
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = EpochMetrics::file(&history());
        let line = |number: usize| text.lines().nth(number - 1).unwrap();
        for (damaged, with) in [
            (String::new(), "line 1"),
            (text.replacen("epoch", "step", 1), "line 1"),
            (text.replace(line(4), ""), "line 4: expected the seven numbers of epoch 3"),
            (text.replace(line(3), "2,0.5"), "line 3: expected the seven numbers of epoch 2"),
            (text.replace(line(3), line(4)), "line 3"),
            (text.replace(line(2), &line(2).replace("1.000000", "NaN")), "line 2"),
            (text.replace(line(2), &line(2).replace("0.123457", "1.5")), "line 2"),
        ] {
            let error = EpochMetrics::parse(Path::new("metrics.csv"), &damaged, 3).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("metrics.csv: ") && message.contains(with), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
