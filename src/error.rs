//! Every way in which this crate can fail, as one enum.
//!
//! A message is one line: what was being done, to which file or operand, what was expected and what
//! was found. It names fields and parameters; which option of the program sets them, and what to type
//! instead, is added by the command line. [`Error::exit_code`] is the exit code of the process.

use std::io;
use std::path::{Path, PathBuf};

use crate::text::{bytes, one_line, shown, told_apart, visible};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure; its text is one line, written for the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", shown(path))]
    Io {
        /// What was being done, as a verb: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },

    /// A file was read, but its content is not what it should be.
    #[error("{}: {what}: expected {expected}, found {found}", shown(path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The part of it that is wrong: `magic number`, `label 17`, `tensor 'a'`.
        what: String,
        /// What a correct file has there.
        expected: String,
        /// What this file has.
        found: String,
    },

    /// An operand's shape does not fit the others.
    #[error("{operand}: expected shape {expected}, found {found}")]
    Shape {
        /// The operand, by its name in the equation: `x`, `a`, `c`, `bias`, `grad_y`.
        operand: &'static str,
        /// The shape it must have, with the letters of the equation.
        expected: String,
        /// The shape it has.
        found: String,
    },

    /// An operand's elements are of a type that the operation does not support.
    #[error(
        "{operand}: expected elements of type {expected}, found {found}; convert the tensor first"
    )]
    ElementType {
        /// The operand, by its name in the equation.
        operand: &'static str,
        /// The type it must have.
        expected: &'static str,
        /// The type it has.
        found: &'static str,
    },

    /// A value that was passed in makes no sense, alone or together with others.
    #[error("{name}: {problem}")]
    Argument {
        /// The field or parameter: `bond`, `batch_size`.
        name: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },

    /// A layer of a network does not fit, or makes no sense.
    #[error("{layer}: {problem}")]
    Layer {
        /// Its kind and its position, counted from 1: `mps1`.
        layer: String,
        /// The field that is wrong, what was expected and what was found.
        problem: String,
    },

    /// A file describes a network that is impossible, or that does not fit the data.
    #[error("{}: {problem}", shown(file))]
    Network {
        /// The file.
        file: PathBuf,
        /// The layer or field that is wrong, what was expected and what was found.
        problem: String,
    },

    /// None of the folders searched holds the data set, and it could not be downloaded.
    #[error("Fashion-MNIST was not found: looked in {}; {download}", list(looked))]
    DataNotFound {
        /// The folders searched, in order.
        looked: Vec<PathBuf>,
        /// Why the download did not help.
        download: String,
    },

    /// Several images of a data set cannot be read.
    #[error("{} of the {count} images of {} cannot be read", problems.len(), shown(folder))]
    Images {
        /// The data set.
        folder: PathBuf,
        /// What is wrong with each of them.
        problems: Vec<Error>,
        /// How many images there are.
        count: usize,
    },

    /// A network is to be measured on another data set than the one it was trained on.
    #[error("{} is not the data set of {}: its test images are others", shown(folder), shown(file))]
    OtherData {
        /// Where the data set is.
        folder: PathBuf,
        /// The network.
        file: PathBuf,
    },

    /// Runs whose accuracies say nothing of each other.
    #[error(
        "{} and {} cannot be compared: they were measured on different test images",
        shown(run),
        shown(other)
    )]
    OtherTest {
        /// A run folder.
        run: PathBuf,
        /// Another one.
        other: PathBuf,
    },

    /// A run was given twice where each may count once.
    #[error("{} and {} are the same run", shown(run), shown(again))]
    SameRun {
        /// The run, as it was given first.
        run: PathBuf,
        /// As it was given then.
        again: PathBuf,
    },

    /// The data on which a run was trained cannot be read where it was.
    #[error("the data of the run cannot be read any more: {0}")]
    RunData(Box<Error>),

    /// The named device is not available.
    #[error("device {requested}: {problem}; this machine has: {available}")]
    Device {
        /// The device as it was named.
        requested: String,
        /// Why it is not available.
        problem: String,
        /// What could be named instead.
        available: String,
    },

    /// Something does not fit into a buffer of the device.
    #[error(
        "{what}: {bytes} bytes do not fit into a buffer of {device}, which holds {limit}; the CPU device has no such limit"
    )]
    TooLarge {
        /// What it is.
        what: String,
        /// Its size.
        bytes: u64,
        /// The largest buffer that a kernel on the device can bind, in bytes.
        limit: u64,
        /// The device's description.
        device: String,
    },

    /// What is to be computed needs more memory than there is.
    #[error("{what} needs {} of memory, {holder} has {} left", bytes(*needed), bytes(*available))]
    Memory {
        /// What needs it: `training this network`.
        what: &'static str,
        /// How much, in bytes; an estimate.
        needed: u64,
        /// What limits it: `this machine`.
        holder: &'static str,
        /// How much of it is left, in bytes.
        available: u64,
    },

    /// The system refused to start a thread that is needed.
    #[error(
        "a thread could not be started ({message}): this process or its user may run too few threads"
    )]
    Threads {
        /// What the operating system answered.
        message: String,
    },

    /// The device failed while it computed.
    #[error("the device failed while {action}: {message}")]
    Compute {
        /// What was being computed.
        action: &'static str,
        /// What the driver or Burn said, on one line.
        message: String,
    },

    /// Something failed that neither the caller nor the device is known to cause: a bug.
    #[error("internal error while {action}: {message}")]
    Internal {
        /// What was being done.
        action: &'static str,
        /// What went wrong, on one line.
        message: String,
    },

    /// A folder cannot become a run folder, because it holds other files.
    #[error(
        "cannot use {} as a run folder: it is not empty{}",
        shown(folder),
        if *holds_run { ": it holds a run" } else { "" }
    )]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// Whether what it holds is a run.
        holds_run: bool,
    },

    /// Files are to be written into a folder that must be empty.
    #[error("cannot write into {}: it is not empty", shown(folder))]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },

    /// A file would be replaced.
    #[error("{} exists already", shown(file))]
    Exists {
        /// The file.
        file: PathBuf,
    },

    /// A run cannot be resumed.
    #[error("cannot resume {}: {problem}", shown(run))]
    Resume {
        /// The run folder.
        run: PathBuf,
        /// Why.
        problem: String,
    },

    /// A loss or a weight became NaN or infinite.
    #[error(
        "{what} in step {step} of epoch {epoch}: training stopped; the last checkpoint with finite numbers is kept in {}",
        shown(run)
    )]
    NotFinite {
        /// What was found: `the training loss is NaN`.
        what: String,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step within the epoch, counted from 1.
        step: usize,
        /// The run folder.
        run: PathBuf,
    },

    /// `verify` found errors above the tolerance.
    #[error("{failed} of {total} cases are over the tolerance of {tolerance:e}")]
    Verify {
        /// How many cases failed.
        failed: usize,
        /// How many were computed.
        total: usize,
        /// The tolerance, relative.
        tolerance: f64,
    },

    /// The user asked the program to stop.
    #[error(
        "interrupted by {}{}",
        signal_name(*signal),
        if run.is_none() { " before the first checkpoint: nothing is left of the run" } else { "" }
    )]
    Interrupted {
        /// The signal's number.
        signal: i32,
        /// The run folder; none where nothing could be resumed from it.
        run: Option<PathBuf>,
    },
}

