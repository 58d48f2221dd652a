//! Runs of the executable `tnet-gpu`, and the folders that its training runs leave.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::{TempDir, tempdir};

use super::data;

/// `tnet-gpu` with these arguments.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tnet-gpu"));
    isolated(command.args(arguments));
    command
}

/// Keeps the user's own settings, and the terminal, away from a command.
pub fn isolated(command: &mut Command) -> &mut Command {
    for variable in ["TNET_DATA", "TNET_STRATEGY", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null())
}

/// A program that calls `tnet-gpu` by its name, as in a user's shell, with this folder as the user's home.
pub fn in_shell(program: &str, arguments: &[&str], home: &Path) -> Command {
    let folder = Path::new(env!("CARGO_BIN_EXE_tnet-gpu")).parent().unwrap();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_path_buf()].into_iter().chain(std::env::split_paths(&others));
    let mut command = Command::new(program);
    isolated(command.args(arguments))
        .env("PATH", std::env::join_paths(folders).unwrap())
        .env("HOME", home)
        .current_dir(home);
    command
}

pub fn tnet(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// The error is the last line on standard error, and the only one that names the program.
#[track_caller]
pub fn error_line(output: &Output) -> String {
    let text = stderr(output);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("tnet-gpu: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!(text.lines().last(), Some(lines[0]), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    lines[0].to_owned()
}

/// A data set, a folder for the run, and the arguments of a short training run on the CPU.
pub struct Training {
    pub folder: TempDir,
}

impl Training {
    pub fn new() -> Self {
        let folder = tempdir().unwrap();
        data::write_files(&folder.path().join("data"), &data::files());
        Self { folder }
    }

    /// A run of one epoch with the smallest possible network, and its checkpoint.
    pub fn smallest() -> (Self, Vec<u8>) {
        let training = Self::new();
        let output = training.run(&["--epochs", "1", "--out-factors", "1,1"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let checkpoint = fs::read(training.path("run/last.safetensors")).unwrap();
        (training, checkpoint)
    }

    /// A finished run of two epochs, with its best network.
    pub fn finished() -> Self {
        let training = Self::new();
        let output = training.run(&["--out-factors", "4,4", "--validation", "10"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        training
    }

    /// Runs of an epoch in folders that are not named: `runs/mps-bond1-1`, …-2.
    pub fn unnamed() -> Self {
        let training = Self::new();
        let data = training.path("data");
        for _ in 0..2 {
            let mut command =
                command(&["train", "--device", "cpu", "--data", &data, "--epochs", "1"]);
            let output = command.current_dir(training.folder.path()).output().unwrap();
            assert_eq!(code(&output), 0, "{}", stderr(&output));
        }
        training
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn command(&self, more: &[&str]) -> Command {
        let (data, run) = (self.path("data"), self.path("run"));
        let mut arguments = vec!["train", "--data", &data];
        for (option, default) in
            [("--device", "cpu"), ("--out", &run), ("--epochs", "2"), ("--batch-size", "16")]
        {
            if !more.contains(&option) {
                arguments.extend([option, default]);
            }
        }
        arguments.extend(more);
        command(&arguments)
    }

    pub fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
    }

    /// Resumes the run.
    pub fn resume(&self, more: &[&str]) -> Output {
        tnet(&[&["train", "--resume", &self.path("run")], more].concat())
    }

    /// Evaluates a checkpoint, or a run's, on the CPU.
    pub fn eval(&self, name: &str, more: &[&str]) -> Output {
        let (path, data) = (self.path(name), self.path("data"));
        tnet(&[&["eval", &path, "--device", "cpu", "--data", &data], more].concat())
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }
}

/// The rows of `metrics.csv`, its header checked.
pub fn metrics(text: &str) -> Vec<Vec<f64>> {
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds,images_per_s")
    );
    lines.map(|line| line.split(',').map(|number| number.parse().unwrap()).collect()).collect()
}

/// `metrics.csv` of a run without the two columns of time.
pub fn metrics_without_time(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    let lines = text.lines().map(|line| line.split(',').take(5).collect::<Vec<_>>().join(","));
    lines.collect()
}

/// Nothing half-written is left in a run folder.
#[track_caller]
pub fn assert_no_temporaries(run: &Path) {
    let left: Vec<_> = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}
