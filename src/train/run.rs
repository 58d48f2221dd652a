//! The run folder: `config.toml`, `metrics.csv`, `curves.svg`, `last.safetensors`,
//! `previous.safetensors`, `best.safetensors`, `log.txt`.
//!
//! Every file except the log is written whole or not at all. A training run holds a lock on the log,
//! so that no two runs write into one folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::Checkpoint;
use super::metrics::EpochMetrics;
use crate::files::{self, Pending, write_whole};
use crate::report::curves::{self, Curve};
use crate::{Error, Result};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.csv";
const CURVES: &str = "curves.svg";
const LAST: &str = "last.safetensors";
const PREVIOUS: &str = "previous.safetensors";
const BEST: &str = "best.safetensors";
/// A `last.safetensors` that could not be read, kept under another name.
const DAMAGED: &str = "damaged.safetensors";
const LOG: &str = "log.txt";

/// The files that a run writes whole.
const WRITTEN: [&str; 6] = [CONFIG, METRICS, CURVES, LAST, PREVIOUS, BEST];

/// A folder that holds one training run, locked against other processes.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    log: File,
}

/// The newest undamaged checkpoint of a run.
#[derive(Debug)]
pub struct Newest {
    /// Where it is.
    pub file: PathBuf,
    /// Its content.
    pub checkpoint: Checkpoint,
    /// What is wrong with a newer one, if this is not the newest.
    pub passed_over: Option<Error>,
}

impl RunFolder {
    /// Creates a run in `folder`, which must be missing or empty, or, if none is given, in a new folder
    /// `runs/NAME-1`, `runs/NAME-2`, …. With `exist_ok` the folder may hold a run, which is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] when the folder holds something else, [`Error::Io`] naming the path that
    /// cannot be created or is in use by another process.
    pub fn create(folder: Option<&Path>, name: &str, exist_ok: bool) -> Result<Self> {
        let path = match folder {
            Some(folder) => named(folder, exist_ok)?,
            None => fresh(Path::new("runs"), name)?,
        };
        let run = Self { log: open_log(&path)?, path };
        // Before the new configuration is written, so that no checkpoint is ever beside a configuration
        // of another run.
        for name in [LAST, PREVIOUS, BEST, DAMAGED, METRICS, CURVES] {
            let file = run.path.join(name);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("remove", &file)(error));
                }
                _ => {}
            }
        }
        files::remove_temporaries(&run.path, &WRITTEN)?;
        run.log.set_len(0).map_err(Error::io("write", run.path.join(LOG)))?;
        run.write_history(&[])?;
        Ok(run)
    }

    /// Opens a run to resume it, and removes files that a killed process left half-written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder is not a run, cannot be written or is in use.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = folder.join(CONFIG);
        fs::metadata(&config).map_err(Error::io("find the run's", &config))?;
        let run = Self { log: open_log(folder)?, path: folder.to_path_buf() };
        files::remove_temporaries(&run.path, &WRITTEN)?;
        Ok(run)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its log, opened for appending.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the operating system cannot duplicate the handle.
    pub fn log(&self) -> Result<File> {
        self.log.try_clone().map_err(Error::io("open", self.path.join(LOG)))
    }

    /// Writes `config.toml`: every option in effect.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be written.
    pub fn write_config(&self, config: &impl Serialize) -> Result<()> {
        let path = self.path.join(CONFIG);
        let text = toml::to_string_pretty(config)
            .map_err(|error| Error::io("write", &path)(io::Error::other(error)))?;
        write_whole(&path, text.as_bytes())
    }

    /// Reads `config.toml`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is none, [`Error::Malformed`] when an option is missing or invalid.
    pub fn read_config<Config: DeserializeOwned>(&self) -> Result<Config> {
        let path = self.path.join(CONFIG);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        toml::from_str(&text)
            .map_err(|error| Error::toml(&path, &text, "the options of a training run", &error))
    }

    /// The checkpoint to resume from: the newest undamaged one. A damaged newer one is renamed, so that
    /// it does not replace the undamaged one when the next checkpoint is written.
    ///
    /// # Errors
    ///
    /// As [`newest`]; [`Error::Io`] when the damaged one cannot be renamed.
    pub fn resume_from(&self) -> Result<Newest> {
        let newest = newest(&self.path)?;
        if newest.passed_over.is_some() {
            let last = self.path.join(LAST);
            match fs::rename(&last, self.path.join(DAMAGED)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("rename", &last)(error));
                }
                _ => {}
            }
        }
        Ok(newest)
    }

    /// The metrics of the first `epochs` epochs.
    pub(super) fn history(&self, epochs: usize) -> Result<Vec<EpochMetrics>> {
        let path = self.path.join(METRICS);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        EpochMetrics::parse(&path, &text, epochs)
    }

    /// Writes `metrics.csv`.
    pub(super) fn write_history(&self, history: &[EpochMetrics]) -> Result<()> {
        write_whole(&self.path.join(METRICS), EpochMetrics::file(history).as_bytes())
    }

    /// Writes `curves.svg`.
    pub(super) fn write_curves(&self, title: &str, history: &[EpochMetrics]) -> Result<()> {
        let curve = |name: &str, accuracy: fn(&EpochMetrics) -> f64| Curve {
            name: name.into(),
            accuracy: history.iter().map(accuracy).collect(),
        };
        let curves = [
            curve("train", |metrics| metrics.train_accuracy),
            curve("test", |metrics| metrics.test_accuracy),
        ];
        write_whole(&self.path.join(CURVES), curves::accuracy(title, &curves)?.as_bytes())
    }

    /// Writes `last.safetensors`; the old one becomes `previous.safetensors`.
    pub(super) fn write_last(&self, checkpoint: &Checkpoint) -> Result<()> {
        let bytes = checkpoint.to_bytes()?;
        Pending::create(&self.path.join(LAST))?.commit_keeping(&bytes, &self.path.join(PREVIOUS))
    }

    /// Writes `best.safetensors`.
    pub(super) fn write_best(&self, checkpoint: &Checkpoint) -> Result<()> {
        write_whole(&self.path.join(BEST), &checkpoint.to_bytes()?)
    }
}

