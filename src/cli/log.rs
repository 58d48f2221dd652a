//! The log: `tracing` events on standard error and, once a run has a folder, in its `log.txt`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::{Error, Result};

/// Where events go: into memory until the run has a folder, then into its file.
enum Target {
    Memory(Vec<u8>),
    File(File),
}

static TARGET: Mutex<Target> = Mutex::new(Target::Memory(Vec::new()));

/// Whether the user has asked for more than results on standard error.
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Whether the user has asked for more than results on standard error, with `-v` or `RUST_LOG`.
#[cfg(target_os = "linux")]
pub fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

struct RunLog;

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *TARGET.lock().unwrap_or_else(PoisonError::into_inner) {
            Target::Memory(buffer) => buffer.write(bytes),
            // A full disk is reported once, by the write that matters.
            Target::File(file) => file.write(bytes).or(Ok(bytes.len())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for RunLog {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Sets up logging. Standard error gets, with `-v`, warnings and this program's events, with `-vv` their details;
/// `RUST_LOG` overrides that. `log.txt` gets warnings and this program's events. Colours are for a terminal, as NO_COLOR,
/// CLICOLOR, CLICOLOR_FORCE and TERM say.
pub fn init(verbose: u8) {
    let asked = verbose > 0 || std::env::var_os(EnvFilter::DEFAULT_ENV).is_some();
    VERBOSE.store(asked, Ordering::Relaxed);
    let terminal = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(match verbose {
            // What a library logs as an error is either handled or told by the one line that follows.
            0 => "off",
            1 => "warn,tnet_gpu=info",
            _ => "info,tnet_gpu=debug",
        })
    });
    tracing_subscriber::registry()
        .with(
            fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(AutoStream::choice(&io::stderr()) != ColorChoice::Never)
                .without_time()
                .with_filter(terminal),
        )
        .with(
            fmt::layer()
                .with_writer(RunLog)
                .with_ansi(false)
                .with_filter(EnvFilter::new("warn,tnet_gpu=info")),
        )
        .init();
}

/// Sends the log to `file` from now on, starting with what was logged before.
///
/// # Errors
///
/// [`Error::Io`] naming `path` when the file cannot be written.
pub fn to_file(mut file: File, path: &Path) -> Result<()> {
    let mut target = TARGET.lock().unwrap_or_else(PoisonError::into_inner);
    if let Target::Memory(buffer) = &*target {
        file.write_all(buffer).map_err(Error::io("write", path))?;
    }
    *target = Target::File(file);
    Ok(())
}
