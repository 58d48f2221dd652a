//! Training: the step loop, what it reports, and what it leaves in the run folder.
//!
//! The loop prints nothing: a caller follows it through [`Observer`] and stops it through
//! [`StopFlag`].

pub mod checkpoint;
pub mod config;
pub mod learner;
pub mod metrics;
pub mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

use checkpoint::Checkpoint;
pub use config::TrainConfig;
pub use learner::{Learner, Network};
pub use metrics::EpochMetrics;
pub use run::RunFolder;

use crate::data::{ImageSet, Resident, batches, resident};
use crate::op::network::softmax_cross_entropy;
use crate::{Error, Result};

/// Steps between two readings of loss and accuracy from the device; a reading waits for it.
const REPORT_EVERY: usize = 20;

/// Images a batch when accuracy is measured: large, since nothing is kept for a backward pass.
const EVALUATION_BATCH: usize = 1000;

/// The data of one training.
#[derive(Debug)]
pub struct Splits {
    /// What is trained on.
    pub train: ImageSet,
    /// What `best` is chosen on, where some images were held out.
    pub validation: Option<ImageSet>,
    /// What accuracy is reported on; it chooses nothing.
    pub test: ImageSet,
}

/// Where the loop is, every 20 steps and at the end of an epoch.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Steps done in this epoch.
    pub step: usize,
    /// Steps an epoch.
    pub steps: usize,
    /// Mean loss of this epoch so far.
    pub loss: f64,
    /// Share of this epoch's images that were classified right, in training.
    pub accuracy: f64,
    /// Training images a second in this epoch.
    pub images_per_s: f64,
}

/// Follows a training.
pub trait Observer {
    /// Called every 20 steps.
    fn step(&mut self, report: &StepReport);
    /// Called after the evaluation of each epoch.
    fn epoch(&mut self, metrics: &EpochMetrics);
}

/// Asks a training to stop after the step it is in: 0, or the number of the signal on whose behalf.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicUsize>);

impl StopFlag {
    /// The signal that asked, if one did.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed) as i32).filter(|&signal| signal != 0)
    }
}

impl From<Arc<AtomicUsize>> for StopFlag {
    /// A flag that whoever shares `signal` sets.
    fn from(signal: Arc<AtomicUsize>) -> Self {
        Self(signal)
    }
}

/// What a finished training comes to.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The metrics of the last epoch.
    pub last: EpochMetrics,
    /// Epoch and accuracy on the held-out images of the network in `best`, where there are any.
    pub best: Option<(usize, f64)>,
    /// Time of the training alone, without evaluation.
    pub training: Duration,
    /// Mean test accuracy of the last [`Summary::averaged`] epochs, less noisy than one alone.
    pub mean_test_accuracy: f64,
    /// Ten, or the number of epochs where there were fewer.
    pub averaged: usize,
}

/// Trains a network, writing metrics and weights into `run` after every epoch.
///
/// The weights, the order of the images and dropout follow from `config.seed` alone: on one device
/// the same configuration gives the same network, as long as Burn's autotune picks the same
/// kernels.
///
/// # Errors
///
/// [`Error::Usage`] for an impossible network, [`Error::NotFinite`] when the loss leaves the
/// finite numbers, [`Error::Interrupted`] when `stop` asked, [`Error::Io`] when the run folder
/// cannot be written, [`Error::Compute`] when the device fails.
pub fn train(
    config: &TrainConfig,
    data: &Splits,
    device: &Device,
    run: &mut RunFolder,
    stop: &StopFlag,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let on_device = |set: &ImageSet| Resident::new(set, device);
    let test = on_device(&data.test);
    let validation = data.validation.as_ref().map(on_device);
    let mut trainer = Trainer {
        config,
        data: on_device(&data.train),
        device,
        learner: Learner::new(config, device)?,
    };

    let mut history = Vec::new();
    let mut best: Option<(usize, f64)> = None;
    let mut training = Duration::ZERO;
    for epoch in 1..=config.epochs {
        let trained = trainer.epoch(epoch, run, stop, observer);
        if let Err(error @ Error::Interrupted { .. }) = &trained {
            // The epoch is not finished: the weights are kept, its metrics are not.
            tracing::info!(epoch, "{error}");
            run.write_last(&trainer.checkpoint(epoch - 1)?)?;
        }
        let trained = trained?;
        training += trained.time;

        let network = trainer.learner.network();
        let test = evaluate(&network, &test)?;
        let metrics = EpochMetrics {
            epoch,
            train_loss: trained.loss,
            train_accuracy: trained.accuracy,
            test_loss: test.loss,
            test_accuracy: test.accuracy,
            seconds: trained.time.as_secs_f64(),
            images_per_s: data.train.count as f64 / trained.time.as_secs_f64(),
        };
        let checkpoint = trainer.checkpoint(epoch)?;
        if let Some(validation) = &validation {
            let accuracy = evaluate(&network, validation)?.accuracy;
            tracing::info!(epoch, accuracy, "held-out images");
            if best.is_none_or(|(_, highest)| accuracy > highest) {
                best = Some((epoch, accuracy));
                run.write_best(&checkpoint)?;
            }
        }
        run.write_last(&checkpoint)?;
        run.write_metrics(&metrics)?;
        history.push(metrics);
        run.write_curves(&history)?;
        tracing::info!(?metrics, "epoch");
        observer.epoch(&metrics);
    }

    let Some(&last) = history.last() else {
        return Err(Error::usage("--epochs", "0: at least one epoch is needed"));
    };
    let tail = &history[history.len().saturating_sub(10)..];
    let averaged = tail.len();
    let mean_test_accuracy =
        tail.iter().map(|metrics| metrics.test_accuracy).sum::<f64>() / averaged as f64;
    Ok(Summary { last, best, training, mean_test_accuracy, averaged })
}