/// The newest checkpoint of a run: `last.safetensors`, or `previous.safetensors` if that is missing or
/// damaged.
///
/// # Errors
///
/// [`Error::Malformed`] when both are missing or damaged.
pub fn newest(run: &Path) -> Result<Newest> {
    let [last, previous] = [LAST, PREVIOUS].map(|name| run.join(name));
    let passed_over = match Checkpoint::read(&last) {
        Ok(checkpoint) => return Ok(Newest { file: last, checkpoint, passed_over: None }),
        Err(error) => error,
    };
    match Checkpoint::read(&previous) {
        Ok(checkpoint) => Ok(Newest { file: previous, checkpoint, passed_over: Some(passed_over) }),
        Err(error) => {
            let found = match (is_missing(&passed_over), is_missing(&error)) {
                (true, true) => "neither".to_owned(),
                (false, true) => passed_over.to_string(),
                _ => format!("{passed_over}; {error}"),
            };
            let expected = "last.safetensors or previous.safetensors, whole";
            Err(Error::malformed(run, "run folder", expected, found))
        }
    }
}

/// The file with a run's best network, `best.safetensors`, if one was chosen.
pub fn best(run: &Path) -> Option<PathBuf> {
    Some(run.join(BEST)).filter(|file| file.is_file())
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // A child process that is just being started may hold a copy of the handle, and with it the lock.
        let _ = self.log.unlock();
    }
}

fn named(folder: &Path, exist_ok: bool) -> Result<PathBuf> {
    fs::create_dir_all(folder).map_err(Error::io("create the run folder", folder))?;
    let mut entries = fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    // A run that was killed at once may have only its log.
    let holds_run = [CONFIG, LOG].iter().any(|name| folder.join(name).is_file());
    if entries.next().is_none() || (holds_run && exist_ok) {
        return Ok(folder.to_path_buf());
    }
    Err(Error::Occupied { folder: folder.to_path_buf(), holds_run })
}

fn fresh(parent: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(parent).map_err(Error::io("create the folder", parent))?;
    let mut number = 1_u64;
    loop {
        // Creating fails if the folder exists, so two runs never share one.
        let path = parent.join(format!("{name}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(Error::io("create the run folder", &path)(error)),
        }
    }
}

/// Opens and locks a folder's log. The lock ends with the process, however it ends.
fn open_log(folder: &Path) -> Result<File> {
    let path = folder.join(LOG);
    // A link in a folder that someone else made may lead outside it.
    if path.is_symlink() {
        let link = io::Error::other("it is a link; remove it");
        return Err(Error::io("write", &path)(link));
    }
    let log = OpenOptions::new().append(true).create(true).open(&path);
    let log = log.map_err(Error::io("write", &path))?;
    match log.try_lock() {
        Ok(()) => Ok(log),
        Err(TryLockError::WouldBlock) => {
            let taken = io::Error::other("another process trains in it");
            Err(Error::io("use as a run folder", folder)(taken))
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(log),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}
