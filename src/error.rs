//! Every way in which the program can fail, as one enum.
//!
//! A message is one line: what was being done, to which file or operand, what was expected, what
//! was found, and, where it is not obvious, what to do. [`Error::exit_code`] turns it into the
//! status of the process.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, worded for the person in front of the terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or folder it was done to.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },

    /// A file was read but does not hold what it should.
    #[error("{}: {what}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The part of it that is wrong: `magic number`, `label 17`, `tensor 'a'`.
        what: String,
        /// What a correct file has there.
        expected: String,
        /// What this one has.
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

    /// An operand's elements are of a type the operation does not compute in.
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

    /// An option's value makes no sense, alone or beside the others.
    #[error("{option}: {problem}")]
    Usage {
        /// The option as it is typed, `--bond`.
        option: String,
        /// What is wrong and what would be right.
        problem: String,
    },

    /// No folder that was looked into holds the data set, and it could not be downloaded.
    #[error(
        "Fashion-MNIST was not found: looked in {}; {download}. Install Debian's package dataset-fashion-mnist, or name a folder that holds the four files with --data DIR",
        list(looked)
    )]
    DataNotFound {
        /// The folders looked into, in order.
        looked: Vec<PathBuf>,
        /// Why the download did not help.
        download: String,
    },

    /// The named device cannot be had.
    #[error("--device {requested}: {problem}; this machine has: {available}")]
    Device {
        /// The device as it was named.
        requested: String,
        /// Why it cannot be had.
        problem: String,
        /// What could be named instead.
        available: String,
    },

    /// Something does not fit into a buffer of the device.
    #[error(
        "{what}: {bytes} bytes do not fit into a buffer of {device}, which holds {limit}; the CPU has no such limit: --device cpu"
    )]
    TooLarge {
        /// What it is.
        what: String,
        /// Its size.
        bytes: u64,
        /// The largest buffer that the device's kernels can see, in bytes.
        limit: u64,
        /// The device's description.
        device: String,
    },

    /// The device failed while it computed.
    #[error("the device failed while {action}: {message}")]
    Compute {
        /// What was being computed.
        action: &'static str,
        /// What the driver or Burn said, on one line.
        message: String,
    },

    /// A run cannot go on.
    #[error("cannot resume {}: {problem}", run.display())]
    Resume {
        /// The run folder.
        run: PathBuf,
        /// Why.
        problem: String,
    },

    /// Training left the finite numbers.
    #[error(
        "{what} in step {step} of epoch {epoch}: training stopped; try a smaller --lr. The last checkpoint with finite numbers is kept in {}",
        run.display()
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

    /// `verify` found numbers over the tolerance.
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
    #[error("interrupted by {}{}", signal_name(*signal), left_behind(run))]
    Interrupted {
        /// The signal's number.
        signal: i32,
        /// The run folder, where there is one.
        run: Option<PathBuf>,
    },
}

impl Error {
    /// Wraps an error of the operating system with what was being done to which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A file that does not hold what it should. What it holds instead may be anything, and is told on
    /// one line all the same.
    pub fn malformed(
        path: impl AsRef<Path>,
        what: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Malformed {
            path: path.as_ref().to_path_buf(),
            what: printable(&what.into()),
            expected: printable(&expected.to_string()),
            found: printable(&found.to_string()),
        }
    }

    /// An option whose value makes no sense.
    pub fn usage(option: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Usage { option: option.into(), problem: problem.into() }
    }

    /// A failure of the device, its message folded onto one line.
    pub fn compute(action: &'static str, message: impl ToString) -> Self {
        let message = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self::Compute { action, message }
    }

    /// The status the process ends with: 1 failed, 2 usage, 128 + the signal's number when
    /// interrupted (130 for Ctrl-C).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Interrupted { signal, .. } => 128_u8.wrapping_add(*signal as u8),
            _ => 1,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn signal_name(signal: i32) -> String {
    match signal {
        2 => "Ctrl-C".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

fn left_behind(run: &Option<PathBuf>) -> String {
    match run {
        Some(run) => format!("; resume with: tnet-gpu train --resume {}", quoted(run)),
        None => String::new(),
    }
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |character: char| {
        character.is_alphanumeric()
            || "/._-+".contains(character)
            || (cfg!(windows) && "\\:".contains(character))
    };
    if path.chars().all(plain) {
        return path;
    }
    if cfg!(windows) { format!("\"{path}\"") } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// The text without line breaks and other control characters, cut where it is very long.
fn printable(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut printable: String = text
        .chars()
        .take(LONGEST)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        printable.push('…');
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_told_on_one_line() {
        let found = format!("\u{1b}[31m\r\n{}", "x".repeat(1000));
        let message = Error::malformed("file", "tensor 'a\nb'", "none", found).to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
        assert!(message.chars().count() < 400, "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_is_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("runs/mps-bond1-1")), "runs/mps-bond1-1");
        assert_eq!(quoted(Path::new("my runs/it's")), r"'my runs/it'\''s'");
        assert_eq!(quoted(Path::new("a\\b")), r"'a\b'");
    }
}
