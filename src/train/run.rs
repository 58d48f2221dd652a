//! The run folder: `config.toml`, `metrics.csv`, `curves.svg`, `last.safetensors`,
//! `best.safetensors`, `log.txt`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::checkpoint::Checkpoint;
use super::metrics::EpochMetrics;
use crate::files::write_whole;
use crate::report::curves::{self, Curve};
use crate::{Error, Result};

/// A folder that holds one training.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
    title: String,
}

impl RunFolder {
    /// Creates a run in `folder`, which must not exist or be empty, or, without one, in a fresh
    /// folder `runs/NAME-1`, `runs/NAME-2`, …. `title` heads the figure of its curves.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the path that cannot be created or is already in use.
    pub fn create(folder: Option<&Path>, name: &str, title: &str) -> Result<Self> {
        let path = match folder {
            Some(folder) => named(folder)?,
            None => fresh(Path::new("runs"), name)?,
        };
        let file = path.join("metrics.csv");
        let mut metrics = File::create(&file).map_err(Error::io("create", &file))?;
        writeln!(metrics, "{}", EpochMetrics::HEADER).map_err(Error::io("write", &file))?;
        Ok(Self { path, metrics, title: title.into() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `config.toml`: every option that is in force.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be written.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        let path = self.path.join("config.toml");
        let text = toml::to_string_pretty(config)
            .map_err(|error| Error::io("write", &path)(io::Error::other(error)))?;
        write_whole(&path, text.as_bytes())
    }

    pub(super) fn write_metrics(&mut self, metrics: &EpochMetrics) -> Result<()> {
        writeln!(self.metrics, "{}", metrics.line())
            .map_err(Error::io("write", self.path.join("metrics.csv")))
    }

    pub(super) fn write_curves(&self, history: &[EpochMetrics]) -> Result<()> {
        let path = self.path.join("curves.svg");
        let curve = |name: &str, accuracy: fn(&EpochMetrics) -> f64| Curve {
            name: name.into(),
            accuracy: history.iter().map(accuracy).collect(),
        };
        let curves = [
            curve("train", |metrics| metrics.train_accuracy),
            curve("test", |metrics| metrics.test_accuracy),
        ];
        write_whole(&path, curves::accuracy(&self.title, &curves)?.as_bytes())
    }

    pub(super) fn write_last(&self, checkpoint: &Checkpoint) -> Result<()> {
        write_whole(&self.path.join("last.safetensors"), &checkpoint.to_bytes()?)
    }

    pub(super) fn write_best(&self, checkpoint: &Checkpoint) -> Result<()> {
        write_whole(&self.path.join("best.safetensors"), &checkpoint.to_bytes()?)
    }
}

fn named(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(Error::io("create the run folder", folder))?;
    let mut entries = fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    if entries.next().is_some() {
        let taken = io::Error::other("it is not empty; name another with --out");
        return Err(Error::io("use as a run folder", folder)(taken));
    }
    Ok(folder.to_path_buf())
}

fn fresh(parent: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
    let mut number = 1_u64;
    loop {
        // Creating fails where the folder exists, so two runs never share one.
        let path = parent.join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("create the run folder", &path)(error)),
        }
    }
}
