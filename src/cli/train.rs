//! `tnet-gpu train`: train a network and write a run folder, or resume one.

use std::path::{Path, PathBuf};

use clap::Args;

use super::material::MaterialArgs;
use super::network::{NetworkArgs, kept};
use super::progress::{Progress, load};
use super::recipe::RecipeArgs;
use super::signals::listen;
use super::training::{Ready, RunConfig, check_memory, check_space, id, split};
use super::tuning::{self, Tune};
use super::{drivers, json, out, run_data, say};
use crate::data::{DataSet, LoadOptions};
use crate::device::OpenDevice;
use crate::net;
use crate::op;
use crate::text::shown;
use crate::train::memory::{self, Place};
use crate::train::run::{self, Newest};
use crate::train::{self, RunFolder, TrainConfig};
use crate::{Error, Result};

/// Options of `train`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu train --bond 16 --epochs 5",
    "tnet-gpu train --resume runs/mps-bond16-1 --epochs 10",
    "tnet-gpu train --model mps-all --bond 1,2 --epochs 20 --out runs/small",
    "tnet-gpu train --device cpu --epochs 2 --profile",
])]
pub struct TrainArgs {
    #[command(flatten)]
    network: NetworkArgs,

    /// Print the network of these options as such a file, and exit; without --data for images of 28 x 28
    /// in 10 classes
    #[arg(long, conflicts_with_all = ["resume", "json"])]
    print_network: bool,

    #[command(flatten)]
    recipe: RecipeArgs,

    #[command(flatten)]
    on: MaterialArgs,

    /// Time the parts of every step and print how the time is spent; this slows training down
    #[arg(long)]
    profile: bool,

    /// Measure on the device what is fastest for this network, and keep the answer in the cache folder and with the run
    #[arg(long, value_enum, default_value_t, conflicts_with = "resume")]
    tune: Tune,

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

    /// Print one JSON object at the end instead of lines
    #[arg(long)]
    json: bool,
}

/// Runs the command; `given` are the ids of the options that were typed.
pub fn run(args: &TrainArgs, given: &[&str]) -> Result<()> {
    if args.print_network {
        return print_network(args, given);
    }
    let ready = match &args.resume {
        None => begin(args, given)?,
        Some(run) => resume(args, run, given)?,
    };
    let mut progress = Progress::new(&ready.config.train, ready.splits.train.count, args.profile);
    if let Some(from) = &ready.from {
        progress.resume(from);
    }
    let outcome = ready.train(&mut progress)?;
    if args.json { out(&json(&outcome.line()?)?) } else { outcome.print() }
}

/// `--print-network`.
fn print_network(args: &TrainArgs, given: &[&str]) -> Result<()> {
    let source = args.network.source(given, args.recipe.dropout())?;
    let stack = match args.on.data.path() {
        None => source.guess()?,
        Some(path) => {
            let options = args.on.data.options(None, source.input());
            let (input, classes) = shape_of(&load(Some(path), &options)?);
            source.stack(input, classes)?
        }
    };
    out(net::file::write(&stack)?.trim_end())
}

fn shape_of(data: &DataSet) -> (net::Shape, usize) {
    (data.train.shape, data.classes.len())
}

fn begin(args: &TrainArgs, given: &[&str]) -> Result<Ready> {
    let opened = drivers::open(args.on.device)?;
    // The image size and the number of classes are not known yet: guess Fashion-MNIST's. If the guess is
    // wrong, the kernels are compiled when they are needed.
    let source = args.network.source(given, args.recipe.dropout())?;
    let guess = args.recipe.config(given, source.guess()?)?;
    // So that the kernels are compiled that will be used.
    op::choose(tuning::recall(args.tune, &opened, &guess).unwrap_or_default());
    let images = args.on.data.options(None, source.input());
    let data = load_warming_up(&guess, &opened, args.on.data.path(), &images)?;
    let (input, classes) = shape_of(&data);
    let config = args.recipe.config(given, source.stack(input, classes)?)?;
    let train_images = args.on.train_images.unwrap_or(data.train.count);
    let (folder, splits) = split(data, &config, train_images)?;
    check_space(&opened, &config, &splits)?;
    let stop = listen()?;
    let tuning = tuning::choices(args.tune, &opened, &config, &stop)?;
    let config = RunConfig {
        save_every: args.save_every.unwrap_or_default(),
        preset: source.into_preset(),
        tuning,
        ..RunConfig::new(&opened, (&folder, images), splits.sha256(), train_images, config)
    };
    let run = RunFolder::create(args.out.as_deref(), &args.network.name(), args.exist_ok)?;
    Ok(Ready { config, splits, opened, run, from: None, stop })
}

