//! Reading a run: which one is meant, its newest checkpoint, its options and metrics.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{BEST, CONFIG, DAMAGED, LAST, LOG, METRICS, OPTIONS, PREVIOUS, RUNS, WRITTEN};
use crate::text::shown;
use crate::train::checkpoint::Checkpoint;
use crate::train::metrics::EpochMetrics;
use crate::{Error, Result, files};

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

/// The options of the run in a folder, of which `config.toml` may say more; none where there are none.
///
/// # Errors
///
/// [`Error::Io`] when they cannot be read, [`Error::Malformed`] naming the line that is wrong.
pub fn config_of<Config: DeserializeOwned>(folder: &Path) -> Result<Option<Config>> {
    files::if_there(files::read_toml(&folder.join(CONFIG), OPTIONS))
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
            let found = match (files::is_missing(&passed_over), files::is_missing(&error)) {
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
