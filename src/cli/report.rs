//! The folder of a report, made before anything is computed and filled afterwards, and what is reported.

use std::fs;
use std::path::{Path, PathBuf};

use super::say;
use crate::data::DataSet;
use crate::files::{self, Pending};
use crate::model::ModelFile;
use crate::report::classification::Classification;
use crate::report::curves::Curve;
use crate::report::eval::EvalReport;
use crate::report::table;
use crate::train::{Answers, EpochMetrics, run};
use crate::{Error, Result};

/// A folder whose files are open, so that nothing is computed for one that cannot be written.
#[derive(Debug)]
pub struct ReportFolder {
    path: PathBuf,
    /// In the order of their names.
    pending: Vec<Pending>,
    /// Whether this process made the folder.
    made: bool,
}

impl ReportFolder {
    /// Makes the folder if it is missing, and opens the files with these names.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the folder or the file that cannot be written.
    pub fn create(path: &Path, names: &[&str]) -> Result<Self> {
        let made = !path.exists();
        fs::create_dir_all(path).map_err(Error::io("create the report folder", path))?;
        // Those of a process that was killed; this one has none yet.
        files::remove_temporaries(path, names)?;
        let mut folder = Self { path: path.to_path_buf(), pending: Vec::new(), made };
        for name in names {
            folder.pending.push(Pending::create(&path.join(name))?);
        }
        Ok(folder)
    }

    /// The same for a folder that must be missing or empty.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] when it is not, and as [`ReportFolder::create`].
    pub fn create_new(path: &Path, names: &[&str]) -> Result<Self> {
        if path.is_dir() {
            files::remove_temporaries(path, names)?;
            if !files::is_empty(path)? {
                return Err(Error::NotEmpty { folder: path.to_path_buf() });
            }
        }
        Self::create(path, names)
    }

    /// Writes all files, in the order of their names, and returns the folder. The old content of each is replaced by the
    /// whole new one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file that cannot be written.
    pub fn write(mut self, contents: impl IntoIterator<Item = Vec<u8>>) -> Result<PathBuf> {
        for (file, content) in self.pending.drain(..).zip(contents) {
            file.commit(&content)?;
        }
        Ok(self.path.clone())
    }
}

impl Drop for ReportFolder {
    fn drop(&mut self) {
        self.pending.clear();
        if self.made {
            // Of a folder that has files this does nothing.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// What a report says of a network's answers.
pub fn of<'a>(
    model: &'a ModelFile,
    data: &'a DataSet,
    own_data: Option<bool>,
    answers: &'a Answers,
) -> Result<EvalReport<'a>> {
    let Answers { evaluation, predictions, probabilities } = answers;
    let labels = &data.test.labels;
    Ok(EvalReport {
        model: &model.file,
        epoch: model.trained.as_ref().map(|trained| trained.epoch),
        data: &data.folder,
        own_data,
        set: &data.test,
        files: &data.test_files,
        names: &data.classes,
        accuracy: evaluation.accuracy,
        loss: evaluation.loss,
        predictions,
        probabilities,
        classification: Classification::new(labels, predictions, data.classes.len())?,
        curves: curves_of(model),
        parameters: table::parameter_rows(model.snapshot.stack())?,
    })
}

/// The curves of the run in whose folder a checkpoint lies. A report does without them where they cannot be read.
fn curves_of(model: &ModelFile) -> Option<[Curve; 2]> {
    model.trained.as_ref()?;
    let history = run::history_beside(&model.file).unwrap_or_else(|error| {
        say!("{error}: the report has no curves");
        Vec::new()
    });
    let curve = |name: &str, accuracy: fn(&EpochMetrics) -> f64| Curve {
        name: name.into(),
        accuracy: history.iter().map(accuracy).collect(),
    };
    let train = curve("train", |metrics| metrics.train_accuracy);
    let test = curve("test", |metrics| metrics.test_accuracy);
    (!history.is_empty()).then_some([train, test])
}
