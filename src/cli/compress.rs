//! `tnet-gpu compress`: make a trained network smaller, and print what each size costs.

use std::borrow::Cow;
use std::path::PathBuf;

use burn::tensor::Tensor;
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::model::ModelArgs;
use super::outcome::Line;
use super::paths::quoted;
use super::progress::Progress;
use super::signals::listen;
use super::training::{Ready, RunConfig, check_space, split};
use super::{at_least_one, drivers, factors, introduce, json, out, run_data, say};
use crate::bench::Subject;
use crate::bench::export::time;
use crate::bench::stats::{Effort, measure};
use crate::bench::workloads::{Pass, Rival, workload};
use crate::compress::{By, Candidate, Compressed, Moments};
use crate::data::{ImageSet, Resident, fashion_mnist, resident};
use crate::device::{DeviceChoice, OpenDevice};
use crate::memory;
use crate::model::ModelFile;
use crate::mps::{MpsInit, MpsSpec};
use crate::net::{Network, Snapshot, features};
use crate::report::table::{self, thousands};
use crate::text::shown;
use crate::train::checkpoint::Checkpoint;
use crate::train::{RunFolder, Splits, StopFlag, TrainConfig, evaluate};
use crate::{Error, Result};

/// Bonds of the table where no option names any.
const BONDS: [usize; 6] = [1, 4, 16, 64, 128, 256];

/// Images of a layer that is timed.
const BATCH: usize = 128;

/// The largest bond at which training a tensor network from its beginning was measured to give the better one
/// (docs/benchmarks.md).
const FROM_SCRATCH: usize = 16;

/// Images whose outputs are read from the device together.
const TOGETHER: usize = 1000;

/// Options of `compress`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("size").args(["bond", "max_error", "parameters"])))]
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

    /// Extents J,L into which the layer's input is folded [default: an image's height and width, else the
    /// factors closest to each other]
    #[arg(long, value_name = "J,L", value_parser = factors)]
    in_factors: Option<[usize; 2]>,

    /// Extents M,N into which the layer's output is folded [default: the factors closest to each other]
    #[arg(long, value_name = "M,N", value_parser = factors)]
    out_factors: Option<[usize; 2]>,

    /// How the cores are found: the nearest to the matrix, or those whose outputs are nearest over the
    /// training images [default: data, where there is any]
    #[arg(long, value_enum)]
    by: Option<By>,

    /// Folder with the four files of a data set [default: the run's; for other files Fashion-MNIST, where it
    /// is on this machine and fits]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

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

    /// Adam's learning rate in fine-tuning [default: the run's, else 0.001]
    #[arg(long, requires = "finetune")]
    lr: Option<f64>,

    /// Images per step in fine-tuning [default: the run's, else 128]
    #[arg(long, requires = "finetune", value_parser = at_least_one())]
    batch_size: Option<usize>,

    /// Seed of the order of the images and dropout in fine-tuning [default: the run's, else 200]
    #[arg(long, requires = "finetune")]
    seed: Option<u64>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
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

/// The network with dense layers.
#[derive(Clone, Copy, Serialize)]
struct Dense {
    parameters: usize,
    accuracy: Option<f64>,
}

/// A layer that was replaced.
#[derive(Clone, Serialize)]
struct Row {
    layer: String,
    bond: usize,
    /// Of the network with this layer, and those of its bond before it, replaced.
    parameters: usize,
    weight_error: f64,
    output_error: Option<f64>,
    /// Of the same network.
    accuracy: Option<f64>,
    #[serde(skip)]
    spec: MpsSpec,
}

/// What a bond is chosen by.
#[derive(Clone, Copy)]
enum Goal {
    Bond(usize),
    Error(f64),
}

/// The data, on the host and on the device.
struct Data {
    folder: PathBuf,
    train_images: usize,
    splits: Splits,
    train: Resident,
    test: Resident,
}

/// Everything that the networks of all bonds share.
struct Job {
    model: ModelFile,
    candidates: Vec<Candidate>,
    by: By,
    data: Option<Data>,
    opened: OpenDevice,
    stop: StopFlag,
    /// Of the inputs of the first candidate, which are the same for every bond.
    first_inputs: Option<Moments>,
}

