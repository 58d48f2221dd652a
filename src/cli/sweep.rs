//! `tnet-gpu sweep`: train a grid of networks, and tell what each number of parameters buys.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::paths::quoted;
use super::progress::load;
use super::recipe;
use super::signals::listen;
use super::study::{Material, Runs, Saved, Shard, State, StudyArgs, write_results};
use super::{Factors as FactorList, at_least_one, drivers, json, out, say};
use crate::data::DataSet;
use crate::device::DeviceChoice;
use crate::files::write_whole;
use crate::net::{self, Model};
use crate::op;
use crate::report::front::{Dot, svg};
use crate::report::table;
use crate::study::front::front;
use crate::study::grid::{Bonds, NetworkGrid};
use crate::study::report::{Conditions, markdown, sentence};
use crate::study::{self, Images, Outcome, Row, Study, Summary, summaries};
use crate::text::shown;
use crate::{Error, Result};

/// The folder of the runs within that of the study.
const RUNS: &str = "runs";

/// The folder of the networks that `--plan` writes.
const NETWORKS: &str = "networks";

/// Ids of the options that say which runs there are.
const OF_GRID: [&str; 23] = [
    "network",
    "model",
    "bond",
    "hidden",
    "dropout",
    "out_factors",
    "factors",
    "in_factors",
    "cores",
    "recipe",
    "init",
    "epochs",
    "batch_size",
    "lr",
    "schedule",
    "warmup",
    "weight_decay",
    "label_smoothing",
    "average",
    "patience",
    "validation",
    "seed",
    "seeds",
];

/// Options of `sweep`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu sweep --bond 1,4 --seeds 2 --epochs 3 --out study",
    "tnet-gpu sweep --out study",
    "tnet-gpu sweep --plan --out study",
    "tnet-gpu sweep --collect --out study",
])]
pub struct SweepArgs {
    /// A study in TOML: networks, recipes and seeds, in place of the options of the grid [default: these options or,
    /// where none is typed, the study that --out holds]
    #[arg(value_name = "STUDY")]
    study: Option<PathBuf>,

    /// Train the networks of these files
    #[arg(
        id = "network",
        long = "network",
        value_name = "FILE,…",
        value_delimiter = ',',
        conflicts_with_all = ["model", "hidden", "dropout", "in_factors", "cores"]
    )]
    files: Vec<PathBuf>,

    /// Which hidden layers are tensor networks (cores joined by bonds): the first, none, or all
    #[arg(long, value_enum, default_value_t)]
    model: Model,

    /// Bonds to try, each for all tensor networks of a network [default: 1,2,4,8; those of --network files]
    #[arg(long, value_name = "K,…", value_delimiter = ',', value_parser = at_least_one())]
    bond: Vec<usize>,

    /// Widths of the hidden layers [default: 512,512, the first one the product of --out-factors]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = at_least_one())]
    hidden: Option<Vec<usize>>,

    /// Share of activations that dropout sets to 0 after each hidden layer; 0 for none
    #[arg(long, value_name = "RATE", default_value_t = 0.2)]
    dropout: f64,

    /// Extents to try into which the first tensor network's output is folded
    #[arg(long, value_name = "M,N;…", value_delimiter = ';', conflicts_with = "factors")]
    out_factors: Vec<FactorList>,

    /// Number of cores of every tensor network [default: 2, and of the first as many as its factors]
    #[arg(long, value_name = "N")]
    cores: Option<usize>,

    /// Try the extents, at most four, with which the first layer takes the fewest operations and is not far from square
    #[arg(long, value_enum, conflicts_with = "network")]
    factors: Option<Factors>,

    /// Extents J,L into which an image is folded [default: its height and width]
    #[arg(long, value_name = "J,L,…")]
    in_factors: Option<FactorList>,

    /// Most parameters of the network that the report is to recommend
    #[arg(long, value_name = "N")]
    budget: Option<usize>,

    #[command(flatten)]
    how: StudyArgs,

    /// Folder of the study; one that holds runs of it goes on where they stand
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Print a command for each run that is not over, and train nothing
    #[arg(long, conflicts_with_all = ["shard", "collect", "json"])]
    plan: bool,

    /// Train the I-th of N parts only, from 1 on [default: in a Slurm job array, that of its task]
    #[arg(long, value_name = "I/N", conflicts_with = "collect")]
    shard: Option<Shard>,

    /// Gather the runs that are over, and train nothing
    #[arg(long)]
    collect: bool,

    /// Print one JSON object at the end instead of lines
    #[arg(long)]
    json: bool,
}

/// How factors are proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Factors {
    /// By the number of operations, among those that are in balance.
    Auto,
}

/// The object that `--json` prints.
#[derive(serde::Serialize)]
struct Line<'a> {
    runs: &'a [Row],
    networks: &'a [Summary],
    missing: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    taken: Option<&'a study::grid::Point>,
}

