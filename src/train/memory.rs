//! How much memory a training run takes, on the host and in a device's buffers, before anything is allocated for it.

use super::evaluation::EVALUATION_BATCH;
use super::{Splits, TrainConfig};
use crate::Result;
use crate::data::ImageSet;
use crate::device::{Kind, OpenDevice};
use crate::mps::strategy::Target;
use crate::net::{Stack, features};
use crate::op::training::PIXELS_A_WORD;

/// Numbers per parameter while a checkpoint is written, when most memory is in use: the weight and Adam's two moments
/// on the device, on the host, and in the file's bytes, and what the allocator cannot use in between. Peaks of 37 to 42
/// bytes per parameter were measured on the CPU, for dense networks of 5 to 71 million parameters.
const WHILE_SAVING: u64 = 10;

/// The same on an adapter whose buffers lie in the same memory, with staging buffers and those of the network that
/// compiled the kernels: 66 bytes per parameter were measured on llvmpipe.
const WHILE_SAVING_SHARED: u64 = 17;

/// Numbers per parameter during a step: the weight and the moments.
const WHILE_TRAINING: u64 = 3;

/// Bytes for all that does not depend on the network: kernels' buffers, the log, figures.
const REST: u64 = 16 << 20;

/// Bytes of a number.
const NUMBER: u64 = size_of::<f32>() as u64;

/// Where the network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the CPU device, all in the host's memory.
    Cpu,
    /// On an adapter without memory of its own, all in the host's as well.
    Shared,
    /// On a card, with copies in the host's memory only while weights are drawn and saved.
    Card,
}

impl Place {
    /// Where an open device has its memory.
    pub fn of(opened: &OpenDevice) -> Self {
        match opened.adapter.as_ref().map(|adapter| adapter.kind) {
            None => Self::Cpu,
            Some(Kind::Software | Kind::Integrated) => Self::Shared,
            Some(Kind::Discrete | Kind::Virtual | Kind::Other) => Self::Card,
        }
    }
}

/// Bytes of host memory that a training run needs at its peak, besides what the process has when the data is read.
/// An estimate, meant to be at most some ten percent off for networks that are large.
///
/// # Errors
///
/// [`crate::Error::Layer`] for an impossible network.
pub fn needed(config: &TrainConfig, splits: &Splits, place: Place) -> Result<u64> {
    let sets = [Some(&splits.train), splits.validation.as_ref(), Some(&splits.test)];
    // The copies on the device.
    let data = sets.into_iter().flatten().fold(0, |sum: u64, set| {
        sum.saturating_add(set.pixels.len() as u64).saturating_add(NUMBER * set.count as u64)
    });
    let batch = config.batch_size.min(splits.train.count);
    Ok(needed_without_data(config, batch, place)?.saturating_add(data).saturating_add(REST))
}

/// The same without the data, for batches of so many images.
///
/// # Errors
///
/// [`crate::Error::Layer`] for an impossible network.
pub fn needed_without_data(config: &TrainConfig, batch: usize, place: Place) -> Result<u64> {
    let network = &config.network;
    // The mean of the weights is kept like one of Adam's moments.
    let numbers = WHILE_TRAINING + u64::from(config.recipe.average.is_some());
    let parameters = (network.parameters()? as u64).saturating_mul(numbers);
    let saving = match place {
        Place::Cpu | Place::Card => (WHILE_SAVING * parameters).div_ceil(WHILE_TRAINING),
        Place::Shared => (WHILE_SAVING_SHARED * parameters).div_ceil(WHILE_TRAINING),
    };
    if place == Place::Card {
        return Ok(saving.saturating_mul(NUMBER));
    }

    // A step keeps the input of every stage, and has at a time the gradients before and after one.
    let stages = match place {
        Place::Cpu => network.stages_for(Target::Cpu)?,
        Place::Card | Place::Shared => network.stages()?,
    };
    let inputs = stages.iter().map(|stage| features(stage.input) as u64);
    let widths: Vec<u64> = inputs.chain([network.outputs()? as u64]).collect();
    let kept: u64 = widths.iter().sum();
    let at_a_time = 2 * widths.iter().max().copied().unwrap_or_default();
    let scratch = |batch: usize| {
        stages.iter().map(move |stage| stage.layer.kind().scratch(stage.input, batch))
    };
    let images = |count: usize, numbers: u64| (count as u64).saturating_mul(numbers);
    let most = |numbers: &mut dyn Iterator<Item = u64>| numbers.max().unwrap_or_default();
    let training = images(batch, kept + at_a_time)
        .saturating_add(most(&mut scratch(batch).map(|[forward, backward]| forward.max(backward))));
    let evaluating = images(EVALUATION_BATCH, at_a_time)
        + most(&mut scratch(EVALUATION_BATCH).map(|[forward, _]| forward));
    let computing = parameters.saturating_add(training.max(evaluating));
    Ok(saving.max(computing).saturating_mul(NUMBER))
}