/// Runs the command.
pub fn run(args: &CompressArgs) -> Result<()> {
    let model = args.model.read()?;
    let candidates = candidates(args, &model.snapshot)?;
    let goals = goals(args, &model.snapshot, &candidates)?;
    let opened = drivers::open(args.device)?;
    introduce(&opened);
    let config = config(args, &model)?;
    let data = data(args, &model, &config, &opened)?;
    let by = args.by.unwrap_or(if data.is_some() { By::Data } else { By::Weights });
    let stop = listen()?;
    // Before anything takes long.
    let folder = match &args.out {
        Some(folder) => Some(RunFolder::create(Some(folder), "compressed", args.exist_ok)?),
        None => None,
    };
    let mut job = Job { model, candidates, by, data, opened, stop, first_inputs: None };
    job.first_inputs = job.inputs(&job.model.snapshot, job.candidates[0].at)?;

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
        print(&job, dense, &rows)?;
    }
    let (Some(run), Some(snapshot)) = (folder, last) else {
        let report = Report { dense, rows, run: None, finetuned: None };
        return if args.json { out(&json(&report)?) } else { Ok(()) };
    };
    write(args, job, config, run, &snapshot, dense, rows)
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
    for (name, factors) in [("in_factors", args.in_factors), ("out_factors", args.out_factors)] {
        if factors.is_some() && chosen.len() > 1 {
            let problem = "it is for one layer: name it with --layer";
            return Err(Error::argument(name, problem));
        }
    }
    let candidate = |at| Candidate::new(snapshot, at, args.in_factors, args.out_factors);
    chosen.into_iter().map(candidate).collect()
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
        network: model.snapshot.stack().clone(),
    });
    let config = TrainConfig {
        epochs: args.finetune.unwrap_or(1),
        batch_size: args.batch_size.unwrap_or(of_run.batch_size),
        lr: args.lr.unwrap_or(of_run.lr),
        seed: args.seed.unwrap_or(of_run.seed),
        ..of_run
    };
    config.check()?;
    Ok(config)
}

/// The data, if there is any that fits and it is wanted.
fn data(
    args: &CompressArgs,
    model: &ModelFile,
    config: &TrainConfig,
    opened: &OpenDevice,
) -> Result<Option<Data>> {
    let is_needed = args.data.is_some() || args.by == Some(By::Data) || args.finetune.is_some();
    let loaded = || run_data::for_model(args.data.as_deref(), model).map(|(data, _)| data);
    let found = match is_needed {
        true => Some(loaded()?),
        // What no option asks for is taken where it is, and fits.
        false if model.trained.is_none() && !fashion_mnist::is_here() => None,
        false => loaded().map_err(|error| say!("without data: {error}")).ok(),
    };
    let Some(data) = found else {
        say!("data: none; accuracy and the error of the outputs are not measured");
        return Ok(None);
    };
    let train_images = match (args.train_images, &model.trained) {
        (Some(count), _) => count,
        (None, Some(_)) => run_data::train_images(&model.file).unwrap_or(data.train.count),
        (None, None) => data.train.count,
    };
    let (folder, splits) = split(data, config, train_images)?;
    check_space(opened, config, &splits)?;
    say!(
        "data: {} ({} training images, {} test images)",
        shown(&folder),
        splits.train.count,
        splits.test.count
    );
    let on_device = |set: &ImageSet| Resident::new(set, &opened.device);
    let (train, test) = (on_device(&splits.train), on_device(&splits.test));
    Ok(Some(Data { folder, train_images, splits, train, test }))
}