/// Runs the command; `given` are the ids of the options that were typed.
pub fn run(args: &SweepArgs, given: &[&str]) -> Result<()> {
    let opened = drivers::open(args.how.on.device)?;
    op::choose(op::Choices::default());
    let saved = Saved::read(&args.out)?;
    let typed = typed_study(args, given)?;
    let (mut saved, data) = match (saved, typed) {
        // Nothing else is needed of the data where nothing is trained.
        (Some(saved), None) if args.collect => (saved, None),
        (saved, typed) => {
            let (saved, data) = with_data(args, saved, typed)?;
            (saved, Some(data))
        }
    };
    if args.budget.is_some() {
        saved.study.budget = args.budget;
    }
    let planned = saved.study.runs(saved.images)?;
    let runs = Runs { folder: args.out.join(RUNS), planned, opened };
    runs.check(data.as_ref().map(|data| (data, saved.images.count)))?;
    std::fs::create_dir_all(&args.out).map_err(Error::io("create the folder", &args.out))?;
    saved.write(&args.out)?;
    if args.plan {
        return print_plan(args, &runs);
    }
    let shard = if args.collect {
        None
    } else {
        args.shard.map_or_else(Shard::of_slurm, |shard| Ok(Some(shard)))?
    };
    let outcomes = match data {
        Some(data) if !args.collect => {
            let stop = listen()?;
            let train_images = saved.images.count;
            let material = Material { data, images: saved.load.clone(), train_images, stop };
            runs.train_all(&material, shard, "sweep", &args.out)?
        }
        _ => {
            let states = runs.planned.iter().map(|planned| runs.collect(planned));
            states.map(|state| Ok(state?.over())).collect::<Result<_>>()?
        }
    };
    if let Some(shard) = shard {
        return out(&format!(
            "part {shard} is done; gather all with: tnet-gpu sweep --collect --out {}",
            quoted(&args.out)
        ));
    }
    report(args, &runs, &outcomes, saved.study.budget)
}

/// The study that was typed, as a file or as options; none where no option of a grid was.
fn typed_study(args: &SweepArgs, given: &[&str]) -> Result<Option<Study>> {
    let of_grid = OF_GRID.into_iter().find(|id| given.contains(id));
    match (&args.study, of_grid) {
        (Some(file), None) => Study::read(file).map(Some),
        (Some(file), Some(id)) => {
            let problem = format!("{} says what is trained; omit the option", shown(file));
            Err(Error::argument(id, problem))
        }
        (None, None) if Saved::is_in(&args.out) => Ok(None),
        (None, None) if args.collect => {
            let problem = format!("{}: it holds no study", shown(&args.out));
            Err(Error::argument("out", problem))
        }
        (None, _) => options(args, given).map(Some),
    }
}

/// The grid of the options.
fn options(args: &SweepArgs, given: &[&str]) -> Result<Study> {
    let bonds: Vec<Bonds> = args.bond.iter().copied().map(Bonds::All).collect();
    let out_factors: Vec<Vec<usize>> =
        args.out_factors.iter().map(|FactorList(factors)| factors.clone()).collect();
    let networks = if args.files.is_empty() {
        let default = || [1, 2, 4, 8].map(Bonds::All).into();
        vec![NetworkGrid {
            model: Some(args.model),
            hidden: args.hidden.clone(),
            dropout: given.contains(&"dropout").then_some(args.dropout),
            cores: args.cores,
            in_factors: args.in_factors.clone().map(|FactorList(factors)| factors),
            bond: match args.model {
                Model::Dense => Vec::new(),
                _ if bonds.is_empty() => default(),
                _ => bonds,
            },
            out_factors,
            ..NetworkGrid::default()
        }]
    } else {
        let of_file = |file: &PathBuf| NetworkGrid {
            file: Some(file.clone()),
            bond: bonds.clone(),
            out_factors: out_factors.clone(),
            ..NetworkGrid::default()
        };
        args.files.iter().map(of_file).collect()
    };
    let seeds = args.how.first_seeds(args.how.seeds);
    let recipes = vec![args.how.recipe.choice(given)];
    Study { seeds, budget: args.budget, recipes, networks }.with_files(Path::new(""))
}

/// Loads the data, and completes the study by what it tells.
fn with_data(
    args: &SweepArgs,
    saved: Option<Saved>,
    typed: Option<Study>,
) -> Result<(Saved, DataSet)> {
    let of_study = saved.as_ref().map(|saved| (&saved.load, saved.images.input));
    let load_options =
        args.how.on.data.options(of_study.map(|(load, _)| load), of_study.map(|(_, input)| input));
    let folder = args.how.on.data.path().or(saved.as_ref().map(|saved| &*saved.data));
    let data = load(folder, &load_options)?;
    let (input, classes) = (data.train.shape, data.classes.len());
    let count = args.how.on.train_images.or(saved.as_ref().map(|saved| saved.images.count));
    let count = count.unwrap_or(data.train.count).min(data.train.count);
    let images = Images { input, classes, count };
    let study = match (typed, saved) {
        (Some(study), _) | (None, Some(Saved { study, .. })) => study,
        (None, None) => return Err(Error::internal("reading the options of a sweep", "no study")),
    };
    let study = match args.factors {
        Some(Factors::Auto) => with_factors(study, images),
        None => study,
    };
    let folder = std::path::absolute(&data.folder).unwrap_or_else(|_| data.folder.clone());
    Ok((Saved { data: folder, load: load_options, images, study }, data))
}

