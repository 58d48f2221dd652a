//! The run folder: `config.toml`, `metrics.csv`, `curves.svg`, `last.safetensors`,
//! `previous.safetensors`, `best.safetensors`, `log.txt`.
//!
//! Every file except the log is written whole or not at all. A training run holds a lock on the log,
//! so that no two runs write into one folder. A new run that ends before its first checkpoint leaves nothing.

use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::metrics::EpochMetrics;
use crate::files::{self, Pending, Synced, write_whole};
use crate::report::curves::{self, Curve};
use crate::text::shown;
use crate::{Error, Result};

/// Where new runs are put.
const RUNS: &str = "runs";

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
    /// Whether this process began the run.
    begun: bool,
    /// Whether it made the folder.
    made: bool,
    /// What the file system answered instead of locking the log.
    unlocked: Option<io::Error>,
    /// What it answered the first time that it did not sync.
    unsynced: OnceCell<io::Error>,
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
        let missing = || Error::io("read", self.path.join(CONFIG))(ErrorKind::NotFound.into());
        config_of(&self.path)?.ok_or_else(missing)
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
        history_of(&self.path, epochs)
    }

    /// Writes `metrics.csv`.
    pub(super) fn write_history(&self, history: &[EpochMetrics]) -> Result<()> {
        self.write(METRICS, EpochMetrics::file(history).as_bytes())
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
    pub(super) fn write_best(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.write(BEST, &checkpoint.to_bytes()?)
    }
}

/// Whether a run folder could not be had because another process trains in it.
pub fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::WouldBlock)
}

/// The options of the run in a folder, of which `config.toml` may say more; none where there are none.
///
/// # Errors
///
/// [`Error::Io`] when they cannot be read, [`Error::Malformed`] naming the line that is wrong.
pub fn config_of<Config: DeserializeOwned>(folder: &Path) -> Result<Option<Config>> {
    let path = folder.join(CONFIG);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let config = toml::from_str(&text);
    config
        .map(Some)
        .map_err(|error| Error::toml(&path, &text, "the options of a training run", &error))
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

/// The run that is meant where it is to be resumed: a run folder, or the newest checkpoint or another file of one.
///
/// # Errors
///
/// [`Error::Malformed`] for a checkpoint that is not the one a run resumes from, another file, or a folder of runs, with
/// the folder to name instead.
pub fn to_resume(path: &Path) -> Result<PathBuf> {
    let wrong = |found: String| Err(Error::malformed(path, "run folder", "a folder", found));
    if !path.is_file() {
        return of_folder(path);
    }
    let Some(folder) = folder_of_file(path) else { return wrong("a file".into()) };
    let name = path.file_name().unwrap_or_default();
    if [PREVIOUS, BEST, DAMAGED].iter().any(|other| name == *other) {
        let folder = shown(&folder);
        return wrong(format!("one of its checkpoints; {folder} resumes from its newest"));
    }
    Ok(folder)
}

/// The run folder that is meant where a whole run is to be read: every file of one stands for it.
///
/// # Errors
///
/// [`Error::Malformed`] for another file, or a folder of runs, with the folder to name instead.
pub fn to_study(path: &Path) -> Result<PathBuf> {
    if !path.is_file() {
        return of_folder(path);
    }
    folder_of_file(path).ok_or_else(|| Error::malformed(path, "run folder", "a folder", "a file"))
}

/// The run folder or the checkpoint that is meant where a network is to be read: other files of a run stand for it.
///
/// # Errors
///
/// [`Error::Malformed`] for a folder of runs.
pub fn to_read(path: &Path) -> Result<PathBuf> {
    if !path.is_file() {
        return of_folder(path);
    }
    let is_checkpoint = path.extension().is_some_and(|extension| extension == "safetensors");
    match folder_of_file(path) {
        Some(folder) if !is_checkpoint => Ok(folder),
        _ => Ok(path.to_path_buf()),
    }
}

/// Where the configuration of a checkpoint in a run folder is.
pub fn config_beside(checkpoint: &Path) -> PathBuf {
    checkpoint.with_file_name(CONFIG)
}

/// How many training images the run of a checkpoint uses, if it lies in the folder of its run.
pub fn train_images(checkpoint: &Path) -> Option<usize> {
    #[derive(Deserialize)]
    struct Images {
        train_images: usize,
    }
    let text = fs::read_to_string(config_beside(checkpoint)).ok()?;
    let Images { train_images } = toml::from_str(&text).ok()?;
    Some(train_images)
}

/// The metrics of the first `epochs` epochs of a run.
///
/// # Errors
///
/// [`Error::Io`] when they cannot be read, [`Error::Malformed`] naming the line that is missing or wrong.
pub fn history_of(run: &Path, epochs: usize) -> Result<Vec<EpochMetrics>> {
    let path = run.join(METRICS);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    EpochMetrics::parse(&path, &text, epochs)
}

/// The metrics of every epoch of the run in whose folder a checkpoint lies; none if it lies in no such folder.
///
/// # Errors
///
/// [`Error::Io`] when they cannot be read, [`Error::Malformed`] naming the line that is.
pub fn history_beside(checkpoint: &Path) -> Result<Vec<EpochMetrics>> {
    let path = checkpoint.with_file_name(METRICS);
    if !config_beside(checkpoint).is_file() || !path.is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    EpochMetrics::parse(&path, &text, text.trim_end().lines().count().saturating_sub(1))
}

/// The run folder of one of its files.
fn folder_of_file(file: &Path) -> Option<PathBuf> {
    let name = file.file_name()?;
    let of_run = WRITTEN.into_iter().chain([DAMAGED, LOG]).any(|other| name == other);
    let folder = files::parent(file);
    (of_run && folder.join(CONFIG).is_file()).then(|| folder.to_path_buf())
}

/// A folder, unless it is none of a run and holds runs, or their folder.
fn of_folder(folder: &Path) -> Result<PathBuf> {
    const SHOWN: usize = 5;
    let is_run = |folder: &Path| [CONFIG, LAST].iter().any(|name| folder.join(name).is_file());
    let runs_in = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| is_run(path)).collect()
    };
    let mut runs = if is_run(folder) { Vec::new() } else { runs_in(folder) };
    if runs.is_empty() && !is_run(folder) {
        runs = runs_in(&folder.join(RUNS));
    }
    if runs.is_empty() {
        return Ok(folder.to_path_buf());
    }
    // The one trained last is the most likely to be meant.
    let written =
        |run: &PathBuf| fs::metadata(run.join(CONFIG)).and_then(|file| file.modified()).ok();
    runs.sort_by_key(|run| (std::cmp::Reverse(written(run)), run.clone()));
    let mut names: Vec<String> = runs.iter().take(SHOWN).map(|run| shown(run)).collect();
    if runs.len() > SHOWN {
        names.push(format!("{} more", runs.len() - SHOWN));
    }
    let found = format!("a folder of runs; name one of them: {}", names.join(", "));
    Err(Error::malformed(folder, "run folder", "one run", found))
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
