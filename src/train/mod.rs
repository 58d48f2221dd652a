//! Training: the step loop, what it reports, and what it writes into the run folder.
//!
//! The loop prints nothing: a caller follows it through an [`Observer`] and stops it through a
//! [`StopFlag`].

pub mod checkpoint;
pub mod config;
pub mod evaluation;
pub mod learner;
pub mod memory;
pub mod metrics;
pub mod profile;
pub mod rate;
pub mod recipe;
pub mod run;
pub mod schedule;
pub mod tuning;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use sha2::{Digest, Sha256};

use checkpoint::Checkpoint;
pub use config::TrainConfig;
pub use evaluation::{Answers, Evaluation, answers, evaluate};
use evaluation::{EVALUATION_BATCH, Tally};
pub use learner::Learner;
pub use memory::buffers;
pub use metrics::EpochMetrics;
pub use profile::Profile;
pub use rate::{Rate, RateSchedule};
pub use recipe::{Recipe, RecipeChoice, RecipeName};
pub use run::RunFolder;
pub use schedule::Schedule;

use crate::data::{ImageSet, Resident, batches};
use crate::net::features;
use crate::{Error, Result, hex};

/// Steps between two readings of loss and accuracy; a reading waits for the device.
const REPORT_EVERY: usize = 20;

/// The data of one training run.
#[derive(Debug)]
pub struct Splits {
    /// The images to train on.
    pub train: ImageSet,
    /// The held-out images by which `best` is chosen, if there are any.
    pub validation: Option<ImageSet>,
    /// The images on which accuracy is reported; they influence no choice.
    pub test: ImageSet,
    /// A name for each class.
    pub classes: Vec<String>,
}

impl Splits {
    /// SHA-256 of the three sets, as hexadecimal digits. A run can be resumed only with the same data.
    pub fn sha256(&self) -> String {
        let sets = [Some(&self.train), self.validation.as_ref(), Some(&self.test)];
        let sums: Vec<String> = sets.into_iter().flatten().map(ImageSet::sha256).collect();
        hex(&Sha256::digest(sums.concat()))
    }
}

/// The progress of the loop, reported every 20 steps and at the end of an epoch.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Steps done in this epoch so far.
    pub step: usize,
    /// Steps per epoch.
    pub steps: usize,
    /// Mean loss of this epoch so far.
    pub loss: f64,
    /// Fraction of this epoch's images classified correctly so far, during training.
    pub accuracy: f64,
    /// Training images per second in this epoch.
    pub images_per_s: f64,
}

/// Follows a training run.
pub trait Observer {
    /// Called every 20 steps and at the end of an epoch.
    fn step(&mut self, report: &StepReport);
    /// Called after the evaluation of each epoch.
    fn epoch(&mut self, metrics: &EpochMetrics);
    /// Called after each checkpoint with the number of steps taken since the beginning of the run.
    fn saved(&mut self, _steps: u64) {}
    /// Whether to time the parts of each step, which makes it slower.
    fn wants_profile(&self) -> bool {
        false
    }
    /// Called at the end if a profile was wanted.
    fn profile(&mut self, _profile: &Profile) {}
}

/// Asks the loop to stop after the current step: 0, or the number of the signal that asks for it.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicUsize>);

impl StopFlag {
    /// The signal that asks for it, if any.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed) as i32).filter(|&signal| signal != 0)
    }

    /// An error where nothing can be resumed yet and a signal asks to stop.
    pub(crate) fn check(&self) -> Result<()> {
        self.signal().map_or(Ok(()), |signal| Err(Error::Interrupted { signal, run: None }))
    }
}

impl From<Arc<AtomicUsize>> for StopFlag {
    /// A flag that is set by storing a signal's number in `signal`.
    fn from(signal: Arc<AtomicUsize>) -> Self {
        Self(signal)
    }
}

/// The outcome of a finished training run.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The metrics of the last epoch.
    pub last: EpochMetrics,
    /// Epoch and held-out accuracy of the network in `best`, if images are held out.
    pub best: Option<(usize, f64)>,
    /// Time of all training steps, without evaluation.
    pub training: Duration,
    /// Training images per second in that time.
    pub images_per_s: f64,
    /// Mean test accuracy of the last [`Summary::averaged`] epochs, less noisy than that of one.
    pub mean_test_accuracy: f64,
    /// Ten, or the number of epochs if there were fewer.
    pub averaged: usize,
}