impl Job {
    /// The network at a bond, and a row for each of its layers.
    fn compressed(&self, goal: Goal) -> Result<(Snapshot, Vec<Row>)> {
        let mut snapshot = self.model.snapshot.clone();
        let mut rows = Vec::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let own = match index {
                0 => None,
                _ => self.inputs(&snapshot, candidate.at)?,
            };
            let inputs = if index == 0 { self.first_inputs.as_ref() } else { own.as_ref() };
            let compressed = self.layer(candidate, goal, inputs)?;
            let Compressed { layer, weight_error, output_error, .. } = compressed;
            snapshot = compressed.into_place(&snapshot, candidate.at)?;
            rows.push(Row {
                layer: candidate.name.clone(),
                bond: layer.bond,
                parameters: snapshot.stack().parameters()?,
                weight_error,
                output_error,
                accuracy: self.accuracy(&snapshot)?,
                spec: layer.spec(),
            });
        }
        Ok((snapshot, rows))
    }

    /// One layer.
    fn layer(
        &self,
        candidate: &Candidate,
        goal: Goal,
        inputs: Option<&Moments>,
    ) -> Result<Compressed> {
        let fitted = |bond: usize| {
            self.stop.check()?;
            if self.by == By::Data {
                memory::check("fitting cores of this bond", candidate.needed(bond))?;
            }
            let compressed = candidate.compressed(bond, self.by, inputs)?;
            tracing::info!(layer = candidate.name, bond, sweeps = compressed.sweeps, "compressed");
            Ok(compressed)
        };
        let error = match (goal, self.by) {
            (Goal::Bond(bond), _) => return fitted(bond),
            (Goal::Error(error), By::Weights) => return fitted(candidate.bond_for(error)),
            (Goal::Error(error), By::Data) => error,
        };
        // The smallest bond that is good enough lies above `low`, and not above that of `best`.
        let mut low = 0;
        let mut best = fitted(candidate.largest_bond())?;
        while low + 1 < best.layer.bond {
            let middle = fitted(usize::midpoint(low, best.layer.bond))?;
            match middle.output_error {
                Some(missed) if missed <= error => best = middle,
                _ => low = middle.layer.bond,
            }
        }
        Ok(best)
    }

    /// The moments of the inputs that a layer gets from the training images, if there are any.
    fn inputs(&self, snapshot: &Snapshot, layer: usize) -> Result<Option<Moments>> {
        let Some(data) = &self.data else { return Ok(None) };
        let device = &self.opened.device;
        let before = snapshot.before(layer)?;
        let before: Option<Network> = before.map(|before| before.on(device)).transpose()?;
        let width = features(snapshot.stack().placed()?[layer].input);
        let mut moments = Moments::new(width);
        let images: Vec<u32> = (0..data.train.count as u32).collect();
        for images in images.chunks(TOGETHER) {
            self.stop.check()?;
            let images: Tensor<2> = data.train.gather(resident::order(images, device))?;
            let inputs = match &before {
                Some(before) => before.logits(images)?,
                None => images,
            };
            let inputs = inputs.try_to_vec_as::<f32>();
            let inputs =
                inputs.map_err(|error| Error::compute("reading a layer's inputs", error))?;
            moments.add(&inputs)?;
        }
        Ok(Some(moments))
    }

    /// The share of test images that a network classifies correctly, if there are any.
    fn accuracy(&self, snapshot: &Snapshot) -> Result<Option<f64>> {
        let Some(data) = &self.data else { return Ok(None) };
        let network = snapshot.on(&self.opened.device)?;
        Ok(Some(evaluate(&network, &data.test)?.accuracy))
    }

    /// Median times in seconds of the forward pass of a layer and of the dense one, measured in turn.
    fn times(&self, spec: MpsSpec) -> Result<[f64; 2]> {
        const ROUNDS: usize = 3;
        let effort = Effort { warmup: 2, samples: Some(15), seconds: 0.0 };
        let device = &self.opened.device;
        let subject = Subject::Layer(spec);
        let mut rivals = [None, Some(Rival::Dense)]
            .map(|rival| workload(Pass::Forward, rival, &subject, BATCH, device));
        let mut medians = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            self.stop.check()?;
            for (workload, medians) in rivals.iter_mut().zip(&mut medians) {
                let workload = match workload {
                    Ok(workload) => workload,
                    Err(error) => return Err(Error::compute("timing a layer", error)),
                };
                medians.push(measure(&effort, &mut **workload)?.median_s);
            }
        }
        Ok(medians.map(|mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        }))
    }

    /// The largest bond at which a layer is measured to be no slower than the dense one; 0 if there is none.
    fn break_even(&self, spec: MpsSpec) -> Result<usize> {
        let (mut low, mut high) = (0, spec.full_bond() + 1);
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            let [own, dense] = self.times(MpsSpec { k: middle, ..spec })?;
            if own <= dense { low = middle } else { high = middle }
        }
        Ok(low)
    }
}

