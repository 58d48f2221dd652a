//! `tnet-gpu compress`: make a trained network smaller, and print what each size costs.

mod job;
mod table;

use std::borrow::Cow;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use serde::Serialize;

use super::data::DataArgs;
use super::model::ModelArgs;
use super::outcome::Line;
use super::paths::quoted;
use super::progress::Progress;
use super::signals::listen;
use super::training::{Ready, RunConfig};
use super::{Factors, at_least_one, drivers, introduce, json, out, say};
use crate::compress::{By, Candidate, Folding};
use crate::data::LoadOptions;
use crate::device::DeviceChoice;
use crate::model::ModelFile;
use crate::mps::MpsInit;
use crate::net::Snapshot;
use crate::text::shown;
use crate::train::checkpoint::Checkpoint;
use crate::train::{Recipe, RunFolder, TrainConfig};
use crate::{Error, Result};
use job::{Data, Goal, Job};
use table::{Dense, Row, print};

/// Bonds of the table where no option names any.
const BONDS: [usize; 6] = [1, 4, 16, 64, 128, 256];

/// Adam's learning rate for a compressed network: after two epochs at bond 64 of the article's layer, 0.8792 to 0.8821 with
/// three seeds, where `train`'s 0.001 gave 0.8692 to 0.8755 (docs/benchmarks.md).
const LR: f64 = 3e-4;

/// Options of `compress`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("goal").args(["bond", "max_error", "parameters"])))]
#[command(after_help = super::examples![
    "tnet-gpu train --model dense --epochs 2 --out runs/dense",
    "tnet-gpu compress runs/dense --bond 16,64",
    "tnet-gpu compress runs/dense --bond 64 --out runs/bond64 --finetune 2",
    "tnet-gpu compress runs/dense --cores 4 --factors auto --bond 8,16",
])]
pub struct CompressArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Sizes K of the bond, a row of the table for each [default: 1,4,16,64,128,256, as far as they are possible]
    #[arg(long, value_name = "K,…", value_delimiter = ',', value_parser = at_least_one())]
    bond: Vec<usize>,

    /// The smallest bond whose relative error is at most E: of the matrix by weights, of the outputs by data
    #[arg(long, value_name = "E")]
    max_error: Option<f64>,

    /// The largest bond with which the network has at most N parameters
    #[arg(long, value_name = "N")]
    parameters: Option<usize>,

    /// The layer to compress, as in dense1, or all of them except the last [default: the one with the largest matrix]
    #[arg(long, value_name = "NAME|all")]
    layer: Option<String>,

    /// Number of cores of the layer that takes its place; every cut between two has the bond K, or the largest one
    /// that is of use there [default: 2, or as many as its factors]
    #[arg(long, value_name = "N")]
    cores: Option<usize>,

    /// Extents J,L,… into which the layer's input is folded, one for each core [default: an image's height and width
    /// or factors of them, else the factors closest to each other]
    #[arg(long, value_name = "J,L,…")]
    in_factors: Option<Factors>,

    /// Extents M,N,… into which the layer's output is folded [default: the factors closest to each other]
    #[arg(long, value_name = "M,N,…")]
    out_factors: Option<Factors>,

    /// Choose the extents that are not named, say which, and pad a width with zeros where its own factors are not
    /// balanced: the largest more than twice the N-th root of the width
    #[arg(long, value_enum)]
    factors: Option<Auto>,

    /// How the cores are found: near to the matrix, or those whose outputs are nearest over the
    /// training images [default: data, where there is any]
    #[arg(long, value_enum)]
    by: Option<By>,

    #[command(flatten)]
    data: DataArgs,

    /// Use the first N training images only
    #[arg(long, value_name = "N")]
    train_images: Option<usize>,

    /// Where to compute: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    /// Write the network of one bond into this run folder, new or empty; `eval`, `export` and `train --resume` read it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Let --out be a folder that holds a run, and replace that run
    #[arg(long, requires = "out")]
    exist_ok: bool,

    /// Train the written network for so many epochs
    #[arg(long, value_name = "EPOCHS", requires = "out", value_parser = at_least_one())]
    finetune: Option<usize>,

    /// Adam's learning rate when the network is trained on
    #[arg(long, requires = "out", default_value_t = LR)]
    lr: f64,

    /// Images per step then [default: the run's, else 128]
    #[arg(long, requires = "out", value_parser = at_least_one())]
    batch_size: Option<usize>,

    /// Seed of the order of the images and dropout then [default: the run's, else 200]
    #[arg(long, requires = "out")]
    seed: Option<u64>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// How factors are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Auto {
    /// Balanced ones, of a larger width where that takes them.
    Auto,
}

/// What the table is about, as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    dense: Dense,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finetuned: Option<Line<'a>>,
}