/// What changes from step to step, and what it is made of.
struct Trainer<'a> {
    config: &'a TrainConfig,
    data: Resident,
    device: &'a Device,
    learner: Learner,
}

/// The training part of one epoch.
struct Trained {
    loss: f64,
    accuracy: f64,
    time: Duration,
}

impl Trainer<'_> {
    fn epoch(
        &mut self,
        epoch: usize,
        run: &RunFolder,
        stop: &StopFlag,
        observer: &mut dyn Observer,
    ) -> Result<Trained> {
        let TrainConfig { seed, batch_size, .. } = *self.config;
        let Self { data, device, learner, .. } = self;
        let order = batches::permutation(seed, epoch, data.count);
        // Once an epoch; a step takes its part of it on the device.
        let order = resident::order(&order, device);
        let steps = data.count.div_ceil(batch_size);
        let mut tally = Tally::default();
        let started = Instant::now();
        for step in 0..steps {
            let begin = step * batch_size;
            let end = data.count.min(begin + batch_size);
            let seeds = batches::dropout_seeds(seed, epoch, step);
            tally.add(learner.step(data, order.clone().slice([begin..end]), seeds)?, end - begin);
            let done = step + 1;
            if done % REPORT_EVERY == 0 || done == steps {
                let (loss, accuracy) = tally.read()?;
                if !loss.is_finite() {
                    let run = run.path().to_path_buf();
                    return Err(Error::NotFinite { loss, epoch, run });
                }
                let images_per_s = end as f64 / started.elapsed().as_secs_f64();
                observer.step(&StepReport {
                    epoch,
                    step: done,
                    steps,
                    loss,
                    accuracy,
                    images_per_s,
                });
            }
            if let Some(signal) = stop.signal() {
                return Err(Error::Interrupted { signal, run: Some(run.path().to_path_buf()) });
            }
        }
        let (loss, accuracy) = tally.read()?;
        Ok(Trained { loss, accuracy, time: started.elapsed() })
    }

    fn checkpoint(&self, epoch: usize) -> Result<Checkpoint> {
        let state = self.learner.state()?;
        let classifier = self.config.classifier;
        let values = state.weights.iter().map(|weight| {
            Tensor::from_data(TensorData::new(weight.values.clone(), [weight.values.len()]), self.device)
        });
        Ok(Checkpoint {
            classifier,
            epoch,
            seed: self.config.seed,
            model: classifier.with_weights(values.collect())?,
        })
    }
}

/// Sums over the steps of an epoch. A step's are left on the device and read rarely, because a reading
/// waits for everything that was queued.
#[derive(Debug, Default)]
struct Tally {
    /// `[sum of losses, images classified right]` of the steps since the last reading.
    pending: Vec<Tensor<1>>,
    /// The same of the steps before, added one by one, so that it does not matter when they were read.
    read: [f64; 2],
    images: usize,
}

impl Tally {
    fn add(&mut self, sums: Tensor<1>, images: usize) {
        self.pending.push(sums);
        self.images += images;
    }

    /// Mean loss and accuracy.
    fn read(&mut self) -> Result<(f64, f64)> {
        if !self.pending.is_empty() {
            let sums = Tensor::cat(std::mem::take(&mut self.pending), 0)
                .try_to_vec_as::<f32>()
                .map_err(|error| Error::compute("reading the loss", error))?;
            for step in sums.chunks_exact(2) {
                self.read[0] += f64::from(step[0]);
                self.read[1] += f64::from(step[1]);
            }
        }
        let images = self.images.max(1) as f64;
        Ok((self.read[0] / images, self.read[1] / images))
    }
}

/// Mean loss and accuracy of a network on a set of images.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluation {
    /// Mean cross entropy, in nats.
    pub loss: f64,
    /// Share of images classified right.
    pub accuracy: f64,
}

/// Measures a network, without dropout.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub fn evaluate(network: &Network, set: &Resident) -> Result<Evaluation> {
    let mut tally = Tally::default();
    let labels = set.labels();
    let device = labels.device();
    let indices: Vec<u32> = (0..set.count as u32).collect();
    for indices in indices.chunks(EVALUATION_BATCH) {
        let order = resident::order(indices, &device);
        let logits = network.logits(set.gather(order.clone()))?;
        let (_, sums) = softmax_cross_entropy(logits, labels.clone(), order);
        tally.add(sums, indices.len());
    }
    let (loss, accuracy) = tally.read()?;
    Ok(Evaluation { loss, accuracy })
}