/// The study with factors that are proposed.
fn with_factors(mut study: Study, images: Images) -> Study {
    for network in &mut study.networks {
        let first = network.hidden.as_ref().and_then(|hidden| hidden.first()).copied();
        let cores = network.cores.unwrap_or(2);
        let folded = network.in_factors.clone();
        let folded = folded.unwrap_or_else(|| net::image_factors(images.input, cores));
        let bond = network.bond.iter().map(|bonds| match bonds {
            Bonds::All(bond) => *bond,
            Bonds::Each(each) => each.first().copied().unwrap_or(1),
        });
        let bond = bond.max().unwrap_or(1);
        network.out_factors = study::factors::propose(&folded, first.unwrap_or(512), bond);
    }
    study
}

/// Writes the files of the study, and prints what it found.
fn report(
    args: &SweepArgs,
    runs: &Runs,
    outcomes: &[Option<Outcome>],
    budget: Option<usize>,
) -> Result<()> {
    let (rows, missing) = runs.rows(outcomes)?;
    let summaries = summaries(&rows);
    write_results(&args.out, &rows)?;
    let conditions = Conditions { device: &runs.opened.description, budget, missing };
    let text = markdown(&rows, &summaries, conditions);
    write_whole(&args.out.join("report.md"), text.as_bytes())?;
    write_whole(&args.out.join("front.svg"), figure(&summaries)?.as_bytes())?;
    if missing > 0 {
        say!("{missing} of {} runs are not over", runs.planned.len());
    }
    let failed: usize = summaries.iter().map(|summary| summary.failed).sum();
    if failed > 0 {
        say!("{failed} of {} runs failed; report.md says why", runs.planned.len());
    }
    if args.json {
        let taken = study::front::choose(&summaries, budget).map(|choice| &choice.taken.point);
        return out(&json(&Line { runs: &rows, networks: &summaries, missing, taken })?);
    }
    let header = [
        "network",
        "parameters",
        "held-out accuracy",
        "test accuracy",
        "step (µs)",
        "one image (µs)",
    ];
    let mut table = table::new(&header, true);
    for summary in &summaries {
        let cells = [summary.point.title(), table::thousands(summary.parameters)];
        table.add_row(cells.into_iter().chain(summary.texts()));
    }
    out(&table.to_string())?;
    out(&sentence(&summaries, budget))?;
    out(&format!("study: {}", shown(&args.out)))
}

/// `front.svg`.
fn figure(summaries: &[Summary]) -> Result<String> {
    let dot = |summary: &Summary| Dot {
        name: summary.point.title(),
        costs: [summary.parameters as f64, summary.latency_us.mean],
        accuracy: [summary.test_accuracy.mean, summary.test_accuracy.sd],
    };
    let dots: Vec<Dot> = summaries.iter().map(dot).collect();
    let fronts = [0, 1].map(|cost: usize| {
        let points = dots.iter().map(|dot| (dot.costs[cost], dot.accuracy[0]));
        front(&points.collect::<Vec<_>>())
    });
    let costs = ["parameters", "one image (µs)"];
    let fronts = [&fronts[0][..], &fronts[1]];
    svg("Test accuracy, mean ± standard deviation", costs, &dots, fronts)
}

/// `--plan`: a command for each run that is not over.
fn print_plan(args: &SweepArgs, runs: &Runs) -> Result<()> {
    let networks = args.out.join(NETWORKS);
    for planned in &runs.planned {
        let begun = match runs.state(planned) {
            State::Over(_) => continue,
            State::Open { begun } => begun,
            State::Taken => false,
        };
        let folder = quoted(&runs.path(planned));
        if begun {
            out(&format!("tnet-gpu train --resume {folder}"))?;
            continue;
        }
        std::fs::create_dir_all(&networks).map_err(Error::io("create the folder", &networks))?;
        let file = networks.join(format!("{}.toml", planned.name));
        write_whole(&file, net::file::write(&planned.config.network)?.as_bytes())?;
        let mut words = vec!["tnet-gpu train --network".to_owned(), quoted(&file)];
        words.extend(recipe::typed(&planned.config));
        if let Some(data) = args.how.on.data.path() {
            words.extend(["--data".into(), quoted(data)]);
        }
        words.extend(args.how.on.data.typed());
        if let Some(count) = args.how.on.train_images {
            words.extend(["--train-images".into(), count.to_string()]);
        }
        if args.how.on.device != DeviceChoice::default() {
            words.extend(["--device".into(), args.how.on.device.to_string()]);
        }
        words.extend(["--out".into(), folder]);
        out(&words.join(" "))?;
    }
    Ok(())
}
