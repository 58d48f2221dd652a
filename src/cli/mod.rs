//! The program, one file per subcommand: arguments → checked options → a library call → what the user
//! sees. Results go to standard output, everything else to standard error.

mod bench;
mod compare;
mod completions;
mod compress;
mod data;
mod devices;
mod drivers;
mod eval;
mod export;
mod log;
mod man;
mod material;
mod message;
mod model;
mod network;
mod outcome;
mod paths;
mod predict;
mod progress;
mod recipe;
mod report;
mod run_data;
mod runs;
mod signals;
mod study;
mod sweep;
mod table;
mod threads;
mod train;
mod training;
mod tuning;
mod verify;

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Mutex;

use clap::builder::RangedU64ValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use message::message;

use crate::device::{OpenDevice, is_probing};
use crate::{Error, Result, op};

/// Prints a line for the user on standard error. If it is closed, the program carries on.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}
use say;

/// The end of a help text: lines that work when they are pasted. The tests run them, in a folder where `tnet-gpu train`
/// was run once. A line of more than 78 characters would be broken in a terminal of 80 columns.
macro_rules! examples {
    ($($line:literal),+ $(,)?) => {
        concat!("Examples:", $("\n  ", $line),+)
    };
}
use examples;

/// The name under which the program is called.
const NAME: &str = "tnet-gpu";

/// Train image classifiers whose large dense layers are replaced by tensor networks, on any GPU
#[derive(Debug, Parser)]
#[command(name = NAME, version, about, max_term_width = 100, after_help = examples![
    "tnet-gpu train --bond 16 --epochs 5",
    "tnet-gpu eval runs/mps-bond16-1",
    "tnet-gpu help train",
])]
struct Cli {
    /// Print more on standard error (twice: much more); RUST_LOG overrides it
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network and write a run folder
    Train(train::TrainArgs),
    /// Train a grid of networks, and tell which to take
    Sweep(sweep::SweepArgs),
    /// Compare tensor networks with dense ones at equal numbers of parameters, trained as --recipe small by default
    Table(table::TableArgs),
    /// Measure a trained network on the test images
    Eval(eval::EvalArgs),
    /// Put finished runs side by side: accuracy, size and time of each network, over its seeds
    Compare(compare::CompareArgs),
    /// Tell what images show, with a trained network
    Predict(predict::PredictArgs),
    /// Make a trained network smaller, and print what each size costs in accuracy
    Compress(compress::CompressArgs),
    /// Write a trained network for other programs: ONNX or safetensors
    Export(export::ExportArgs),
    /// List the available devices
    Devices(devices::DevicesArgs),
    /// Check that a device computes the layer correctly
    Verify(verify::VerifyArgs),
    /// Benchmark the layer against alternatives and against the device's limits
    Bench(bench::BenchArgs),
    /// Print a script with which a shell completes commands, options and values
    Completions(completions::CompletionsArgs),
    /// Print or write manual pages
    Man(man::ManArgs),
}

