//! What each run of a study comes to: a line of `results.csv`.

use serde::{Deserialize, Deserializer, Serialize};

use super::FinishedRun;
use super::grid::{PlannedRun, Point};
use crate::Result;
use crate::report::csv::field;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is over.
    Finished(Figures),
    /// It failed, and would again.
    Failed(String),
}

/// The figures of a run that is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The epoch that was chosen on the held-out images.
    pub epoch: usize,
    /// The accuracy there.
    pub validation_accuracy: f64,
    /// The accuracy of that network on the test images.
    pub test_accuracy: f64,
    /// Seconds of all training steps.
    pub seconds: f64,
    /// Microseconds of one of them; NaN, which JSON has as null, where the run does not tell.
    #[serde(deserialize_with = "or_nan")]
    pub step_us: f64,
    /// Microseconds from one image to its probabilities.
    pub latency_us: f64,
}

fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Figures {
    /// Those of a run, with the seconds that one image takes.
    pub fn of(run: &FinishedRun, latency: f64) -> Self {
        Self {
            epoch: run.epoch(),
            validation_accuracy: run.best.map_or(f64::NAN, |(_, accuracy)| accuracy),
            test_accuracy: run.test_accuracy(),
            seconds: run.seconds(),
            step_us: run.step_seconds() * 1e6,
            latency_us: latency * 1e6,
        }
    }
}

/// A run of a study with what it came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it has in common with others.
    #[serde(flatten)]
    pub point: Point,
    /// Its seed.
    pub seed: u64,
    /// Parameters of the network.
    pub parameters: usize,
    /// Those of its first layer.
    pub first_layer_parameters: usize,
    /// Multiply-adds of the network for one image.
    pub multiply_adds: usize,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Row {
    /// The header line of `results.csv`.
    pub const HEADER: &str = "network,bond,factors,seed,parameters,first_layer_parameters,multiply_adds,\
        validation_accuracy,test_accuracy,seconds,step_us,latency_us,recipe,epoch,error";

    /// Of a run and what it came to.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Layer`] for an impossible network.
    pub fn new(run: &PlannedRun, outcome: Outcome) -> Result<Self> {
        let network = &run.config.network;
        let placed = network.placed()?;
        let work = placed.iter().map(|placed| placed.layer.kind().multiply_adds(placed.input));
        Ok(Self {
            point: run.point.clone(),
            seed: run.config.seed,
            parameters: network.parameters()?,
            first_layer_parameters: placed.first().map_or(0, |first| first.parameters()),
            multiply_adds: work.map(|work| work.forward).sum(),
            outcome,
        })
    }

    /// The figures of a run that did not fail.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Finished(figures) => Some(figures),
            Outcome::Failed(_) => None,
        }
    }

    fn line(&self) -> String {
        let Point { network, bond, factors, recipe } = &self.point;
        let counts = [self.parameters, self.first_layer_parameters, self.multiply_adds];
        let [parameters, first, work] = counts.map(|count| count.to_string());
        let (figures, epoch, error) = match &self.outcome {
            Outcome::Finished(figures) => {
                let Figures { epoch, validation_accuracy, test_accuracy, .. } = figures;
                let Figures { seconds, step_us, latency_us, .. } = figures;
                let accuracies = format!("{validation_accuracy:.6},{test_accuracy:.6}");
                let step = if step_us.is_nan() { String::new() } else { format!("{step_us:.1}") };
                let times = format!("{seconds:.3},{step},{latency_us:.1}");
                (format!("{accuracies},{times}"), epoch.to_string(), String::new())
            }
            Outcome::Failed(problem) => (",,,,".into(), String::new(), field(problem)),
        };
        let names = [network, bond, factors].map(|name| field(name)).join(",");
        let seed = self.seed;
        let recipe = field(recipe);
        format!("{names},{seed},{parameters},{first},{work},{figures},{recipe},{epoch},{error}")
    }

    /// The whole of `results.csv`.
    pub fn file(rows: &[Self]) -> String {
        let lines = rows.iter().map(Self::line);
        let lines: Vec<String> = std::iter::once(Self::HEADER.to_owned()).chain(lines).collect();
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_whatever_it_does_not_tell() {
        let figures = Figures {
            epoch: 3,
            validation_accuracy: 0.1 + 0.2,
            test_accuracy: 0.8,
            seconds: 0.0,
            step_us: f64::NAN,
            latency_us: 12.5,
        };
        let text = serde_json::to_string(&Outcome::Finished(figures)).unwrap();
        let Outcome::Finished(read) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}")
        };
        assert!(read.step_us.is_nan());
        assert_eq!(Figures { step_us: 1.0, ..read }, Figures { step_us: 1.0, ..figures });
        let failed = Outcome::Failed("the \"loss\" is NaN".into());
        let text = serde_json::to_string(&failed).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), failed);
    }
}