/// The buffers that a training run (or, with a `batch_size` of 0, an evaluation) needs on the device,
/// by name and size in bytes, without those that are certain to be smaller than another.
///
/// # Errors
///
/// [`crate::Error::Argument`] for an impossible network.
pub fn buffers<'a>(
    network: &Stack,
    batch_size: usize,
    sets: impl IntoIterator<Item = &'a ImageSet>,
) -> Result<Vec<(String, u64)>> {
    let bytes = |extents: &[usize]| {
        extents.iter().fold(4, |bytes: u64, &extent| bytes.saturating_mul(extent as u64))
    };
    let weights = network.weights()?.into_iter();
    let mut buffers: Vec<(String, u64)> = weights
        .map(|(name, weight)| (format!("the weights {name}"), bytes(&weight.shape)))
        .collect();
    let placed = network.placed()?;
    let of_ones = placed.iter().filter_map(|placed| {
        let numbers = placed.layer.kind().buffer_of_one(placed.input)?;
        Some((format!("the patches of one image in {}", placed.name), bytes(&[numbers])))
    });
    buffers.extend(of_ones);
    let of_layers = placed.iter().flat_map(|placed| placed.layer.kind().buffers(placed.input));
    let mut widths: Vec<usize> =
        std::iter::once(features(network.input)).chain(of_layers).collect();
    widths.sort_unstable();
    widths.dedup();
    for set in sets {
        let (count, words) = (set.count, set.size().div_ceil(PIXELS_A_WORD));
        buffers.push((format!("{count} images"), bytes(&[count, words])));
        let batch = batch_size.max(EVALUATION_BATCH).min(count);
        for width in &widths {
            let name = format!("{width} numbers for each of the {batch} images of a batch");
            buffers.push((name, bytes(&[batch, *width])));
        }
    }
    Ok(buffers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mps::MpsInit;
    use crate::net::{Model, Preset};
    use crate::train::Recipe;

    fn dense(hidden: [usize; 2]) -> TrainConfig {
        let preset = Preset { model: Model::Dense, hidden: hidden.into(), ..Preset::default() };
        TrainConfig {
            epochs: 1,
            batch_size: 128,
            lr: 1e-3,
            seed: 1,
            validation: 0,
            init: MpsInit::He,
            recipe: Recipe::default(),
            network: preset.stack([1, 28, 28], 10).unwrap(),
        }
    }

    /// Peaks of resident memory that were measured on the CPU with 3,000 training images, less the 39 MB of the
    /// smallest network, in bytes.
    #[test]
    fn the_estimate_is_near_what_was_measured() {
        for (network, batch, measured) in [
            (dense([10_000, 1000]), 128, 697e6),
            (dense([10_000, 1000]), 3000, 697e6),
            (dense([40_000, 1000]), 128, 2665e6),
        ] {
            let needed = needed_without_data(&network, batch, Place::Cpu).unwrap() as f64;
            assert!((needed / measured - 1.0).abs() < 0.1, "{needed} for {measured}");
        }
    }

    /// Patches of 3 x 3 of an image of 64 channels and 512 x 512 pixels are 604 MB, more than most adapters bind.
    #[test]
    fn the_patches_of_one_image_are_a_buffer() {
        let network: Stack = toml::from_str(
            r#"
            input = [64, 512, 512]
            layers = [
                { kind = "conv2d", out = 1, kernel = [3, 3], padding = 1 },
                { kind = "avgpool", kernel = [64, 64] },
                { kind = "dense", out = 10 },
            ]"#,
        )
        .unwrap();
        let buffers = buffers(&network, 1, []).unwrap();
        let expected = ("the patches of one image in conv2d1".into(), 4 * 9 * 64 * 512 * 512);
        assert!(buffers.contains(&expected), "{buffers:?}");
    }

    #[test]
    fn what_no_machine_holds_does_not_overflow() {
        let huge = dense([1 << 20, 1 << 11]);
        let needed = needed_without_data(&huge, usize::MAX, Place::Shared).unwrap();
        assert_eq!(needed, u64::MAX);
    }
}
