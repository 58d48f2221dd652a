//! `tnet-gpu bench`: benchmark the layer against alternatives and against the device's limits.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::{at_least_one, drivers, factors, introduce, out, say};
use crate::bench::ceilings::Ceilings;
use crate::bench::stats::{Effort, WIDE};
use crate::bench::workloads::{Pass, Rival};
use crate::bench::{self, Grid, Report, Row, export};
use crate::device::{DeviceChoice, OpenDevice};
use crate::files::Pending;
use crate::text::shown;
use crate::verify;
use crate::{Error, Result, net, op};

/// Batches of the suite.
const SUITE_BATCHES: [usize; 6] = [1, 32, 128, 512, 4096, 65_536];

/// Batches for which the suite times training steps too.
const SUITE_STEPS: [usize; 2] = [128, 512];

/// Bonds of the suite.
const SUITE_BONDS: [usize; 3] = [1, 4, 16];

/// Time after which the suite starts no further measurement.
const SUITE_TIME: Duration = Duration::from_secs(7 * 60);

/// Options of `bench`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu bench --bond 1,16 --pass forward,backward --seconds 0.1",
    "tnet-gpu bench --bond 4 --samples 5 --device cpu --export-json bench.json",
    "tnet-gpu train --print-network > net.toml",
    "tnet-gpu bench --network net.toml --samples 5",
])]
pub struct BenchArgs {
    /// Sizes K of the bond
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1,4,16", value_parser = at_least_one())]
    bond: Vec<usize>,

    /// Samples per execution
    #[arg(long, value_name = "B,…", value_delimiter = ',', default_value = "128", value_parser = at_least_one())]
    batch: Vec<usize>,

    /// What to time: backward is the gradients of both cores and the bias, backward_x also that of
    /// the input, step a training step of the network, step_dense one with dense layers in place of
    /// tensor networks [default: forward,backward,backward_x,step; of a file's network: step]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PASS,…")]
    pass: Vec<Pass>,

    /// What to compare with: the layer composed from Burn's operations, the dense layer of that size
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "RIVAL,…",
        default_value = "composed,dense"
    )]
    against: Vec<Rival>,

    /// Time only the strategy that the plan picks, or all of them too
    #[arg(long, value_enum, default_value_t)]
    variant: Variants,

    /// Where to compute: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    /// Extents J,L into which the input is folded
    #[arg(long, value_name = "J,L", default_value = "28,28", value_parser = factors)]
    in_factors: [usize; 2],

    /// Extents M,N into which the output is folded
    #[arg(long, value_name = "M,N", default_value = "32,16", value_parser = factors)]
    out_factors: [usize; 2],

    /// Time steps of the network of a file, as train --print-network writes it, instead of the article's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bond", "in_factors", "out_factors", "plot", "variant"])]
    network: Option<PathBuf>,

    /// Untimed executions before the samples of a row
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: usize,

    /// Samples per row [default: as many as fit into --seconds, at least 5]
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = at_least_one())]
    samples: Option<usize>,

    /// Time to spend on the samples of a row
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,

    /// Seed of the operands
    #[arg(long, default_value_t = 200)]
    seed: u64,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    export_json: Option<PathBuf>,

    /// Write the rows as comma-separated values
    #[arg(long, value_name = "FILE")]
    export_csv: Option<PathBuf>,

    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    export_markdown: Option<PathBuf>,

    /// Plot time against bond, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Full report on a device: verify, ceilings, batches from 1 to 65536, training steps, as one
    /// Markdown and one JSON file; starts no measurement after 7 minutes
    #[arg(
        long,
        conflicts_with_all = [
            "bond", "batch", "pass", "against", "variant", "in_factors", "out_factors", "network",
            "export_json", "export_csv", "export_markdown", "plot",
        ]
    )]
    suite: bool,

    /// Folder for the suite's two files
    #[arg(long, value_name = "DIR", default_value = ".", requires = "suite")]
    out: PathBuf,
}

/// Which strategies are measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Variants {
    /// Only the one that the plan picks.
    #[default]
    Plan,
    /// Each one, in addition to the plan's choice.
    All,
}

/// Runs the command; with `verbose`, the table shows how each row was computed.
pub fn run(args: &BenchArgs, verbose: bool) -> Result<()> {
    if !(args.seconds.is_finite() && args.seconds >= 0.0) {
        return Err(Error::argument("seconds", format!("{}: expected 0 or more", args.seconds)));
    }
    let effort = Effort { warmup: args.warmup, samples: args.samples, seconds: args.seconds };
    if args.suite {
        return suite(args, &effort);
    }
    let passes = match (&args.pass[..], &args.network) {
        ([], None) => vec![Pass::Forward, Pass::Backward, Pass::BackwardX, Pass::Step],
        ([], Some(_)) => vec![Pass::Step],
        (passes, _) => passes.to_vec(),
    };
    let mut grid = Grid {
        in_factors: args.in_factors,
        out_factors: args.out_factors,
        bonds: args.bond.clone(),
        batches: args.batch.clone(),
        passes,
        rivals: args.against.clone(),
        strategies: Vec::new(),
        network: args.network.as_deref().map(net::file::read).transpose()?,
    };
    grid.check()?;
    // Opened before anything is measured, so that no measurement is lost to a wrong path.
    let pending = |path: &Option<PathBuf>| path.as_deref().map(Pending::create).transpose();
    let json = pending(&args.export_json)?;
    let csv = pending(&args.export_csv)?;
    let markdown = pending(&args.export_markdown)?;
    let plot = pending(&args.plot)?;

    let opened = drivers::open(args.device)?;
    introduce(&opened);
    if args.variant == Variants::All {
        grid.strategies = op::strategies(&opened.device).to_vec();
    }
    let report = measure(&opened, &[grid], &effort, args.seed, None)?;
    out(&export::ceilings(&report))?;
    out(&export::rows(&report, verbose).to_string())?;
    warn(&report, &effort);
    if let Some(file) = json {
        written(file, &export::json(&report)?)?;
    }
    if let Some(file) = csv {
        written(file, &export::csv(&report))?;
    }
    if let Some(file) = markdown {
        written(file, &export::markdown(&report))?;
    }
    if let Some(file) = plot {
        written(file, &export::plot(&report)?)?;
    }
    Ok(())
}

