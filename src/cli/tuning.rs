//! `--tune`: what was measured on a GPU for a network, kept in the user's cache folder for the next run.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::say;
use crate::device::{Kind, OpenDevice};
use crate::net::Stack;
use crate::op::choice::{self, Choices};
use crate::text::shown;
use crate::train::{StopFlag, TrainConfig, tuning};
use crate::{Result, files, hex};

/// When to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Tune {
    /// On a hardware GPU
    #[default]
    Auto,
    /// On any adapter that is given a GPU's kernels
    On,
    /// Never: sizes alone decide
    Off,
}

/// A file of the cache.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: Key,
    choices: Choices,
}

/// What the measurements belong to.
#[derive(PartialEq, Serialize, Deserialize)]
struct Key {
    version: String,
    adapter: String,
    driver: String,
    batch_size: usize,
    network: Stack,
}

/// The choices for a new run: measured before, or now. None where nothing is to be chosen.
pub fn choices(
    tune: Tune,
    opened: &OpenDevice,
    config: &TrainConfig,
    stop: &StopFlag,
) -> Result<Option<Choices>> {
    let Some(key) = key(tune, opened, config) else { return Ok(None) };
    let file = file(&key);
    if let Some(choices) = file.as_ref().and_then(|file| kept(file, &key)) {
        tracing::info!(?choices, "tuned before");
        return Ok(Some(choices));
    }
    say!("measuring what is fastest for this network on this GPU; the next run need not");
    let choices = tuning::tune(config, &opened.device, &|| stop.check(), &mut |line| {
        say!("{line}");
    })?;
    if let Some(file) = file {
        keep(&file, Kept { key, choices: choices.clone() });
    }
    Ok(Some(choices))
}

/// What was measured before, if it was.
pub fn recall(tune: Tune, opened: &OpenDevice, config: &TrainConfig) -> Option<Choices> {
    let key = key(tune, opened, config)?;
    kept(&file(&key)?, &key)
}

/// What measurements would belong to, if any are wanted.
fn key(tune: Tune, opened: &OpenDevice, config: &TrainConfig) -> Option<Key> {
    let adapter = opened.adapter.as_ref()?;
    let wanted = match tune {
        Tune::Auto => adapter.kind != Kind::Software,
        Tune::On => true,
        Tune::Off => false,
    };
    (wanted && choice::has_choices(&opened.device)).then(|| Key {
        version: env!("CARGO_PKG_VERSION").into(),
        adapter: format!("{} {}", adapter.api.name(), adapter.name),
        driver: adapter.driver.clone(),
        batch_size: config.batch_size,
        network: config.network.clone(),
    })
}

/// Where the measurements are kept, if there is a cache folder.
fn file(key: &Key) -> Option<PathBuf> {
    let text = toml::to_string(key).ok()?;
    let name = &hex(&Sha256::digest(text))[..16];
    Some(dirs::cache_dir()?.join("tnet-gpu").join("tuning").join(format!("{name}.toml")))
}

/// What a file of the cache holds, unless it is missing, damaged or of something else: then it is measured again.
fn kept(file: &Path, key: &Key) -> Option<Choices> {
    let kept: Kept = toml::from_str(&fs::read_to_string(file).ok()?).ok()?;
    (kept.key == *key).then_some(kept.choices)
}

/// Writes a file of the cache. The run keeps its own choices; without this file the next one measures again.
fn keep(file: &Path, kept: Kept) {
    let folder = files::parent(file);
    let written = fs::create_dir_all(folder).map_err(|error| error.to_string()).and_then(|()| {
        let text = toml::to_string_pretty(&kept).map_err(|error| error.to_string())?;
        files::write_whole(file, text.as_bytes()).map_err(|error| error.to_string())
    });
    match written {
        Ok(_) => tracing::info!("kept in {}", shown(file)),
        Err(problem) => say!("the measurements cannot be kept in {}: {problem}", shown(file)),
    }
}