fn resume(args: &TrainArgs, typed: &Path, given: &[&str]) -> Result<Ready> {
    let path = &run::to_resume(typed)?;
    let run = RunFolder::open(path)?;
    let mut config: RunConfig = run.read_config()?;
    let refused = |problem: String| Error::Resume { run: path.to_path_buf(), problem };
    let Newest { file, checkpoint, passed_over } = run.resume_from()?;
    if let Some(error) = passed_over {
        say!("{error}: resuming from {} instead", shown(&file));
    }
    // The epochs may have been extended after this checkpoint was written.
    if (TrainConfig { epochs: config.train.epochs, ..checkpoint.config.clone() }) != config.train {
        let problem = format!("config.toml is not what {} was trained with", shown(&file));
        return Err(refused(problem));
    }
    check_kept(args, given, &config)?;
    if given.contains(&"epochs") {
        config.train.recipe.check_extension(config.train.epochs, args.recipe.epochs)?;
        config.train.epochs = args.recipe.epochs;
    }
    let least = checkpoint.epoch + usize::from(checkpoint.step > 0);
    if config.train.epochs < least {
        let problem = format!("{}: the run is in epoch {least} already", config.train.epochs);
        return Err(Error::argument("epochs", problem));
    }
    config.save_every = args.save_every.unwrap_or(config.save_every);

    let choice = if given.contains(&"device") {
        args.on.device
    } else {
        config.device.parse().map_err(|problem| {
            Error::malformed(path.join("config.toml"), "device", "a device", problem)
        })?
    };
    let opened = drivers::open(choice)?;
    op::choose(config.tuning.clone().unwrap_or_default());

    // A network that was compressed without data takes any that fits it.
    let has_data = !checkpoint.data.is_empty();
    let (typed, own) = (args.on.data.path(), has_data.then_some(config.data.as_path()));
    let folder = run_data::folder(typed, own, checkpoint.test.as_deref());
    let images = args.on.data.options(Some(&config.images), Some(config.train.network.input));
    let data = load_warming_up(&config.train, &opened, folder, &images);
    let data = data.map_err(run_data::explain(typed, folder))?;
    if !has_data {
        config.train_images = args.on.train_images.unwrap_or(data.train.count);
        run_data::check_fit(&file, &config.train.network, &data)?;
    }
    let (folder, splits) = split(data, &config.train, config.train_images)?;
    if has_data && splits.sha256() != checkpoint.data {
        let problem = format!("{} is not the data set it was trained on", shown(&folder));
        return Err(refused(problem));
    }
    check_space(&opened, &config.train, &splits)?;
    // The description of the CPU device says how many threads it has, and its bits do not depend on that.
    let same_device = id(&opened) == config.device
        && (opened.adapter.is_none() || opened.description == config.device_description);
    if !same_device || config.version != env!("CARGO_PKG_VERSION") {
        say!(
            "the run was on {} with version {}: it resumes from the checkpoint, but will match an \
             uninterrupted run only closely, not to the bit",
            config.device_description,
            config.version
        );
    }
    let RunConfig { save_every, preset, tuning, train_images, train, .. } = config;
    let config = RunConfig {
        save_every,
        preset,
        tuning,
        ..RunConfig::new(&opened, (&folder, images), splits.sha256(), train_images, train)
    };
    Ok(Ready { config, splits, opened, run, from: Some(checkpoint), stop: listen()? })
}

/// Refuses options that would change what is trained.
fn check_kept(args: &TrainArgs, given: &[&str], config: &RunConfig) -> Result<()> {
    args.network.check_kept(given, config.preset.as_ref(), &config.train.network)?;
    args.recipe.check_kept(given, &config.train)?;
    let typed = args.on.train_images.unwrap_or_default().to_string();
    if config.data_sha256.is_empty() {
        return Ok(());
    }
    kept(given, [("train_images", typed, config.train_images.to_string())])?;
    args.on.data.check_kept(given, &config.images)
}

/// Reads the data while an adapter compiles its kernels.
fn load_warming_up(
    config: &TrainConfig,
    opened: &OpenDevice,
    path: Option<&Path>,
    images: &LoadOptions,
) -> Result<DataSet> {
    let buffers = train::buffers(&config.network, config.batch_size, [])?;
    let batch = config.batch_size.min(train::WARM_UP_BATCH);
    let needed = memory::needed_without_data(config, batch, Place::of(opened))?;
    let fits = opened.check_buffers(buffers).is_ok() && check_memory(needed).is_ok();
    if opened.adapter.is_none() || !fits {
        return load(path, images);
    }
    std::thread::scope(|scope| {
        let warm_up = || train::warm_up(config, &opened.device);
        // Where there is no thread for it, kernels are compiled when they are needed.
        let warm_up = std::thread::Builder::new().spawn_scoped(scope, warm_up);
        let data = load(path, images);
        // A failure there occurs again in training, which reports it.
        drop(warm_up.map(|warm_up| warm_up.join()));
        data
    })
}