/// How a training run is carried out. Nothing here changes the result.
#[derive(Debug, Default)]
pub struct Conduct {
    /// Asks the loop to stop.
    pub stop: StopFlag,
    /// Steps between two checkpoints within an epoch; 0 for one at the end of each epoch only.
    pub save_every: usize,
    /// The checkpoint to resume from, if this is not a new run.
    pub from: Option<Checkpoint>,
}

/// Trains a network and writes metrics and a checkpoint into `run` after every epoch.
///
/// The weights, the order of the images and dropout follow from `config.seed` alone, and a step
/// depends only on what a checkpoint holds. On one device, therefore, the same configuration gives
/// the same network, and a run that was stopped and resumed gives the same network as one that was
/// not, as long as the same ways of computing are chosen ([`crate::op::choice::choose`]).
///
/// # Errors
///
/// [`Error::Argument`] for an impossible configuration, [`Error::NotFinite`] when a loss or a weight
/// is NaN or infinite, [`Error::Interrupted`] when it was asked to stop, [`Error::Io`] and
/// [`Error::Malformed`] when the run folder cannot be written or its metrics cannot be read,
/// [`Error::Resume`] when the checkpoint belongs to another run, [`Error::Compute`] when the device
/// fails.
pub fn train(
    config: &TrainConfig,
    data: &Splits,
    device: &Device,
    run: &RunFolder,
    conduct: Conduct,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    config.check()?;
    let Conduct { stop, save_every, from } = conduct;
    let on_device = |set: &ImageSet| Resident::new(set, device);
    let mut trainer = Trainer {
        config,
        sum: data.sha256(),
        test_sum: data.test.sha256(),
        classes: &data.classes,
        border: data.train.border(),
        data: on_device(&data.train),
        validation: data.validation.as_ref().map(on_device),
        test: on_device(&data.test),
        run,
        save_every,
        learner: match &from {
            Some(checkpoint) => Learner::resume(config, &checkpoint.state, device)?,
            None => Learner::new_while(config, device, &|| stop.check())?,
        },
        epoch: 0,
        step: 0,
        tally: Tally::default(),
        best: None,
        history: Vec::new(),
    };
    trainer.learner.set_rate(Rate::new(config.lr, config.recipe, config.epochs, trainer.steps()));
    if observer.wants_profile() {
        trainer.learner.profile(device);
    }
    match from {
        Some(checkpoint) => trainer.resume(&checkpoint)?,
        // So that a run can be resumed from the very start.
        None => trainer.save(observer)?,
    }
    // What is left of an epoch is trained before it is asked whether another follows.
    let is_over = |trainer: &Trainer| {
        let best = trainer.best.map(|(epoch, _)| epoch);
        trainer.step == 0 && config.recipe.is_over(trainer.epoch, best)
    };
    while trainer.epoch < config.epochs && !is_over(&trainer) {
        trainer.epoch(&stop, observer)?;
    }
    if let Some(profile) = trainer.learner.profiled() {
        observer.profile(profile);
    }
    trainer.summary()
}

/// Most images of [`warm_up`]'s step.
pub const WARM_UP_BATCH: usize = EVALUATION_BATCH;

/// Takes one step on blank images and discards it, so that the kernels are compiled. To be called in
/// a thread of its own while the data is read.
///
/// # Errors
///
/// [`Error::Argument`] for an impossible network, [`Error::Compute`] when the device fails.
pub fn warm_up(config: &TrainConfig, device: &Device) -> Result<()> {
    let shape = config.network.input;
    // The layer's plan depends on the batch, up to some size.
    let count = config.batch_size.min(WARM_UP_BATCH);
    let pixels = vec![0; count * features(shape)];
    let set = ImageSet { count, shape, pixels, labels: vec![0; count] };
    let data = Resident::new(&set, device);
    let mut learner = Learner::new(config, device)?;
    let order: Vec<u32> = (0..count as u32).collect();
    let mut tally = Tally::default();
    let dropouts = config.network.dropouts();
    let schedule = learner.schedule(&order, count, |_| vec![0; dropouts])?;
    tally.add(learner.step(&data, schedule.step(0)?)?, count);
    tally.read()?;
    evaluate(&learner.network()?, &data)?;
    Ok(())
}