/// The table, and where it pays.
fn print(job: &Job, dense: Dense, rows: &[Row]) -> Result<()> {
    let mut table = table::new(
        &[
            "layer",
            "bond",
            "parameters",
            "of dense",
            "weight error",
            "output error",
            "accuracy",
            "time",
            "dense",
        ],
        true,
    );
    let share =
        |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.4}"));
    let (parameters, accuracy) = (thousands(dense.parameters), share(dense.accuracy));
    table.add_row(["dense", "", &parameters, "100.00 %", "", "", &accuracy, "", ""]);
    for of in rows {
        let [own, rival] = job.times(of.spec)?.map(time);
        table.add_row([
            of.layer.clone(),
            of.bond.to_string(),
            thousands(of.parameters),
            format!("{:.2} %", 100.0 * of.parameters as f64 / dense.parameters as f64),
            share(Some(of.weight_error)),
            share(of.output_error),
            share(of.accuracy),
            own,
            rival,
        ]);
    }
    out(&table.to_string())?;
    remarks(job, rows)
}

/// Where a layer pays, and where another way is better.
fn remarks(job: &Job, rows: &[Row]) -> Result<()> {
    say!("time: forward pass of the layer, and of the dense one, batch {BATCH}");
    for candidate in &job.candidates {
        let spec = candidate.spec(1);
        let MpsSpec { m, n, j, l, .. } = spec;
        let (parameters, by_time) = (spec.break_even_parameters(), job.break_even(spec)?);
        let upto = |bond: usize| match bond {
            0 => "at no bond".to_owned(),
            bond => format!("up to bond {bond}"),
        };
        say!(
            "{} as {j}x{l} -> {m}x{n}: no more parameters than dense {}, no more multiply-adds {}, no slower on this \
             device {} or so",
            candidate.name,
            upto(parameters),
            upto(spec.break_even_multiply_adds()),
            upto(by_time)
        );
        let beyond: Vec<String> = rows
            .iter()
            .filter(|row| row.layer == candidate.name && row.bond > parameters)
            .map(|row| row.bond.to_string())
            .collect();
        if !beyond.is_empty() {
            say!(
                "{}: a bond of {} does not pay: the dense layer is smaller",
                candidate.name,
                beyond.join(", ")
            );
        }
    }
    if rows.iter().any(|row| row.bond <= FROM_SCRATCH) {
        say!(
            "at a bond of {FROM_SCRATCH} or less, training a tensor network from the start gives a better one than \
             compressing: tnet-gpu train --bond"
        );
    }
    Ok(())
}

/// Writes the network into its run folder, and trains it on if that is wanted.
fn write(
    args: &CompressArgs,
    job: Job,
    config: TrainConfig,
    run: RunFolder,
    snapshot: &Snapshot,
    dense: Dense,
    rows: Vec<Row>,
) -> Result<()> {
    let Job { data, opened, stop, .. } = job;
    let config = TrainConfig { network: snapshot.stack().clone(), ..config };
    let (folder, sum, test, train_images) = match &data {
        Some(data) => (
            data.folder.clone(),
            data.splits.sha256(),
            Some(data.splits.test.sha256()),
            data.train_images,
        ),
        None => (PathBuf::new(), String::new(), None, 0),
    };
    let from = Checkpoint::beginning(config.clone(), snapshot.weights(), sum.clone(), test)?;
    let config = RunConfig::new(&opened, &folder, sum, train_images, config);
    run.write_config(&config)?;
    run.write_last(&from)?;
    let Some((_, data)) = args.finetune.zip(data) else {
        if args.json {
            let report =
                Report { dense, rows, run: Some(run.path().to_string_lossy()), finetuned: None };
            return out(&json(&report)?);
        }
        out(&format!("run: {}", shown(run.path())))?;
        say!("train it on with: tnet-gpu train --resume {} --epochs N", quoted(run.path()));
        return Ok(());
    };
    let mut progress = Progress::new(&config.train, data.splits.train.count, false);
    let ready = Ready { config, splits: data.splits, opened, run, from: Some(from), stop };
    let outcome = ready.train(&mut progress)?;
    if !args.json {
        return outcome.print();
    }
    let finetuned = Some(outcome.line()?);
    out(&json(&Report { dense, rows, run: Some(outcome.run.path().to_string_lossy()), finetuned })?)
}