impl Error {
    /// Adds to an error of the operating system what was being done to which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A file whose content is wrong. `found` may hold any bytes of that file: control characters are
    /// escaped and long texts cut, so that the message stays one line.
    pub fn malformed(
        path: impl AsRef<Path>,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        let [expected, found] = told_apart(&expected.to_string(), &found.to_string());
        let what = visible(&what.into());
        Self::Malformed { path: path.as_ref().to_path_buf(), what, expected, found }
    }

    /// A TOML file that is not what was `expected`, by the line.
    pub fn toml(path: &Path, text: &str, expected: &str, error: &toml::de::Error) -> Self {
        let what = match error.span() {
            Some(span) => format!("line {}", 1 + text[..span.start].matches('\n').count()),
            None => "content".into(),
        };
        Self::malformed(path, what, expected, error.message())
    }

    /// A value that makes no sense; `name` is the field or parameter that holds it.
    pub fn argument(name: &'static str, problem: impl Into<String>) -> Self {
        Self::Argument { name, problem: visible(&problem.into()) }
    }

    /// A failure of the device, its message folded onto one line.
    pub fn compute(action: &'static str, message: impl ToString) -> Self {
        Self::Compute { action, message: one_line(message) }
    }

    /// A failure that is a bug, its message folded onto one line.
    pub fn internal(action: &'static str, message: impl ToString) -> Self {
        Self::Internal { action, message: one_line(message) }
    }

    /// A thread that could not be started; what the operating system said, folded onto one line.
    pub fn threads(message: impl ToString) -> Self {
        Self::Threads { message: one_line(message) }
    }

    /// What is wrong with each of the images that cannot be read, where there are several.
    pub fn of_images(&self) -> &[Self] {
        match self {
            Self::Images { problems, .. } => problems,
            Self::RunData(error) => error.of_images(),
            _ => &[],
        }
    }

    /// The exit code of the process: 1 failed, 2 wrong usage, 128 + the signal's number when
    /// interrupted (130 for Ctrl-C).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Argument { .. } | Self::Layer { .. } | Self::SameRun { .. } => 2,
            Self::Interrupted { signal, .. } => 128_u8.wrapping_add(*signal as u8),
            _ => 1,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| shown(path).to_string()).collect::<Vec<_>>().join(", ")
}

fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "Ctrl-C".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_content_of_a_file_is_reported_on_one_line() {
        let found = format!("\u{1b}[31m\r\n{}", "x".repeat(1000));
        let message = Error::malformed("file", "tensor 'a\nb'", "none", found).to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
        assert!(message.chars().count() < 400, "{message}");
    }

    #[test]
    fn a_failure_of_the_device_and_a_bug_are_told_apart() {
        let device = Error::compute("reading the loss", "lost\n  at once").to_string();
        assert_eq!(device, "the device failed while reading the loss: lost at once");
        let bug = Error::internal("writing JSON", "no\tend").to_string();
        assert_eq!(bug, "internal error while writing JSON: no end");
    }
}