fn written(file: Pending, text: &str) -> Result<()> {
    let path = file.path().to_path_buf();
    file.commit(text.as_bytes())?;
    say!("wrote {}", shown(&path));
    Ok(())
}

/// Measures the ceilings and the grids' rows, with a progress bar on a terminal.
fn measure(
    opened: &OpenDevice,
    grids: &[Grid],
    effort: &Effort,
    seed: u64,
    until: Option<Instant>,
) -> Result<Report> {
    opened.device.seed(seed);
    let ceilings = Ceilings::measure(&opened.device)?;
    let bar = ProgressBar::new(grids.iter().map(Grid::rows).sum::<usize>() as u64);
    let mut follow = |row: &Row| {
        bar.inc(1);
        tracing::debug!(?row, "measured");
    };
    let report = bench::run(grids, effort, opened, ceilings, until, &mut follow);
    bar.finish_and_clear();
    report
}

/// Says which figures are doubtful, why, and what to do.
fn warn(report: &Report, effort: &Effort) {
    let wide: Vec<&Row> = report.rows.iter().filter(|row| row.is_wide()).collect();
    if let Some(row) = wide.first() {
        say!(
            "{} of {} rows spread by more than {:.0} % (first: {}, {}, {}batch {}): close other programs, let the device cool, or give each row more time with --seconds {}",
            wide.len(),
            report.rows.len(),
            100.0 * WIDE,
            row.pass,
            row.variant,
            row.bond.map_or_else(String::new, |bond| format!("bond {bond}, ")),
            row.batch,
            (effort.seconds * 4.0).max(1.0)
        );
    }
    let failed = report.rows.iter().filter(|row| row.error.is_some()).count();
    if failed > 0 {
        say!("{failed} of {} rows could not be measured; the table says why", report.rows.len());
    }
}

/// `--suite`.
fn suite(args: &BenchArgs, effort: &Effort) -> Result<()> {
    let file = |name: &str| Pending::create(&args.out.join(name));
    std::fs::create_dir_all(&args.out).map_err(Error::io("create", &args.out))?;
    let (markdown, json) = (file("tnet-gpu-suite.md")?, file("tnet-gpu-suite.json")?);
    let until = Instant::now() + SUITE_TIME;
    let opened = drivers::open(args.device)?;
    introduce(&opened);
    let verified = verified(&opened);
    say!("verify: {verified}");

    let grid = |passes: &[Pass], batches: &[usize]| Grid {
        in_factors: [28, 28],
        out_factors: [32, 16],
        bonds: SUITE_BONDS.to_vec(),
        batches: batches.to_vec(),
        passes: passes.to_vec(),
        rivals: vec![Rival::Composed, Rival::Dense],
        strategies: Vec::new(),
        network: None,
    };
    // The most important rows first: time may run out before the last.
    let (large, usual) = (&SUITE_BATCHES[4..], &SUITE_BATCHES[..4]);
    let grids = [
        grid(&[Pass::Forward, Pass::Backward], usual),
        grid(&[Pass::Step], &SUITE_STEPS),
        grid(&[Pass::Forward, Pass::Backward], large),
        grid(&[Pass::BackwardX], &SUITE_BATCHES),
    ];
    let report = measure(&opened, &grids, effort, args.seed, Some(until))?;
    out(&export::ceilings(&report))?;
    out(&export::rows(&report, true).to_string())?;
    warn(&report, effort);
    let text = format!(
        "# tnet-gpu {} on {}\n\nVerify: {verified}\n\n{}",
        env!("CARGO_PKG_VERSION"),
        report.device,
        export::markdown(&report)
    );
    written(markdown, &text)?;
    written(json, &export::json(&report)?)
}

/// Whether the device computes the layer correctly, in one line. If it does not, the suite continues.
fn verified(opened: &OpenDevice) -> String {
    let cases = verify::built_in();
    let mut failed = Vec::new();
    for case in &cases {
        match case.run(&opened.device) {
            Ok(distances) if distances.pass() => {}
            Ok(distances) => failed.push(format!("{} is off: {distances}", case.name())),
            Err(error) => failed.push(format!("{}: {error}", case.name())),
        }
    }
    match failed.first() {
        None => format!("all {} cases are correct", cases.len()),
        Some(first) => format!("{} of {} cases FAILED; first: {first}", failed.len(), cases.len()),
    }
}