/// A training run: its parts, and the state that changes from step to step.
struct Trainer<'a> {
    config: &'a TrainConfig,
    /// [`Splits::sha256`].
    sum: String,
    /// [`ImageSet::sha256`] of the test images.
    test_sum: String,
    /// A name for each class.
    classes: &'a [String],
    /// [`ImageSet::border`] of the training images.
    border: u8,
    data: Resident,
    validation: Option<Resident>,
    test: Resident,
    run: &'a RunFolder,
    save_every: usize,
    learner: Learner,
    /// Finished epochs.
    epoch: usize,
    /// Steps done in the unfinished epoch.
    step: usize,
    tally: Tally,
    best: Option<(usize, f64)>,
    history: Vec<EpochMetrics>,
}

impl Trainer<'_> {
    /// Steps per epoch.
    fn steps(&self) -> usize {
        self.data.count.div_ceil(self.config.batch_size)
    }

    /// Images in the first `steps` steps of an epoch.
    fn images(&self, steps: usize) -> usize {
        self.data.count.min(steps.saturating_mul(self.config.batch_size))
    }

    /// Continues the run that wrote `checkpoint`.
    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let Checkpoint { ref config, ref data, epoch, step, loss, right, best, ref state, .. } =
            *checkpoint;
        self.config.recipe.check_extension(config.epochs, self.config.epochs)?;
        let refused = |problem: &str| {
            let run = self.run.path().to_path_buf();
            Err(Error::Resume { run, problem: problem.into() })
        };
        if (TrainConfig { epochs: self.config.epochs, ..config.clone() }) != *self.config {
            return refused("its checkpoint belongs to a run with other options");
        }
        // A compressed network may have met none.
        if !data.is_empty() && *data != self.sum {
            return refused("the data set is not the one it was trained on");
        }
        let taken = epoch.checked_mul(self.steps()).and_then(|steps| steps.checked_add(step));
        if step > self.steps() || taken.map(|taken| taken as u64) != Some(state.steps) {
            return refused("its checkpoint counts more or fewer steps than its epochs have");
        }
        if epoch + usize::from(step > 0) > self.config.epochs {
            let epochs = self.config.epochs;
            return refused(&format!("it is already trained for more than {epochs} epochs"));
        }
        self.history = self.run.history(epoch)?;
        (self.epoch, self.step, self.best) = (epoch, step, best);
        self.tally = Tally::resumed(step, [loss, right as f64], self.images(step));
        Ok(())
    }

    /// The rest of an epoch, its evaluation, and its entries in the run folder.
    fn epoch(&mut self, stop: &StopFlag, observer: &mut dyn Observer) -> Result<()> {
        let begun = self.images(self.step);
        let started = Instant::now();
        self.train(stop, observer)?;
        let seconds = started.elapsed().as_secs_f64();
        let (train_loss, train_accuracy) = self.tally.means();

        let network = self.learner.network()?;
        let epoch = self.epoch + 1;
        let test = self.finite(evaluate(&network, &self.test)?)?;
        let metrics = EpochMetrics {
            epoch,
            train_loss,
            train_accuracy,
            test_loss: test.loss,
            test_accuracy: test.accuracy,
            seconds,
            images_per_s: (self.data.count - begun) as f64 / seconds.max(1e-9),
        };
        let accuracy = match &self.validation {
            Some(validation) => Some(evaluate(&network, validation)?.accuracy),
            None => None,
        };
        let better = accuracy.filter(|&accuracy| self.best.is_none_or(|(_, best)| accuracy > best));
        if let Some(accuracy) = better {
            self.best = Some((epoch, accuracy));
        }

        (self.epoch, self.step, self.tally) = (epoch, 0, Tally::default());
        let checkpoint = self.checkpoint()?;
        if better.is_some() {
            self.run.write_best(&checkpoint)?;
        }
        // Before the checkpoint, so that every epoch it counts has its line; lines of later epochs are
        // dropped when the run is resumed.
        self.history.push(metrics);
        self.run.write_history(&self.history)?;
        self.run.write_curves(&self.config.network.title()?, &self.history)?;
        self.run.write_last(&checkpoint)?;
        tracing::info!(?metrics, held_out = accuracy, "epoch");
        observer.saved(checkpoint.state.steps);
        observer.epoch(&metrics);
        Ok(())
    }

    /// The remaining steps of an epoch.
    fn train(&mut self, stop: &StopFlag, observer: &mut dyn Observer) -> Result<()> {
        let TrainConfig { seed, batch_size, .. } = *self.config;
        let (epoch, steps) = (self.epoch + 1, self.steps());
        let order = batches::permutation(seed, epoch, self.data.count);
        let dropouts = self.config.network.dropouts();
        let begun = self.images(self.step);
        let started = Instant::now();
        // Copied once per epoch, unless it has very many steps; each takes its part of it on the device.
        let (mut schedule, mut from) = (None, 0);
        while self.step < steps {
            let (begin, end) = (self.images(self.step), self.images(self.step + 1));
            if self.step >= from + schedule.as_ref().map_or(0, Schedule::steps) {
                from = self.step;
                let seeds = |at| batches::dropout_seeds(seed, epoch, from + at, dropouts);
                schedule = Some(self.learner.schedule(&order[begin..], batch_size, seeds)?);
            }
            if let Some(schedule) = &schedule {
                let step = schedule.step(self.step - from)?;
                self.tally.add(self.learner.step(&self.data, step)?, end - begin);
            }
            self.step += 1;
            if self.step.is_multiple_of(REPORT_EVERY) || self.step == steps {
                self.read()?;
                let (loss, accuracy) = self.tally.means();
                let images_per_s = (end - begun) as f64 / started.elapsed().as_secs_f64();
                observer.step(&StepReport {
                    epoch,
                    step: self.step,
                    steps,
                    loss,
                    accuracy,
                    images_per_s,
                });
            }
            let signal = stop.signal();
            let taken = self.epoch * steps + self.step;
            // The end of an epoch writes its own checkpoint.
            let due = self.save_every > 0 && taken.is_multiple_of(self.save_every);
            if signal.is_some() || (due && self.step < steps) {
                self.save(observer)?;
            }
            if let Some(signal) = signal {
                let run = self.run.path().to_path_buf();
                return Err(Error::Interrupted { signal, run: Some(run) });
            }
        }
        // If an epoch was resumed after its last step, nothing has been read yet.
        self.read()
    }

    /// Reads the sums of the steps since the last reading.
    fn read(&mut self) -> Result<()> {
        match self.tally.read()? {
            None => Ok(()),
            Some((step, loss)) => {
                Err(self.not_finite(step, format!("the training loss is {loss}")))
            }
        }
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.read()?;
        let checkpoint = self.checkpoint()?;
        self.run.write_last(&checkpoint)?;
        observer.saved(checkpoint.state.steps);
        Ok(())
    }

    /// A snapshot of the run; everything must have been read.
    fn checkpoint(&self) -> Result<Checkpoint> {
        let [loss, right] = self.tally.sums;
        let checkpoint = Checkpoint {
            config: self.config.clone(),
            data: self.sum.clone(),
            test: Some(self.test_sum.clone()),
            classes: self.classes.to_vec(),
            border: Some(self.border),
            epoch: self.epoch,
            step: self.step,
            loss,
            right: right as u64,
            best: self.best,
            state: self.learner.state()?,
        };
        match checkpoint.not_finite() {
            None => Ok(checkpoint),
            Some(what) => Err(self.not_finite(self.step, what)),
        }
    }

    fn finite(&self, test: Evaluation) -> Result<Evaluation> {
        if test.loss.is_finite() {
            return Ok(test);
        }
        Err(self.not_finite(self.step, format!("the test loss is {}", test.loss)))
    }

    fn not_finite(&self, step: usize, what: String) -> Error {
        // Step 0 stands for the last step of the epoch before.
        let (epoch, step) = match step {
            0 => (self.epoch, self.steps()),
            step => (self.epoch + 1, step),
        };
        Error::NotFinite { what, epoch, step, run: self.run.path().to_path_buf() }
    }

    fn summary(self) -> Result<Summary> {
        let Some(&last) = self.history.last() else {
            return Err(Error::argument("epochs", "0: at least one epoch is needed"));
        };
        let tail = &self.history[self.history.len().saturating_sub(10)..];
        let averaged = tail.len();
        let mean_test_accuracy =
            tail.iter().map(|metrics| metrics.test_accuracy).sum::<f64>() / averaged as f64;
        let seconds: f64 = self.history.iter().map(|metrics| metrics.seconds).sum();
        // A resumed epoch has the time, and the rate, of what was left of it.
        let images: f64 =
            self.history.iter().map(|metrics| metrics.images_per_s * metrics.seconds).sum();
        let images_per_s = images / seconds.max(1e-9);
        let training = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let best = self.best;
        Ok(Summary { last, best, training, images_per_s, mean_test_accuracy, averaged })
    }
}