/// Runs the program and returns its exit code: 0, 1 (failed), 2 (wrong usage), 130 (interrupted).
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let given = given(&matches);
    log::init(cli.verbose);
    let ready = threads::fit().and_then(|()| force());
    match ready.and_then(|()| run_caught(&cli.command, &given, cli.verbose)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has closed it, as `head` does.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::debug!(?error, "failed");
            error.of_images().iter().for_each(|problem| say!("{problem}"));
            say!("tnet-gpu: {}", message(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Ids of the subcommand's options that were typed, as opposed to left at their defaults.
fn given(matches: &ArgMatches) -> Vec<&str> {
    let Some((_, options)) = matches.subcommand() else { return Vec::new() };
    let typed = |id: &str| {
        // Groups have ids too, but no value source.
        options.try_contains_id(id).is_ok()
            && options.value_source(id) == Some(ValueSource::CommandLine)
    };
    options.ids().map(clap::Id::as_str).filter(|id| typed(id)).collect()
}

/// Makes the layer use the strategy named by `TNET_STRATEGY`, every adapter the kernels for what `TNET_TARGET` names, and
/// dense layers on GPUs the products that `TNET_PRODUCTS` names, if these are set.
fn force() -> Result<()> {
    if let Some(strategy) = from_environment("TNET_STRATEGY")? {
        op::force_strategy(Some(strategy));
    }
    op::force_target(from_environment("TNET_TARGET")?);
    op::choice::force_products(from_environment("TNET_PRODUCTS")?);
    Ok(())
}

/// What a variable names, if it is set.
fn from_environment<T: FromStr<Err = String>>(variable: &'static str) -> Result<Option<T>> {
    let Some(name) = std::env::var_os(variable) else { return Ok(None) };
    let named = name.to_string_lossy().parse();
    named.map(Some).map_err(|problem| Error::argument(variable, problem))
}

/// Runs the command. A panic, most likely inside Burn or a driver, becomes an error of one line.
fn run_caught(command: &Command, given: &[&str], verbose: u8) -> Result<()> {
    static PANIC: Mutex<Option<Panic>> = Mutex::new(None);
    panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        tracing::debug!("{message}\n{}", std::backtrace::Backtrace::force_capture());
        if is_probing() {
            return;
        }
        // The first panic is the cause; later ones follow from it.
        if let Ok(mut first) = PANIC.lock() {
            let file = info.location().map_or("", |location| location.file());
            first.get_or_insert(Panic { cause: cause(file, &message), message });
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| match command {
        Command::Train(args) => train::run(args, given),
        Command::Sweep(args) => sweep::run(args, given),
        Command::Table(args) => table::run(args, given),
        Command::Eval(args) => eval::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Compress(args) => compress::run(args),
        Command::Export(args) => export::run(args, given),
        Command::Devices(args) => devices::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Bench(args) => bench::run(args, verbose > 0),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }));
    outcome.unwrap_or_else(|_| {
        const ACTION: &str = "running the command (-vv shows where)";
        Err(match PANIC.lock().ok().and_then(|mut first| first.take()) {
            Some(Panic { cause: Cause::Threads, .. }) => {
                Error::threads("a library needs one and fails without it")
            }
            Some(Panic { cause: Cause::Device, message }) => Error::compute(ACTION, message),
            Some(Panic { cause: Cause::Bug, message }) => Error::internal(ACTION, message),
            None => Error::internal(ACTION, "a panic without a message"),
        })
    })
}

/// What the hook keeps of a panic.
struct Panic {
    message: String,
    cause: Cause,
}

/// What a panic stems from.
#[derive(Debug, PartialEq)]
enum Cause {
    /// The system gave no further thread.
    Threads,
    /// A failure of the device.
    Device,
    /// Anything else.
    Bug,
}

/// Burn's GPU backend and wgpu panic where they cannot return an error, and the message names a lost device wherever the
/// panic is raised. So does the standard library where a thread cannot be started.
fn cause(file: &str, message: &str) -> Cause {
    let message = message.to_lowercase();
    let threads = ["spawn thread", "threadpoolbuilderror", "kind: wouldblock"];
    if threads.iter().any(|words| message.contains(words)) {
        return Cause::Threads;
    }
    let source = ["cubecl", "wgpu"].iter().any(|name| file.contains(name));
    let lost = ["lost", "poisoned"].iter().any(|word| message.contains(word));
    if source || (lost && message.contains("device")) { Cause::Device } else { Cause::Bug }
}

/// A value as one line of JSON.
fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("writing JSON", error))
}

/// Says which device is used, and why.
fn introduce(opened: &OpenDevice) {
    say!("device: {}", opened.description);
    if let Some(remark) = &opened.remark {
        say!("{remark}");
    }
}

/// Writes a line of results to standard output.
fn out(line: &str) -> Result<()> {
    out_bytes(format!("{line}\n").as_bytes())
}

/// Writes bytes to standard output.
fn out_bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(Error::io("write", Path::new("standard output")))
}

/// Parser of a whole number above 0.
fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Extents of a tensor network's input or output, two or more, as in `28,28`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factors(pub Vec<usize>);

impl FromStr for Factors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |number: &str| number.trim().parse().ok().filter(|&number| number > 0);
        let numbers: Option<Vec<usize>> = text.split(',').map(number).collect();
        let expected = || "expected two or more whole numbers above 0, as in 28,28".into();
        numbers.filter(|numbers| numbers.len() > 1).map(Self).ok_or_else(expected)
    }
}

/// Parses two extents, as in `28,28`.
fn factors(text: &str) -> Result<[usize; 2], String> {
    let numbers: Option<Vec<usize>> = text
        .split(',')
        .map(|number| number.trim().parse().ok().filter(|&number| number > 0))
        .collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| "expected two whole numbers above 0, as in 28,28".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_stems_from_is_told() {
        let registry = "/registry/src/index.crates.io/";
        for (file, message, expected) in [
            ("src/train/mod.rs", "index out of bounds", Cause::Bug),
            ("src/op/gpu/mod.rs", "parent device is lost", Cause::Device),
            ("src/data/resident.rs", "The device is poisoned", Cause::Device),
            (&*format!("{registry}wgpu-30.0.0/src/api/device.rs"), "wgpu error", Cause::Device),
            (&*format!("{registry}cubecl-wgpu-0.11.0/src/compute/server.rs"), "no", Cause::Device),
            (&*format!("{registry}burn-tensor-0.22.1/src/tensor/api/check.rs"), "no", Cause::Bug),
            (
                &*format!("{registry}cubecl-common/src/device.rs"),
                "failed to spawn thread: Os",
                Cause::Threads,
            ),
        ] {
            assert_eq!(cause(file, message), expected, "{file}: {message}");
        }
    }

    #[test]
    fn options_and_their_help_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn factors_are_two_numbers_above_zero() {
        assert_eq!(factors("28,28"), Ok([28, 28]));
        assert_eq!(factors("49, 16"), Ok([49, 16]));
        for text in ["", "28", "28,", "28,0", "1,2,3", "a,b", "-1,5", "28x28"] {
            assert!(factors(text).is_err(), "{text}");
        }
        assert_eq!("4, 7,28".parse(), Ok(Factors(vec![4, 7, 28])));
        for text in ["", "28", "28,", "28,0", "a,b"] {
            assert!(text.parse::<Factors>().is_err(), "{text}");
        }
    }
}
