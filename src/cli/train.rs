//! `tnet-gpu train`: train a network and write a run folder, or resume one.

use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::message::message;
use super::progress::{Progress, load};
use super::{at_least_one, factors, introduce, log, out, say};
use crate::data::DataSet;
use crate::device::{self, Adapter, DeviceChoice, OpenDevice};
use crate::model::{ClassifierConfig, FirstLayer};
use crate::mps::MpsInit;
use crate::report::table;
use crate::train::checkpoint::Checkpoint;
use crate::train::run::Newest;
use crate::train::{self, Conduct, RunFolder, Splits, StopFlag, Summary, TrainConfig};
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

    /// Extents M,N into which the first layer's output is folded
    #[arg(long, value_name = "M,N", default_value = "32,16", value_parser = factors)]
    out_factors: [usize; 2],

    /// Extents J,L into which an image is folded [default: its height and width]
    #[arg(long, value_name = "J,L", value_parser = factors)]
    in_factors: Option<[usize; 2]>,

    /// Initial weights: he and glorot give the variance of a dense layer of that size, article draws
    /// the cores from N(0, 1/32)
    #[arg(long, value_enum, default_value_t)]
    init: MpsInit,

    /// Passes over the training images
    #[arg(long, default_value = "50", value_parser = at_least_one())]
    epochs: usize,

    /// Images per step; the last batch of an epoch may be smaller
    #[arg(long, default_value = "128", value_parser = at_least_one())]
    batch_size: usize,

    /// Adam's learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,

    /// Seed of the weights, the order of the images and dropout
    #[arg(long, default_value_t = 200)]
    seed: u64,

    /// Where to train: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    /// Folder with the four files of a data set [default: $TNET_DATA, else the cache folder, else
    /// Debian's package, else downloaded]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Train on the first N images only
    #[arg(long, value_name = "N")]
    train_images: Option<usize>,

    /// Hold out N training images, by which the best epoch is chosen
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,

    /// Time the parts of every step and print how the time is spent; this slows training down
    #[arg(long)]
    profile: bool,

    /// Run folder, new or empty [default: a new one in runs/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Let --out be a folder that holds a run, and replace that run
    #[arg(long, requires = "out")]
    exist_ok: bool,

    /// Write a checkpoint every N steps as well as after each epoch [default: 0, after epochs only]
    #[arg(long, value_name = "N")]
    save_every: Option<usize>,

    /// Resume this run; --epochs may extend it
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "exist_ok"])]
    resume: Option<PathBuf>,
}

/// `config.toml`: every option in effect.
#[derive(Debug, Serialize, Deserialize)]
struct RunConfig {
    version: String,
    device: String,
    device_description: String,
    data: PathBuf,
    data_sha256: String,
    train_images: usize,
    save_every: usize,
    #[serde(flatten)]
    train: TrainConfig,
}

/// Everything needed to start or resume a run.
struct Ready {
    config: RunConfig,
    splits: Splits,
    opened: OpenDevice,
    run: RunFolder,
    from: Option<Checkpoint>,
}

/// Runs the command; `given` are the ids of the options that were typed.
pub fn run(args: &TrainArgs, given: &[&str]) -> Result<()> {
    let ready = match &args.resume {
        None => begin(args)?,
        Some(run) => resume(args, run, given)?,
    };
    let Ready { config, splits, opened, run, from } = ready;
    log::to_file(run.log()?, run.path())?;
    run.write_config(&config)?;
    introduce(&opened);
    describe(&splits, &config);
    tracing::info!(?config, "training");

    let mut progress = Progress::new(&config.train, splits.train.count, args.profile);
    if let Some(from) = &from {
        progress.resume(from);
    }
    let conduct = Conduct { stop: listen()?, save_every: config.save_every, from };
    let outcome =
        train::train(&config.train, &splits, &opened.device, &run, conduct, &mut progress);
    progress.end();
    if let Err(error) = &outcome {
        tracing::info!("{}", message(error));
    }
    conclude(&config.train.classifier, &outcome?, &run)
}

fn begin(args: &TrainArgs) -> Result<Ready> {
    let opened = device::open(args.device)?;
    // The image size and the number of classes are not known yet: guess Fashion-MNIST's. If the guess is
    // wrong, the kernels are compiled when they are needed.
    let guess = checked(args, args.in_factors.unwrap_or([28, 28]), 10)?;
    let data = load_warming_up(&guess, &opened, args.data.as_deref())?;
    let config = checked(args, [data.train.height, data.train.width], data.classes)?;
    let train_images = args.train_images.unwrap_or(data.train.count);
    let (folder, splits) = split(data, &config, train_images)?;
    check_buffers(&opened, &config, &splits)?;
    let config = RunConfig {
        version: env!("CARGO_PKG_VERSION").into(),
        device: id(&opened),
        device_description: opened.description.clone(),
        data: folder,
        data_sha256: splits.sha256(),
        train_images,
        save_every: args.save_every.unwrap_or_default(),
        train: config,
    };
    let name = match args.model {
        FirstLayer::Mps => format!("mps-bond{}", args.bond),
        FirstLayer::Dense => "dense".into(),
    };
    let run = RunFolder::create(args.out.as_deref(), &name, args.exist_ok)?;
    Ok(Ready { config, splits, opened, run, from: None })
}

