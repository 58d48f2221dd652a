//! The runs of a study: which are over, and the training of those that are not.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::training::{RunConfig, check_space, split};
use super::super::{log, say};
use super::progress::StudyProgress;
use crate::data::{DataSet, LoadOptions};
use crate::device::OpenDevice;
use crate::files::write_whole;
use crate::model::ModelFile;
use crate::study::finished::is_over;
use crate::study::{Figures, FinishedRun, Outcome, PlannedRun, Row, latency};
use crate::text::shown;
use crate::train::run::{self, Newest};
use crate::train::{self, Conduct, RunFolder, StopFlag, TrainConfig};
use crate::{Error, Result};

/// What a run came to, in its folder.
const RESULT: &str = "result.json";

/// The runs of a study, in folders side by side.
pub struct Runs {
    /// Where these folders are.
    pub folder: PathBuf,
    /// The runs.
    pub planned: Vec<PlannedRun>,
    /// Where times are measured, and runs trained.
    pub opened: OpenDevice,
}

/// What is needed to train.
pub struct Material {
    /// The images, not yet split.
    pub data: DataSet,
    /// How they were taken.
    pub images: LoadOptions,
    /// How many training images are used.
    pub train_images: usize,
    /// Asks to stop.
    pub stop: StopFlag,
}

/// Where a run stands.
#[derive(Debug)]
pub enum State {
    /// It came to this.
    Over(Outcome),
    /// It is not over, or has not begun; what it has is kept.
    Open {
        /// Whether it can be resumed.
        begun: bool,
    },
    /// Another process trains it.
    Taken,
}

impl State {
    /// What the run came to, if it is over.
    pub fn over(self) -> Option<Outcome> {
        match self {
            Self::Over(outcome) => Some(outcome),
            Self::Open { .. } | Self::Taken => None,
        }
    }
}

impl Runs {
    /// The folder of a run.
    pub fn path(&self, run: &PlannedRun) -> PathBuf {
        self.folder.join(&run.name)
    }

    /// Checks that folders which hold runs already hold those of this study and, where these are known, of its images.
    ///
    /// # Errors
    ///
    /// [`Error::Resume`] naming one that does not.
    pub fn check(&self, material: Option<(&DataSet, usize)>) -> Result<()> {
        let known = material.map(|(data, count)| (data.test.sha256(), count));
        for planned in &self.planned {
            let folder = self.path(planned);
            let refused = |what: &str| {
                let problem = format!(
                    "it was trained {what} than this study has; name another folder for the study, or remove the run"
                );
                Err(Error::Resume { run: folder.clone(), problem })
            };
            let config: Option<TrainConfig> = run::config_of(&folder)?;
            if config.is_some_and(|config| config != planned.config) {
                return refused("with other options");
            }
            let Some((test, count)) = &known else { continue };
            let Ok(Newest { file, checkpoint, .. }) = run::newest(&folder) else { continue };
            let other_test = checkpoint.test.is_some_and(|other| other != *test);
            if other_test || run::train_images(&file).is_some_and(|other| other != *count) {
                return refused("on other images");
            }
        }
        Ok(())
    }

    /// Where a run stands, as its folder tells without a lock.
    pub fn state(&self, planned: &PlannedRun) -> State {
        let folder = self.path(planned);
        match recorded(&folder) {
            Some(outcome) => State::Over(outcome),
            None => State::Open { begun: run::newest(&folder).is_ok() },
        }
    }

