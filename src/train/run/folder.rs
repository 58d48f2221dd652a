//! Writing a run. Every file except the log is written whole or not at all. A training run holds a lock on the log, so
//! that no two runs write into one folder. A new run that ends before its first checkpoint leaves nothing.

use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    BEST, CONFIG, CURVES, DAMAGED, LAST, LOG, METRICS, Newest, OPTIONS, PREVIOUS, RUNS, WRITTEN,
    history_of, newest,
};
use crate::files::{self, Pending, Synced, write_whole};
use crate::report::curves::{self, Curve};
use crate::text::shown;
use crate::train::checkpoint::Checkpoint;
use crate::train::metrics::EpochMetrics;
use crate::{Error, Result};

/// A folder that holds one training run, locked against other processes.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    log: File,
    /// Whether this process began the run.
    begun: bool,
    /// Whether it made the folder.
    made: bool,
    /// What the file system answered instead of locking the log.
    unlocked: Option<io::Error>,
    /// What it answered the first time that it did not sync.
    unsynced: OnceCell<io::Error>,
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
        let (path, made) = match folder {
            Some(folder) => named(folder, exist_ok)?,
            None => (fresh(Path::new(RUNS), name)?, true),
        };
        let mut run = Self::locked(path, made)?;
        run.begin()?;
        Ok(run)
    }

    /// The run of a folder if it holds a checkpoint, else a new one there; and whether there was one. Only what is locked
    /// is looked at, so that of two processes that want the same run one has it.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] for a folder that holds something else, [`Error::Io`] as [`RunFolder::create`];
    /// [`is_taken`] tells whether another process has it.
    pub fn open_or_create(folder: &Path) -> Result<(Self, bool)> {
        let (path, made) = named(folder, true)?;
        let mut run = Self::locked(path, made)?;
        let holds = |name| run.path.join(name).is_file();
        let has_checkpoint = holds(CONFIG) && [LAST, PREVIOUS].into_iter().any(holds);
        match has_checkpoint {
            true => files::remove_temporaries(&run.path, &WRITTEN)?,
            false => run.begin()?,
        }
        Ok((run, has_checkpoint))
    }

    /// Makes it a new run, of which nothing is written yet.
    fn begin(&mut self) -> Result<()> {
        self.begun = true;
        // Before the new configuration is written, so that no checkpoint is ever beside a configuration
        // of another run.
        for name in [LAST, PREVIOUS, BEST, DAMAGED, METRICS, CURVES] {
            let file = self.path.join(name);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("remove", &file)(error));
                }
                _ => {}
            }
        }
        files::remove_temporaries(&self.path, &WRITTEN)?;
        self.log.set_len(0).map_err(Error::io("write", self.path.join(LOG)))?;
        self.write_history(&[])
    }

    /// Opens a run to resume it, and removes files that a killed process left half-written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder is not a run, cannot be written or is in use.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = folder.join(CONFIG);
        fs::metadata(&config).map_err(Error::io("find the run's", &config))?;
        let run = Self::locked(folder.to_path_buf(), false)?;
        files::remove_temporaries(&run.path, &WRITTEN)?;
        Ok(run)
    }

    /// Opens and locks a folder's log; if `made`, this process has made the folder. The lock ends with the process,
    /// however it ends.
    fn locked(path: PathBuf, made: bool) -> Result<Self> {
        let file = path.join(LOG);
        // A link in a folder that someone else made may lead outside it.
        if file.is_symlink() {
            let link = io::Error::other("it is a link; remove it");
            return Err(Error::io("write", &file)(link));
        }
        let log = OpenOptions::new().append(true).create(true).open(&file);
        let log = log.map_err(Error::io("write", &file))?;
        let unlocked = match log.try_lock() {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => {
                let taken = io::Error::new(ErrorKind::WouldBlock, "another process trains in it");
                return Err(Error::io("use as a run folder", &path)(taken));
            }
            Err(TryLockError::Error(error)) if files::is_unsupported(&error) => Some(error),
            Err(TryLockError::Error(error)) => {
                if made {
                    let _ = fs::remove_file(&file).and_then(|()| fs::remove_dir(&path));
                }
                return Err(Error::io("lock", &file)(error));
            }
        };
        Ok(Self { path, log, begun: false, made, unlocked, unsynced: OnceCell::new() })
    }

    /// What the file system of the folder does not guarantee, a line each. Complete once something was written.
    pub fn caveats(&self) -> Vec<String> {
        let folder = shown(&self.path);
        let unlocked = self.unlocked.as_ref().map(|error| {
            format!(
                "the disk of {folder} has no locks ({error}): nothing keeps a second process from training there"
            )
        });
        let unsynced = self.unsynced.get().map(|error| {
            format!(
                "the disk of {folder} does not sync ({error}): a power failure may undo the last checkpoints"
            )
        });
        unlocked.into_iter().chain(unsynced).collect()
    }

    /// Keeps the first answer that tells that nothing is synced here.
    fn note(&self, synced: Synced) {
        if let Synced::Unsupported(error) = synced {
            let _ = self.unsynced.set(error);
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.note(write_whole(&self.path.join(name), bytes)?);
        Ok(())
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
        let text = toml::to_string_pretty(config)
            .map_err(|error| Error::internal("writing config.toml", error))?;
        self.write(CONFIG, text.as_bytes())
    }

    /// Reads `config.toml`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is none, [`Error::Malformed`] when an option is missing or invalid.
    pub fn read_config<Config: DeserializeOwned>(&self) -> Result<Config> {
        files::read_toml(&self.path.join(CONFIG), OPTIONS)
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
    pub(in crate::train) fn history(&self, epochs: usize) -> Result<Vec<EpochMetrics>> {
        history_of(&self.path, epochs)
    }

    /// Writes `metrics.csv`.
    pub(in crate::train) fn write_history(&self, history: &[EpochMetrics]) -> Result<()> {
        self.write(METRICS, EpochMetrics::file(history).as_bytes())
    }

    /// Writes `curves.svg`.
    pub(in crate::train) fn write_curves(
        &self,
        title: &str,
        history: &[EpochMetrics],
    ) -> Result<()> {
        let curve = |name: &str, accuracy: fn(&EpochMetrics) -> f64| Curve {
            name: name.into(),
            accuracy: history.iter().map(accuracy).collect(),
        };
        let curves = [
            curve("train", |metrics| metrics.train_accuracy),
            curve("test", |metrics| metrics.test_accuracy),
        ];
        self.write(CURVES, curves::accuracy(title, &curves)?.as_bytes())
    }

    /// Writes `last.safetensors`; the old one becomes `previous.safetensors`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be written.
    pub fn write_last(&self, checkpoint: &Checkpoint) -> Result<()> {
        let bytes = checkpoint.to_bytes()?;
        let pending = Pending::create(&self.path.join(LAST))?;
        self.note(pending.commit_keeping(&bytes, &self.path.join(PREVIOUS))?);
        Ok(())
    }

    /// Writes `best.safetensors`.
    pub(in crate::train) fn write_best(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.write(BEST, &checkpoint.to_bytes()?)
    }
}

/// Whether a run folder could not be had because another process trains in it.
pub fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::WouldBlock)
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let is_file = |name| self.path.join(name).is_file();
        if self.begun && ![LAST, PREVIOUS].into_iter().any(is_file) {
            // Nothing could be resumed from it. What cannot be removed stays; there is an error to report already.
            for name in WRITTEN.into_iter().chain([LOG]) {
                let _ = fs::remove_file(self.path.join(name));
            }
            if self.made {
                let _ = fs::remove_dir(&self.path);
            }
        }
        // A child process that is just being started may hold a copy of the handle, and with it the lock.
        let _ = self.log.unlock();
    }
}

/// The folder, and whether it was made.
fn named(folder: &Path, exist_ok: bool) -> Result<(PathBuf, bool)> {
    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(Error::io("create the run folder", folder))?;
    let is_empty = files::is_empty(folder)?;
    // A run that was killed at once may have only its log.
    let holds_run = [CONFIG, LOG].iter().any(|name| folder.join(name).is_file());
    if is_empty || (holds_run && exist_ok) {
        return Ok((folder.to_path_buf(), made));
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
