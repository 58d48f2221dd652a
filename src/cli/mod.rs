//! The subcommands, a file each: arguments → checked options → a library call → what the user
//! sees. Results go to standard output, everything else to standard error.

mod devices;
mod eval;
mod log;
mod train;
mod verify;

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use clap::{Parser, Subcommand};

use crate::device::OpenDevice;
use crate::{Error, Result};

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
}

/// Runs the program and returns the status it ends with: 0, 1 (failed), 2 (usage), 130
/// (interrupted).
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log::init(cli.verbose);
    match run_caught(&cli.command) {
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

/// Runs the command; a panic inside Burn or a driver becomes an error of one line.
fn run_caught(command: &Command) -> Result<()> {
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
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Verify(args) => verify::run(args),
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