fn resume(args: &TrainArgs, path: &Path, given: &[&str]) -> Result<Ready> {
    let run = RunFolder::open(path)?;
    let mut config: RunConfig = run.read_config()?;
    let refused = |problem: String| Error::Resume { run: path.to_path_buf(), problem };
    let Newest { file, checkpoint, passed_over } = run.resume_from()?;
    if let Some(error) = passed_over {
        say!("{error}: resuming from {} instead", file.display());
    }
    // The epochs may have been extended after this checkpoint was written.
    if (TrainConfig { epochs: config.train.epochs, ..checkpoint.config.clone() }) != config.train {
        let problem = format!("config.toml is not what {} was trained with", file.display());
        return Err(refused(problem));
    }
    check_kept(args, given, &config)?;
    if given.contains(&"epochs") {
        config.train.epochs = args.epochs;
    }
    let least = checkpoint.epoch + usize::from(checkpoint.step > 0);
    if config.train.epochs < least {
        let problem = format!("{}: the run is in epoch {least} already", config.train.epochs);
        return Err(Error::argument("epochs", problem));
    }
    config.save_every = args.save_every.unwrap_or(config.save_every);

    let choice = if given.contains(&"device") {
        args.device
    } else {
        config.device.parse().map_err(|problem| {
            Error::malformed(path.join("config.toml"), "device", "a device", problem)
        })?
    };
    let opened = device::open(choice)?;

    let folder = args.data.as_deref().unwrap_or(&config.data);
    let data = load_warming_up(&config.train, &opened, Some(folder))?;
    let (folder, splits) = split(data, &config.train, config.train_images)?;
    if splits.sha256() != checkpoint.data {
        let problem = format!("{} is not the data set it was trained on", folder.display());
        return Err(refused(problem));
    }
    (config.data, config.data_sha256) = (folder, checkpoint.data.clone());
    check_buffers(&opened, &config.train, &splits)?;
    let version = env!("CARGO_PKG_VERSION");
    // The description of the CPU device says how many threads it has, and its bits do not depend on that.
    let same_device = id(&opened) == config.device
        && (opened.adapter.is_none() || opened.description == config.device_description);
    if !same_device || version != config.version {
        say!(
            "the run was on {} with version {}: it resumes from the checkpoint, but will match an \
             uninterrupted run only closely, not to the bit",
            config.device_description,
            config.version
        );
    }
    config.version = version.into();
    config.device = id(&opened);
    config.device_description = opened.description.clone();
    Ok(Ready { config, splits, opened, run, from: Some(checkpoint) })
}

/// Refuses options that would change what is trained.
fn check_kept(args: &TrainArgs, given: &[&str], config: &RunConfig) -> Result<()> {
    let pair = |[a, b]: [usize; 2]| format!("{a},{b}");
    let TrainConfig { batch_size, lr, seed, validation, ref classifier, .. } = config.train;
    let options = [
        ("model", value(&args.model), value(&classifier.model)),
        ("bond", args.bond.to_string(), classifier.bond.to_string()),
        ("out_factors", pair(args.out_factors), pair(classifier.out_factors)),
        ("in_factors", args.in_factors.map(pair).unwrap_or_default(), pair(classifier.in_factors)),
        ("init", value(&args.init), value(&classifier.init)),
        ("batch_size", args.batch_size.to_string(), batch_size.to_string()),
        ("lr", args.lr.to_string(), lr.to_string()),
        ("seed", args.seed.to_string(), seed.to_string()),
        ("validation", args.validation.to_string(), validation.to_string()),
        (
            "train_images",
            args.train_images.unwrap_or_default().to_string(),
            config.train_images.to_string(),
        ),
    ];
    match options.into_iter().find(|(id, typed, kept)| given.contains(id) && typed != kept) {
        None => Ok(()),
        Some((id, typed, kept)) => {
            let problem = format!(
                "{typed}: the run is trained with {kept}, which --resume cannot change; omit the option \
                 or start another run"
            );
            Err(Error::argument(id, problem))
        }
    }
}

