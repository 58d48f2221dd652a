//! Loss and accuracy: summed over steps, and measured on a set of images.

use burn::tensor::Tensor;
use serde::Serialize;

use crate::data::{Resident, resident};
use crate::net::{Network, Prediction, rows, softmax};
use crate::op::submit_to_software;
use crate::op::training::softmax_cross_entropy;
use crate::{Error, Result};

/// Images per batch when accuracy is measured: large, since nothing is kept for a backward pass.
pub(super) const EVALUATION_BATCH: usize = 1000;

/// Sums over the steps of an epoch. Each step's sums stay on the device and are read rarely, because
/// reading waits for all queued work.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Sums of losses and numbers of correctly classified images of the steps since the last reading: parts of each.
    pending: Vec<Tensor<2>>,
    /// Steps that have been read.
    steps: usize,
    /// The sums over these, added step by step, so that the result does not depend on when they are
    /// read.
    pub(super) sums: [f64; 2],
    /// Images in the steps that have been added.
    images: usize,
}

impl Tally {
    /// Continues from steps of an earlier process.
    pub(super) fn resumed(steps: usize, sums: [f64; 2], images: usize) -> Self {
        Self { pending: Vec::new(), steps, sums, images }
    }

    pub(super) fn add(&mut self, sums: Tensor<2>, images: usize) {
        self.pending.push(sums);
        self.images += images;
    }

    /// Reads the steps added since the last reading, up to the first whose loss is NaN or infinite;
    /// returns that step, counted from 1, and its loss.
    pub(super) fn read(&mut self) -> Result<Option<(usize, f32)>> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        // Few at a time: one launch takes them together, where it can bind them all. Of more, Burn copies one after the other,
        // and fills a buffer for each; some drivers can bind ten.
        const TOGETHER: usize = 4;
        let parts: Vec<usize> = self.pending.iter().map(|sums| 2 * sums.dims()[0]).collect();
        let mut pending = std::mem::take(&mut self.pending);
        while pending.len() > 1 {
            let together = pending.chunks(TOGETHER).map(|some| Tensor::cat(some.to_vec(), 0));
            pending = together.collect();
        }
        let sums = pending
            .remove(0)
            .try_to_vec_as::<f32>()
            .map_err(|error| Error::compute("reading the loss", error))?;
        let mut rest = &sums[..];
        for count in parts {
            let (step, later) = rest.split_at(count);
            rest = later;
            self.steps += 1;
            let sum = |column: usize| {
                step.iter().skip(column).step_by(2).copied().map(f64::from).sum::<f64>()
            };
            self.sums[0] += sum(0);
            self.sums[1] += sum(1);
            if !sum(0).is_finite() {
                return Ok(Some((self.steps, sum(0) as f32)));
            }
        }
        Ok(None)
    }

    /// Mean loss and accuracy over the steps that have been read.
    pub(super) fn means(&self) -> (f64, f64) {
        let images = self.images.max(1) as f64;
        (self.sums[0] / images, self.sums[1] / images)
    }
}

/// Mean loss and accuracy of a network on a set of images.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluation {
    /// Mean cross entropy, in nats.
    pub loss: f64,
    /// Fraction of images classified correctly.
    pub accuracy: f64,
}

/// Measures a network without dropout.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub fn evaluate(network: &Network, set: &Resident) -> Result<Evaluation> {
    evaluate_with(network, set, |_| Ok(()))
}

/// What a network answers to each image of a set.
#[derive(Debug, Clone)]
pub struct Answers {
    /// As [`evaluate`] gives it, to the bit.
    pub evaluation: Evaluation,
    /// The class that the network takes each image for.
    pub predictions: Vec<Prediction>,
    /// The probability of every class, for each image.
    pub probabilities: Vec<Vec<f32>>,
}

/// Measures a network without dropout, and keeps what it answers to each image.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub fn answers(network: &Network, set: &Resident) -> Result<Answers> {
    let (mut predictions, mut probabilities) = (Vec::new(), Vec::new());
    let evaluation = evaluate_with(network, set, |logits| {
        for logits in rows(logits.clone())? {
            let of_image = softmax(&logits);
            // By the logits, as accuracy is measured: two that differ in their last bit may have equal probabilities.
            let Prediction { class, .. } = Prediction::of(&logits);
            predictions.push(Prediction { class, probability: of_image[class] });
            probabilities.push(of_image);
        }
        Ok(())
    })?;
    Ok(Answers { evaluation, predictions, probabilities })
}

/// The loop of both; `each` gets the logits of every batch.
fn evaluate_with(
    network: &Network,
    set: &Resident,
    mut each: impl FnMut(&Tensor<2>) -> Result<()>,
) -> Result<Evaluation> {
    let mut tally = Tally::default();
    let labels = set.labels();
    let device = labels.device();
    let indices: Vec<u32> = (0..set.count as u32).collect();
    for indices in indices.chunks(EVALUATION_BATCH) {
        let order = resident::order(indices, &device);
        let logits = network.logits(set.gather(order.clone())?)?;
        each(&logits)?;
        let (_, sums) = softmax_cross_entropy(logits, labels.clone(), order, 0.0)?;
        tally.add(sums, indices.len());
        submit_to_software(&device)?;
    }
    tally.read()?;
    let (loss, accuracy) = tally.means();
    Ok(Evaluation { loss, accuracy })
}