    /// Trains a run to its end, from where it stands, and records what it came to. A failure that another attempt need
    /// not have is the outcome, but not recorded.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn train(
        &self,
        planned: &PlannedRun,
        material: &Material,
        progress: &mut StudyProgress,
    ) -> Result<State> {
        self.settle(planned, |run, from| {
            let TrainConfig { validation, .. } = planned.config;
            let Material { data, images, train_images, stop } = material;
            let (folder, splits) = split(data.clone(), &planned.config, *train_images)?;
            debug_assert!(validation > 0);
            check_space(&self.opened, &planned.config, &splits)?;
            let sum = splits.sha256();
            let config = planned.config.clone();
            let data = (&*folder, images.clone());
            let config = RunConfig::new(&self.opened, data, sum, *train_images, config);
            log::to_file(run.log()?, run.path())?;
            run.write_config(&config)?;
            let from = from.map(|newest| newest.checkpoint);
            progress.begin(planned, from.as_ref());
            let conduct = Conduct { stop: stop.clone(), save_every: 0, from };
            let device = &self.opened.device;
            train::train(&planned.config, &splits, device, run, conduct, progress).map(drop)
        })
    }

    /// What a run came to that is over, measured and recorded if it is not yet: `train` does not.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`].
    pub fn collect(&self, planned: &PlannedRun) -> Result<State> {
        let state = self.state(planned);
        let folder = self.path(planned);
        let over = run::newest(&folder).is_ok_and(|newest| is_over(&newest.checkpoint));
        if !over || matches!(state, State::Over(_)) {
            return Ok(state);
        }
        self.settle(planned, |_, _| Ok(()))
    }

    /// Takes the lock of a run, has it trained where it is not over, and records what it came to.
    fn settle(
        &self,
        planned: &PlannedRun,
        train: impl FnOnce(&RunFolder, Option<Newest>) -> Result<()>,
    ) -> Result<State> {
        let folder = self.path(planned);
        let settled = || -> Result<State> {
            let (run, begun) = RunFolder::open_or_create(&folder)?;
            // Another process may have ended it in the meantime.
            if let Some(outcome) = recorded(&folder).filter(|_| begun) {
                return Ok(State::Over(outcome));
            }
            let from = begun.then(|| run.resume_from()).transpose()?;
            if !from.as_ref().is_some_and(|newest| is_over(&newest.checkpoint)) {
                train(&run, from)?;
            }
            let outcome = Outcome::Finished(self.figures(&folder)?);
            record(&folder, &outcome)?;
            Ok(State::Over(outcome))
        };
        match settled() {
            Err(error) if run::is_taken(&error) => Ok(State::Taken),
            Err(error @ Error::Interrupted { .. }) => Err(error),
            Err(error) => {
                let outcome = Outcome::Failed(error.to_string());
                // The same numbers would come again.
                if matches!(error, Error::NotFinite { .. }) {
                    record(&folder, &outcome).unwrap_or_else(|error| say!("{error}"));
                }
                Ok(State::Over(outcome))
            }
            settled => settled,
        }
    }

    /// The figures of a run that is over; the time of one image is measured.
    fn figures(&self, folder: &Path) -> Result<Figures> {
        let finished = FinishedRun::read(folder)?;
        let file =
            run::best(folder).map_or_else(|| run::newest(folder).map(|newest| newest.file), Ok)?;
        let ModelFile { snapshot, .. } = ModelFile::read(&file, None)?;
        let network = snapshot.on(&self.opened.device)?;
        let seconds = latency(&network, finished.config.network.input, &self.opened.device)?;
        Ok(Figures::of(&finished, seconds))
    }

    /// The rows of all runs that are over, in their order, and how many are not.
    pub fn rows(&self, outcomes: &[Option<Outcome>]) -> Result<(Vec<Row>, usize)> {
        let over = self.planned.iter().zip(outcomes).filter_map(|(planned, outcome)| {
            let outcome = outcome.clone()?;
            Some(Row::new(planned, outcome))
        });
        let rows: Vec<Row> = over.collect::<Result<_>>()?;
        let missing = self.planned.len() - rows.len();
        Ok((rows, missing))
    }
}

/// What a run came to, if that is recorded; a record that cannot be read is none.
fn recorded(folder: &Path) -> Option<Outcome> {
    let text = fs::read_to_string(folder.join(RESULT)).ok()?;
    serde_json::from_str(&text)
        .inspect_err(|error| say!("{}: {error}: measured again", shown(&folder.join(RESULT))))
        .ok()
}

fn record(folder: &Path, outcome: &Outcome) -> Result<()> {
    let text = serde_json::to_string(outcome)
        .map_err(|error| Error::internal("writing result.json", error))?;
    write_whole(&folder.join(RESULT), text.as_bytes()).map(drop)
}
