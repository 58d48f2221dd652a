//! `tnet-gpu train`: train a network and write a run folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{at_least_one, factors, introduce, log, out, say};
use crate::data::{DataSet, fashion_mnist};
use crate::device::{self, DeviceChoice};
use crate::model::{ClassifierConfig, FirstLayer};
use crate::mps::MpsInit;
use crate::report::table;
use crate::train::{
    self, EpochMetrics, Observer, Profile, RunFolder, Splits, StepReport, StopFlag, Summary,
    TrainConfig,
};
use crate::{Error, Result};

/// Options of `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// First layer: two cores joined by a bond, or one matrix
    #[arg(long, value_enum, default_value_t)]
    model: FirstLayer,

    /// Size K of the bond (mps only)
    #[arg(long, value_name = "K", default_value = "1", value_parser = at_least_one())]
    bond: usize,

    /// Extents M,N that the first layer's output is folded into
    #[arg(long, value_name = "M,N", default_value = "32,16", value_parser = factors)]
    out_factors: [usize; 2],

    /// Extents J,L that an image is folded into [default: its height and width]
    #[arg(long, value_name = "J,L", value_parser = factors)]
    in_factors: Option<[usize; 2]>,

    /// Weights before training: he and glorot keep the variance that a dense layer of the size
    /// would get, article draws the cores from N(0, 1/32)
    #[arg(long, value_enum, default_value_t)]
    init: MpsInit,

    /// Passes over the training images
    #[arg(long, default_value = "50", value_parser = at_least_one())]
    epochs: usize,

    /// Images a step; the last batch of an epoch may be smaller
    #[arg(long, default_value = "128", value_parser = at_least_one())]
    batch_size: usize,

    /// Adam's learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,

    /// What the weights, the order of the images and dropout are drawn from
    #[arg(long, default_value_t = 200)]
    seed: u64,

    /// Where to train: auto, cpu, vulkan, metal, dx12 or gl, the last four with :N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    /// Folder with the four files of a data set [default: $TNET_DATA, else the cache folder, else
    /// Debian's package, else downloaded]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Train on the first N images alone
    #[arg(long, value_name = "N")]
    train_images: Option<usize>,

    /// Hold out N training images, on which the best epoch is chosen
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,

    /// Time the parts of every step and print where they go; training is slower meanwhile
    #[arg(long)]
    profile: bool,

    /// Run folder, new or empty [default: a fresh one in runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// `config.toml`: every option that was in force.
#[derive(Serialize)]
struct RunConfig<'a> {
    version: &'static str,
    device: String,
    device_description: &'a str,
    data: &'a PathBuf,
    train_images: usize,
    #[serde(flatten)]
    train: TrainConfig,
}

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<()> {
    let mut data = fashion_mnist::load(args.data.as_deref())?;
    let config = checked(args, &data)?;
    if let Some(count) = args.train_images {
        data.train.keep_first(count)?;
    }
    let train_images = data.train.count;
    let (train, validation) = match args.validation {
        0 => (data.train, None),
        count => {
            let (train, validation) = data.train.hold_out(count, args.seed)?;
            (train, Some(validation))
        }
    };
    let splits = Splits { train, validation, test: data.test };

    let opened = device::open(args.device)?;
    let (name, title) = match args.model {
        FirstLayer::Mps => (format!("mps-bond{}", args.bond), format!("mps, bond {}", args.bond)),
        FirstLayer::Dense => ("dense".into(), "dense".into()),
    };
    let mut run = RunFolder::create(args.out.as_deref(), &name, &title)?;
    log::to_file(&run.path().join("log.txt"))?;
    run.write_config(&RunConfig {
        version: env!("CARGO_PKG_VERSION"),
        device: args.device.to_string(),
        device_description: &opened.description,
        data: &data.folder,
        train_images,
        train: config.clone(),
    })?;
    introduce(&opened);
    describe(&splits, &data.folder, &title);
    tracing::info!(?config, device = opened.description, "training");

    let stop = listen()?;
    let mut progress = Progress::new(&config, splits.train.count, args.profile);
    let outcome = train::train(&config, &splits, &opened.device, &mut run, &stop, &mut progress);
    progress.bar.finish_and_clear();
    conclude(&config.classifier, &outcome?, &run)
}