/// The text of an option's value, as typed.
fn value(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The folder of the data, and its images, split as the options say.
fn split(
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
    // A run may be resumed from another working directory.
    let folder = path::absolute(&data.folder).unwrap_or(data.folder);
    Ok((folder, Splits { train, validation, test: data.test }))
}

/// Reads the data while an adapter compiles its kernels.
fn load_warming_up(
    config: &TrainConfig,
    opened: &OpenDevice,
    folder: Option<&Path>,
) -> Result<DataSet> {
    let buffers = train::buffers(&config.classifier, config.batch_size, [])?;
    if opened.adapter.is_none() || opened.check_buffers(buffers).is_err() {
        return load(folder);
    }
    std::thread::scope(|scope| {
        let warm_up = scope.spawn(|| train::warm_up(config, &opened.device));
        let data = load(folder);
        // A failure there occurs again in training, which reports it.
        drop(warm_up.join());
        data
    })
}

/// Checks that everything fits into the device's buffers.
fn check_buffers(opened: &OpenDevice, config: &TrainConfig, splits: &Splits) -> Result<()> {
    let sets = [Some(&splits.train), splits.validation.as_ref(), Some(&splits.test)];
    let sets = sets.into_iter().flatten();
    opened.check_buffers(train::buffers(&config.classifier, config.batch_size, sets)?)
}

/// The name that selects the same device again, even if `auto` chose it.
fn id(opened: &OpenDevice) -> String {
    opened.adapter.as_ref().map_or_else(|| "cpu".into(), Adapter::id)
}

/// The options as a configuration, for images of this height and width.
fn checked(args: &TrainArgs, [height, width]: [usize; 2], classes: usize) -> Result<TrainConfig> {
    let in_factors = args.in_factors.unwrap_or([height, width]);
    let [j, l] = in_factors;
    if j.checked_mul(l) != Some(height * width) {
        let pixels = height * width;
        let problem = format!(
            "{j},{l}: expected a product of {pixels}, an image's {height} x {width} pixels"
        );
        return Err(Error::argument("in_factors", problem));
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
            classes,
        },
    };
    config.check()?;
    Ok(config)
}

fn describe(splits: &Splits, config: &RunConfig) {
    let held_out = match &splits.validation {
        Some(validation) => format!(", {} held out", validation.count),
        None => String::new(),
    };
    say!(
        "data: {} ({} training images{held_out}, {} test images)",
        config.data.display(),
        splits.train.count,
        splits.test.count
    );
    say!("network: {}", config.train.title());
    let classes = config.train.classifier.classes;
    if let Some(line) = empty_classes(classes, &splits.train.empty_classes(classes)) {
        say!("{line}");
    }
}

/// Says that some classes have no training image, if any: labels with gaps make a network with outputs
/// that are never right.
fn empty_classes(classes: usize, empty: &[usize]) -> Option<String> {
    const SHOWN: usize = 3;
    if empty.is_empty() {
        return None;
    }
    let mut shown: Vec<String> = empty.iter().take(SHOWN).map(usize::to_string).collect();
    if empty.len() > SHOWN {
        shown.push("...".into());
    }
    Some(format!(
        "{classes} classes, {} of them without a training image ({}): the labels are 0 to {}",
        empty.len(),
        shown.join(", "),
        classes - 1
    ))
}

/// A flag that Ctrl-C and SIGTERM set; a second signal ends the process at once.
fn listen() -> Result<StopFlag> {
    let asked = Arc::new(AtomicUsize::new(0));
    let again = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The order matters: the first signal must find `again` false, then set it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, again.clone())
            .and_then(|_| signal_hook::flag::register(signal, again.clone()))
            .and_then(|_| signal_hook::flag::register_usize(signal, asked.clone(), signal as usize))
            .map_err(|error| Error::internal("installing the signal handlers", error))?;
    }
    Ok(StopFlag::from(asked))
}

/// Prints the outcome of the run.
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
    fn classes_without_images_are_told_in_one_line() {
        assert_eq!(empty_classes(3, &[]), None);
        assert_eq!(
            empty_classes(3, &[1]).unwrap(),
            "3 classes, 1 of them without a training image (1): the labels are 0 to 2"
        );
        let empty: Vec<usize> = (1..200).collect();
        assert_eq!(
            empty_classes(201, &empty).unwrap(),
            "201 classes, 199 of them without a training image (1, 2, 3, ...): the labels are 0 to 200"
        );
    }

    #[test]
    fn durations_are_short_to_read() {
        assert_eq!(duration(Duration::from_millis(75_340)), "75.3 s");
        assert_eq!(duration(Duration::from_secs(725)), "12 min 5 s");
    }
}