/// Runs the command.
pub fn run(args: &CompressArgs) -> Result<()> {
    let model = args.model.read()?;
    let candidates = candidates(args, &model.snapshot)?;
    let goals = goals(args, &model.snapshot, &candidates)?;
    let opened = drivers::open(args.device)?;
    introduce(&opened);
    say!("network: {}", model.snapshot.stack().title()?);
    let config = config(args, &model)?;
    let is_needed = args.data.path().is_some()
        || args.train_images.is_some()
        || args.finetune.is_some()
        || args.by == Some(By::Data);
    let data = Data::load(&args.data, args.train_images, is_needed, &model, &config, &opened)?;
    let by = args.by.unwrap_or(if data.is_some() { By::Data } else { By::Weights });
    let stop = listen()?;
    // Before anything takes long.
    let folder = match &args.out {
        Some(folder) => Some(RunFolder::create(Some(folder), "compressed", args.exist_ok)?),
        None => None,
    };
    let job = Job::new(model, candidates, by, data, opened, stop)?;
    let dense = Dense {
        parameters: job.model.snapshot.stack().dense().parameters()?,
        accuracy: job.accuracy(&job.model.snapshot)?,
    };
    let mut rows = Vec::new();
    let mut last = None;
    for goal in goals {
        let (snapshot, of_goal) = job.compressed(goal)?;
        rows.extend(of_goal);
        last = Some(snapshot);
    }
    if !args.json {
        print(&job.candidates, dense, &rows, &job.opened.device, &job.stop)?;
    }
    let report = Report { dense, rows, run: None, finetuned: None };
    match folder.zip(last) {
        Some((run, snapshot)) => write(args, job, config, run, &snapshot, report),
        None if args.json => out(&json(&report)?),
        None => Ok(()),
    }
}

/// The layers to compress, in order.
fn candidates(args: &CompressArgs, snapshot: &Snapshot) -> Result<Vec<Candidate>> {
    let placed = snapshot.stack().placed()?;
    let sizes: Vec<(usize, usize)> = (placed.iter().enumerate())
        .filter(|(_, placed)| placed.parameters() > 0)
        .map(|(at, placed)| (at, placed.dense_parameters()))
        .collect();
    let names = || {
        let names = sizes.iter().map(|(at, _)| placed[*at].name.clone());
        names.collect::<Vec<_>>().join(", ")
    };
    let chosen: Vec<usize> = match args.layer.as_deref() {
        // The first of the largest.
        None => sizes
            .iter()
            .rev()
            .max_by_key(|(_, size)| *size)
            .map(|(at, _)| *at)
            .into_iter()
            .collect(),
        Some("all") if sizes.len() > 1 => {
            sizes[..sizes.len() - 1].iter().map(|(at, _)| *at).collect()
        }
        Some("all") => sizes.iter().map(|(at, _)| *at).collect(),
        Some(name) => {
            let at = sizes.iter().map(|(at, _)| *at).find(|&at| placed[at].name == name);
            let Some(at) = at else {
                let problem = format!("{name}: expected all or one of {}", names());
                return Err(Error::argument("layer", problem));
            };
            vec![at]
        }
    };
    if chosen.is_empty() {
        let problem = "the network has no layer with a matrix";
        return Err(Error::argument("layer", problem));
    }
    for (name, factors) in [("in_factors", &args.in_factors), ("out_factors", &args.out_factors)] {
        if factors.is_some() && chosen.len() > 1 {
            let problem = "it is for one layer: name it with --layer";
            return Err(Error::argument(name, problem));
        }
    }
    let list = |factors: &Option<Factors>| factors.clone().map(|Factors(factors)| factors);
    let (in_factors, out_factors) = (list(&args.in_factors), list(&args.out_factors));
    let typed = in_factors.as_ref().or(out_factors.as_ref()).map(Vec::len);
    let cores = args.cores.or(typed).unwrap_or(2);
    let is_auto = args.factors == Some(Auto::Auto);
    let folding = Folding { cores, in_factors, out_factors, is_auto };
    let candidates = chosen.into_iter().map(|at| Candidate::new(snapshot, at, &folding));
    let candidates: Vec<Candidate> = candidates.collect::<Result<_>>()?;
    if is_auto {
        candidates.iter().for_each(|candidate| say!("{}", candidate.folding()));
    }
    Ok(candidates)
}

