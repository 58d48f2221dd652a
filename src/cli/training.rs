//! A training run with its options, data and folder, new or resumed, as `train` and `compress` carry it out.

use std::path::{self, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::message::message;
use super::outcome::Outcome;
use super::progress::Progress;
use super::{introduce, log, paths, say};
use crate::Result;
use crate::data::{DataSet, LoadOptions};
use crate::device::{Adapter, OpenDevice};
use crate::net::Preset;
use crate::op::{self, Choices};
use crate::text::{excerpt, shown};
use crate::train::checkpoint::Checkpoint;
use crate::train::memory::{self, Place};
use crate::train::{self, Conduct, RunFolder, Splits, StopFlag, TrainConfig};

/// `config.toml`: every option in effect.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunConfig {
    /// Of the program.
    pub version: String,
    /// The name that selects the device again.
    pub device: String,
    /// The device.
    pub device_description: String,
    /// Where the data is; empty for a network that has not met any.
    #[serde(with = "paths::stored")]
    pub data: PathBuf,
    /// [`Splits::sha256`]; empty for a network that has not met any data.
    pub data_sha256: String,
    /// How many training images are used, the held-out ones included.
    pub train_images: usize,
    /// Steps between two checkpoints.
    pub save_every: usize,
    /// How its images are taken.
    #[serde(default)]
    pub images: LoadOptions,
    /// The options that made the network, unless it is a file's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// What was measured to be fastest; a run that is resumed computes as before, to the bit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Choices>,
    /// All that determines the network.
    #[serde(flatten)]
    pub train: TrainConfig,
}

/// Everything needed to start or resume a run.
pub struct Ready {
    /// The options.
    pub config: RunConfig,
    /// The data.
    pub splits: Splits,
    /// The device.
    pub opened: OpenDevice,
    /// The folder.
    pub run: RunFolder,
    /// Where it resumes, or what it begins with.
    pub from: Option<Checkpoint>,
    /// Listens since before the run was there: from then on, a signal ends it in good order.
    pub stop: StopFlag,
}

impl RunConfig {
    /// Options on this device and with this data, the path of which may be a relative one; the others at their defaults.
    pub fn new(
        opened: &OpenDevice,
        (data, images): (&Path, LoadOptions),
        data_sha256: String,
        train_images: usize,
        train: TrainConfig,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            device: id(opened),
            device_description: opened.description.clone(),
            // A run may be resumed from another working directory.
            data: path::absolute(data).unwrap_or_else(|_| data.to_path_buf()),
            data_sha256,
            train_images,
            save_every: 0,
            images,
            preset: None,
            tuning: None,
            train,
        }
    }
}

impl Ready {
    /// Trains to the end, and writes the log and the options into the run folder before that.
    pub fn train(self, progress: &mut Progress) -> Result<Outcome> {
        let Self { config, splits, opened, run, from, stop } = self;
        op::choose(config.tuning.clone().unwrap_or_default());
        log::to_file(run.log()?, run.path())?;
        run.write_config(&config)?;
        introduce(&opened);
        describe(&splits, &config)?;
        run.caveats().iter().for_each(|caveat| say!("{caveat}"));
        tracing::info!(?config, "training");

        let conduct = Conduct { stop, save_every: config.save_every, from };
        let summary = train::train(&config.train, &splits, &opened.device, &run, conduct, progress);
        progress.end();
        if let Err(error) = &summary {
            tracing::info!("{}", message(error));
        }
        let summary = summary?;
        let (last, TrainConfig { epochs, recipe, .. }) = (summary.last.epoch, &config.train);
        if let Some(patience) = recipe.patience.filter(|_| last < *epochs) {
            let plural = if patience == 1 { "" } else { "s" };
            say!(
                "ended after epoch {last} of {epochs}: no better on the held-out images for {patience} epoch{plural}"
            );
        }
        Ok(Outcome { network: config.train.network, summary, run })
    }
}

/// The folder of the data, and its images, split as the options say.
pub fn split(
    mut data: DataSet,
    config: &TrainConfig,
    train_images: usize,
) -> Result<(PathBuf, Splits)> {
    data.train.keep_first(train_images)?;
    let (train, validation) = match config.validation {
        0 => (data.train, None),
        count => {
            let (train, validation) = data.train.hold_out(count, config.seed)?;
            (train, Some(validation))
        }
    };
    Ok((data.folder, Splits { train, validation, test: data.test, classes: data.classes }))
}

/// Checks that everything fits into the device's buffers and into memory.
pub fn check_space(opened: &OpenDevice, config: &TrainConfig, splits: &Splits) -> Result<()> {
    let sets = [Some(&splits.train), splits.validation.as_ref(), Some(&splits.test)];
    let sets = sets.into_iter().flatten();
    opened.check_buffers(train::buffers(&config.network, config.batch_size, sets)?)?;
    let place = Place::of(opened);
    check_memory(memory::needed(config, splits, place)?)
}

pub fn check_memory(needed: u64) -> Result<()> {
    crate::memory::check("training this network", needed)
}

/// The name that selects the same device again, even if `auto` chose it.
pub fn id(opened: &OpenDevice) -> String {
    opened.adapter.as_ref().map_or_else(|| "cpu".into(), Adapter::id)
}

fn describe(splits: &Splits, config: &RunConfig) -> Result<()> {
    let held_out = match &splits.validation {
        Some(validation) => format!(", {} held out", validation.count),
        None => String::new(),
    };
    say!(
        "data: {} ({} training images{held_out}, {} test images)",
        shown(&config.data),
        splits.train.count,
        splits.test.count
    );
    say!("network: {}", config.train.network.title()?);
    let empty = splits.train.empty_classes(splits.classes.len());
    if let Some(line) = empty_classes(&splits.classes, &empty) {
        say!("{line}");
    }
    Ok(())
}

/// Says that some classes have no training image, if any: labels with gaps make a network with outputs
/// that are never right.
fn empty_classes(classes: &[String], empty: &[usize]) -> Option<String> {
    const SHOWN: usize = 3;
    if empty.is_empty() {
        return None;
    }
    let names = empty.iter().take(SHOWN).map(|&class| excerpt(&classes[class]));
    let mut shown: Vec<String> = names.collect();
    if empty.len() > SHOWN {
        shown.push("...".into());
    }
    Some(format!(
        "{} classes, {} of them without a training image ({}): the labels are 0 to {}",
        classes.len(),
        empty.len(),
        shown.join(", "),
        classes.len() - 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::class_names;

    #[test]
    fn classes_without_images_are_told_in_one_line() {
        assert_eq!(empty_classes(&class_names(None, 3), &[]), None);
        assert_eq!(
            empty_classes(&class_names(None, 3), &[1]).unwrap(),
            "3 classes, 1 of them without a training image (1): the labels are 0 to 2"
        );
        let empty: Vec<usize> = (1..200).collect();
        assert_eq!(
            empty_classes(&class_names(None, 201), &empty).unwrap(),
            "201 classes, 199 of them without a training image (1, 2, 3, ...): the labels are 0 to 200"
        );
    }
}
