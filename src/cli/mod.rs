//! The subcommands, a file each: arguments → checked options → a library call → what the user
//! sees. Results go to standard output, everything else to standard error.

mod bench;
mod devices;
mod eval;
mod log;
mod progress;
mod train;
mod verify;

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::builder::RangedU64ValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::device::OpenDevice;
use crate::{Error, Result, op};

/// Prints a line for the person at the terminal, on standard error; that it is closed is no reason
/// to stop.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}
use say;

/// Train image classifiers whose big dense layers are replaced by tensor networks, on any GPU.
#[derive(Debug, Parser)]
#[command(name = "tnet-gpu", version, about, max_term_width = 100)]
struct Cli {
    /// Say more on standard error (twice: much more); RUST_LOG overrides it
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network and write a run folder
    Train(train::TrainArgs),
    /// Measure a trained network on the test images
    Eval(eval::EvalArgs),
    /// List the devices that could be used
    Devices(devices::DevicesArgs),
    /// Check that a device computes the layer right
    Verify(verify::VerifyArgs),
    /// Time the layer beside its rivals and beside what the device can do at most
    Bench(bench::BenchArgs),
}

/// Runs the program and returns the status it ends with: 0, 1 (failed), 2 (usage), 130
/// (interrupted).
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let given = given(&matches);
    log::init(cli.verbose);
    match force_strategy().and_then(|()| run_caught(&cli.command, &given, cli.verbose)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has seen enough.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::debug!(?error, "failed");
            say!("tnet-gpu: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Names of the subcommand's options that are on the command line, rather than left to their defaults.
fn given(matches: &ArgMatches) -> Vec<&str> {
    let Some((_, options)) = matches.subcommand() else { return Vec::new() };
    let typed = |id: &str| {
        // Groups have an id too, and no source.
        options.try_contains_id(id).is_ok()
            && options.value_source(id) == Some(ValueSource::CommandLine)
    };
    options.ids().map(clap::Id::as_str).filter(|id| typed(id)).collect()
}

/// Makes the layer take the strategy that `TNET_STRATEGY` names, if it names one.
fn force_strategy() -> Result<()> {
    let Some(name) = std::env::var_os("TNET_STRATEGY") else { return Ok(()) };
    let strategy = name.to_string_lossy().parse();
    op::force_strategy(Some(strategy.map_err(|problem| Error::usage("TNET_STRATEGY", problem))?));
    Ok(())
}

/// Runs the command; a panic inside Burn or a driver becomes an error of one line.
fn run_caught(command: &Command, given: &[&str], verbose: u8) -> Result<()> {
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        tracing::debug!("{message}\n{}", std::backtrace::Backtrace::force_capture());
        // The first panic is the cause; others follow from it.
        if let Ok(mut first) = PANIC.lock() {
            first.get_or_insert(message);
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| match command {
        Command::Train(args) => train::run(args, given),
        Command::Eval(args) => eval::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Bench(args) => bench::run(args, verbose > 0),
    }));
    outcome.unwrap_or_else(|_| {
        let message = PANIC.lock().ok().and_then(|mut first| first.take());
        let message = message.unwrap_or_else(|| "it gave no reason".into());
        Err(Error::compute("running the command (-vv shows where)", message))
    })
}

/// Says which device computes, and why.
fn introduce(opened: &OpenDevice) {
    say!("device: {}", opened.description);
    if let Some(remark) = &opened.remark {
        say!("{remark}");
    }
}

/// Writes a line of results to standard output.
fn out(line: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(Error::io("write", Path::new("standard output")))
}

/// An option's whole number above 0.
fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// An option's two extents, `28,28`.
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
    fn factors_are_two_numbers_above_zero() {
        assert_eq!(factors("28,28"), Ok([28, 28]));
        assert_eq!(factors("49, 16"), Ok([49, 16]));
        for text in ["", "28", "28,", "28,0", "1,2,3", "a,b", "-1,5", "28x28"] {
            assert!(factors(text).is_err(), "{text}");
        }
    }
}