/// What the rows are about, checked.
fn goals(args: &CompressArgs, snapshot: &Snapshot, candidates: &[Candidate]) -> Result<Vec<Goal>> {
    if let Some(error) = args.max_error {
        if !(0.0..1.0).contains(&error) {
            let problem = format!("{error}: expected a number from 0 to less than 1");
            return Err(Error::argument("max_error", problem));
        }
        return Ok(vec![Goal::Error(error)]);
    }
    let most = candidates.iter().map(Candidate::largest_bond).min().unwrap_or(1);
    if let Some(parameters) = args.parameters {
        let count = |bond| parameters_with(args, snapshot, candidates, bond);
        let largest =
            (1..=most).rev().find(|&bond| count(bond).is_ok_and(|count| count <= parameters));
        let Some(bond) = largest else {
            let problem =
                format!("{parameters}: expected at least {}, which a bond of 1 has", count(1)?);
            return Err(Error::argument("parameters", problem));
        };
        return Ok(vec![Goal::Bond(bond)]);
    }
    let bonds = match args.bond.is_empty() {
        true => BONDS.into_iter().filter(|bond| *bond <= most).collect(),
        false => args.bond.clone(),
    };
    for (bond, candidate) in
        bonds.iter().flat_map(|bond| candidates.iter().map(move |c| (*bond, c)))
    {
        candidate.check_bond(bond)?;
    }
    if args.out.is_some() && bonds.len() != 1 {
        let problem =
            "--out writes the network of one bond: name it, or say --max-error or --parameters";
        return Err(Error::argument("bond", problem));
    }
    Ok(bonds.into_iter().map(Goal::Bond).collect())
}

/// Parameters of the network with all candidates at a bond.
fn parameters_with(
    args: &CompressArgs,
    snapshot: &Snapshot,
    candidates: &[Candidate],
    bond: usize,
) -> Result<usize> {
    let mut stack = snapshot.stack().clone();
    for candidate in candidates {
        stack.layers[candidate.at] = candidate.layer(bond, args.by.unwrap_or(By::Data)).into();
    }
    stack.parameters()
}

/// The options of the run that `--out` begins.
fn config(args: &CompressArgs, model: &ModelFile) -> Result<TrainConfig> {
    let of_run = model.trained.as_ref().map(|trained| trained.config.clone());
    let of_run = of_run.unwrap_or_else(|| TrainConfig {
        epochs: 1,
        batch_size: 128,
        lr: 1e-3,
        seed: 200,
        validation: 0,
        init: MpsInit::He,
        recipe: Recipe::default(),
        network: model.snapshot.stack().clone(),
    });
    let config = TrainConfig {
        epochs: args.finetune.unwrap_or(1),
        batch_size: args.batch_size.unwrap_or(of_run.batch_size),
        lr: args.lr,
        seed: args.seed.unwrap_or(of_run.seed),
        // A warm-up of many epochs, say, makes no sense in two.
        recipe: Recipe::default(),
        ..of_run
    };
    config.check()?;
    Ok(config)
}

/// Writes the network into its run folder, and trains it on if that is wanted.
fn write(
    args: &CompressArgs,
    job: Job,
    config: TrainConfig,
    run: RunFolder,
    snapshot: &Snapshot,
    report: Report,
) -> Result<()> {
    let Job { model, data, opened, stop, .. } = job;
    let config = TrainConfig { network: snapshot.stack().clone(), ..config };
    let (folder, images, sum, test, train_images) = match &data {
        Some(Data { folder, images, splits, train_images, .. }) => {
            let (sum, test) = (splits.sha256(), Some(splits.test.sha256()));
            (folder.clone(), images.clone(), sum, test, *train_images)
        }
        None => (PathBuf::new(), LoadOptions::default(), String::new(), None, 0),
    };
    // Another program's file does not tell what its classes are called.
    let classes = match &data {
        Some(data) if model.trained.is_none() => data.splits.classes.clone(),
        _ => model.classes,
    };
    let border = data.as_ref().map(|data| data.splits.train.border()).or(model.border);
    let begin = Checkpoint::beginning;
    let from = begin(config.clone(), snapshot.weights(), classes, sum.clone(), test)?;
    let from = Checkpoint { border, ..from };
    let config = RunConfig::new(&opened, (&folder, images), sum, train_images, config);
    run.write_config(&config)?;
    run.write_last(&from)?;
    let Some((_, Data { splits, .. })) = args.finetune.zip(data) else {
        run.caveats().iter().for_each(|caveat| say!("{caveat}"));
        if args.json {
            return out(&json(&Report { run: Some(run.path().to_string_lossy()), ..report })?);
        }
        say!("train it on with: tnet-gpu train --resume {} --epochs N", quoted(run.path()));
        return out(&format!("run: {}", shown(run.path())));
    };
    let mut progress = Progress::new(&config.train, splits.train.count, false);
    let ready = Ready { config, splits, opened, run, from: Some(from), stop };
    let outcome = ready.train(&mut progress)?;
    if !args.json {
        return outcome.print();
    }
    let run = Some(outcome.run.path().to_string_lossy());
    let Report { dense, rows, .. } = report;
    out(&json(&Report { dense, rows, run, finetuned: Some(outcome.line()?) })?)
}