fn checked(args: &TrainArgs, data: &DataSet) -> Result<TrainConfig> {
    let (height, width) = (data.train.height, data.train.width);
    let in_factors = args.in_factors.unwrap_or([height, width]);
    let [j, l] = in_factors;
    if j.checked_mul(l) != Some(height * width) {
        let pixels = height * width;
        let problem = format!(
            "{j},{l}: expected a product of {pixels}, an image's {height} x {width} pixels"
        );
        return Err(Error::usage("--in-factors", problem));
    }
    let config = TrainConfig {
        epochs: args.epochs,
        batch_size: args.batch_size,
        lr: args.lr,
        seed: args.seed,
        validation: args.validation,
        classifier: ClassifierConfig {
            model: args.model,
            in_factors,
            out_factors: args.out_factors,
            bond: args.bond,
            init: args.init,
            classes: data.classes,
        },
    };
    config.check()?;
    Ok(config)
}

fn describe(splits: &Splits, folder: &Path, title: &str) {
    let held_out = match &splits.validation {
        Some(validation) => format!(", {} held out", validation.count),
        None => String::new(),
    };
    say!(
        "data: {} ({} training images{held_out}, {} test images)",
        folder.display(),
        splits.train.count,
        splits.test.count
    );
    say!("network: {title}");
}

/// A flag that Ctrl-C and SIGTERM set; the second of either ends the process at once.
fn listen() -> Result<StopFlag> {
    let asked = Arc::new(AtomicUsize::new(0));
    let again = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds `again` false and sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, again.clone())
            .and_then(|_| signal_hook::flag::register(signal, again.clone()))
            .and_then(|_| signal_hook::flag::register_usize(signal, asked.clone(), signal as usize))
            .map_err(|error| Error::compute("preparing to be interrupted", error))?;
    }
    Ok(StopFlag::from(asked))
}

/// Shows a training: a bar where someone looks at a terminal, else a line an epoch.
struct Progress {
    bar: ProgressBar,
    epochs: usize,
    profile: bool,
}

impl Progress {
    fn new(config: &TrainConfig, images: usize, profile: bool) -> Self {
        let steps = images.div_ceil(config.batch_size) * config.epochs;
        // indicatif draws on standard error, and nothing where that is no terminal.
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}  {eta} left") {
            bar.set_style(style);
        }
        Self { bar, epochs: config.epochs, profile }
    }

    fn line(&self, line: &str) {
        if self.bar.is_hidden() {
            say!("{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, report: &StepReport) {
        let StepReport { epoch, step, steps, loss, accuracy, images_per_s } = *report;
        self.bar.set_position(((epoch - 1) * steps + step) as u64);
        self.bar.set_message(format!(
            "epoch {epoch}/{}  loss {loss:.4}  accuracy {accuracy:.4}  {images_per_s:.0} images/s",
            self.epochs
        ));
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        let EpochMetrics {
            epoch,
            train_loss,
            train_accuracy,
            test_loss,
            test_accuracy,
            seconds,
            images_per_s,
        } = *metrics;
        self.line(&format!(
            "epoch {epoch:>3}/{}  train: loss {train_loss:.4} accuracy {train_accuracy:.4}  \
             test: loss {test_loss:.4} accuracy {test_accuracy:.4}  {seconds:.1} s, \
             {images_per_s:.0} images/s",
            self.epochs
        ));
    }

    fn wants_profile(&self) -> bool {
        self.profile
    }

    fn profile(&mut self, profile: &Profile) {
        say!("{}", table::profile(profile));
    }
}

/// Prints what the training came to.
fn conclude(classifier: &ClassifierConfig, summary: &Summary, run: &RunFolder) -> Result<()> {
    let Summary { last, best, training, mean_test_accuracy, averaged } = *summary;
    out(&table::parameters(classifier)?.to_string())?;
    out(&format!("test accuracy: {:.4} after epoch {}", last.test_accuracy, last.epoch))?;
    if averaged > 1 {
        out(&format!("mean test accuracy of the last {averaged} epochs: {mean_test_accuracy:.4}"))?;
    }
    if let Some((epoch, accuracy)) = best {
        out(&format!("best on the held-out images: {accuracy:.4} after epoch {epoch}"))?;
    }
    out(&format!("training time: {}", duration(training)))?;
    out(&format!("run: {}", run.path().display()))
}

/// `75.3 s` or `12 min 5 s`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        assert_eq!(duration(Duration::from_millis(75_340)), "75.3 s");
        assert_eq!(duration(Duration::from_secs(725)), "12 min 5 s");
    }
}
