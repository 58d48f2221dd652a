//! The executable as a user meets it: what it prints, what it writes, its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::{TempDir, tempdir};

use crate::common;

/// `tnet-gpu` with these arguments, away from the user's own settings.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tnet-gpu"));
    command.args(arguments).env_remove("TNET_DATA").env_remove("RUST_LOG").stdin(Stdio::null());
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
pub fn error_line(output: &Output) -> String {
    let text = stderr(output);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("tnet-gpu: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!(text.lines().last(), Some(lines[0]), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    lines[0].to_owned()
}

/// A data set, a folder for the run, and the arguments of a short training on the CPU.
pub struct Training {
    pub folder: TempDir,
}

impl Training {
    pub fn new() -> Self {
        let folder = tempdir().unwrap();
        common::write_files(&folder.path().join("data"), &common::files());
        Self { folder }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn command(&self, more: &[&str]) -> Command {
        let (data, run) = (self.path("data"), self.path("run"));
        let mut arguments = vec!["train", "--data", &data];
        if !more.contains(&"--device") {
            arguments.extend(["--device", "cpu"]);
        }
        if !more.contains(&"--out") {
            arguments.extend(["--out", &run]);
        }
        if !more.contains(&"--epochs") {
            arguments.extend(["--epochs", "2"]);
        }
        arguments.extend(["--batch-size", "16"]);
        arguments.extend(more);
        command(&arguments)
    }

    pub fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().unwrap()
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

#[test]
fn a_training_leaves_a_run_folder_and_eval_reads_it() {
    let training = Training::new();
    let output = training.run(&["--bond", "2", "--out-factors", "4,4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for text in ["first layer", "whole network", "test accuracy: ", "training time: ", "run: "] {
        assert!(stdout(&output).contains(text), "{text} in {}", stdout(&output));
    }
    for text in ["device: cpu", "epoch   1/2", "epoch   2/2", "images/s"] {
        assert!(stderr(&output).contains(text), "{text} in {}", stderr(&output));
    }

    let rows = metrics(&training.read("run/metrics.csv"));
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), [1.0, 2.0]);
    assert!(rows.iter().all(|row| row.len() == 7 && row[4] <= 1.0 && row[6] > 0.0), "{rows:?}");
    let config = training.read("run/config.toml");
    for text in [
        "epochs = 2",
        "batch_size = 16",
        "lr = 0.001",
        "seed = 200",
        "validation = 0",
        "train_images = 60",
        "device = \"cpu\"",
        "model = \"mps\"",
        "in_factors = [",
        "bond = 2",
        "init = \"he\"",
        "classes = 3",
    ] {
        assert!(config.contains(text), "{text} in\n{config}");
    }
    assert!(training.read("run/curves.svg").starts_with("<svg"));
    assert!(training.read("run/log.txt").contains("epoch"));
    assert!(!Path::new(&training.path("run/best.safetensors")).exists());

    // The checkpoint is the trained network: its accuracy and loss are those of the last epoch.
    let (run, data) = (training.path("run"), training.path("data"));
    let output = tnet(&["eval", &run, "--device", "cpu", "--data", &data, "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["epoch"], 2);
    let last = rows.last().unwrap();
    // metrics.csv has six digits.
    assert!((line["loss"].as_f64().unwrap() - last[3]).abs() < 1e-5, "{line} {last:?}");
    assert!((line["accuracy"].as_f64().unwrap() - last[4]).abs() < 1e-5, "{line} {last:?}");

    let file = training.path("run/last.safetensors");
    let output = tnet(&["eval", &file, "--device", "cpu", "--data", &data]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("test accuracy: {:.4}", last[4])));
}

#[test]
fn one_seed_gives_one_network_and_another_seed_another() {
    let training = Training::new();
    let network = |seed: &str, name: &str| {
        let run = training.path(name);
        let output = training.run(&["--seed", seed, "--out", &run]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        fs::read(training.path(&format!("{name}/last.safetensors"))).unwrap()
    };
    let first = network("7", "a");
    assert!(first == network("7", "b"), "the same seed gave another network");
    assert!(first != network("8", "c"), "another seed gave the same network");
}

#[test]
fn best_is_chosen_where_images_are_held_out() {
    let training = Training::new();
    let output = training.run(&["--validation", "20", "--model", "dense"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("40 training images, 20 held out"), "{}", stderr(&output));
    assert!(stdout(&output).contains("best on the held-out images"), "{}", stdout(&output));
    assert!(Path::new(&training.path("run/best.safetensors")).exists());
}

#[test]
fn classes_without_a_training_image_are_reported() {
    let training = Training::new();
    let short = ["--epochs", "1", "--out-factors", "1,1"];
    let output = training.run(&short);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!stderr(&output).contains("without a training image"), "{}", stderr(&output));

    // Label 200 in place of 2: 201 outputs, of which 3 are ever right.
    let mut files = common::files();
    for name in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        let bytes = files.get_mut(name).unwrap();
        bytes[8..].iter_mut().filter(|label| **label == 2).for_each(|label| *label = 200);
    }
    common::write_files(Path::new(&training.path("data")), &files);
    let run = training.path("gaps");
    let output = training.run(&[&short[..], &["--out", &run]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let line = "201 classes, 198 of them without a training image (2, 3, 4, ...): \
                the labels are 0 to 200";
    assert_eq!(stderr(&output).lines().filter(|found| *found == line).count(), 1, "{line}");
}

#[test]
fn a_run_folder_in_use_is_left_alone() {
    let training = Training::new();
    fs::create_dir(training.path("run")).unwrap();
    fs::write(training.path("run/metrics.csv"), "precious").unwrap();
    let output = training.run(&[]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("not empty"), "{}", stderr(&output));
    assert_eq!(training.read("run/metrics.csv"), "precious");
}

#[test]
fn runs_without_a_name_get_fresh_folders() {
    let training = Training::new();
    let data = training.path("data");
    for _ in 0..2 {
        let output = command(&["train", "--device", "cpu", "--data", &data, "--epochs", "1"])
            .current_dir(training.folder.path())
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    for run in ["runs/mps-bond1-1", "runs/mps-bond1-2"] {
        assert_eq!(metrics(&training.read(&format!("{run}/metrics.csv"))).len(), 1);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_keeps_what_was_finished() {
    for (signal, expected) in [("INT", 130), ("TERM", 143)] {
        let training = Training::new();
        let mut child = training
            .command(&["--epochs", "1000000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // An epoch is finished when its weights are there.
        let started = Instant::now();
        while !Path::new(&training.path("run/curves.svg")).exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "no epoch in a minute");
            std::thread::sleep(Duration::from_millis(20));
        }
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(expected));
        assert!(!metrics(&training.read("run/metrics.csv")).is_empty());
        let (run, data) = (training.path("run"), training.path("data"));
        let output = tnet(&["eval", &run, "--device", "cpu", "--data", &data]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let training = Training::new();
    for (arguments, named) in [
        (["--bond", "0"], "--bond"),
        (["--epochs", "0"], "--epochs"),
        (["--batch-size", "0"], "--batch-size"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--out-factors", "32"], "--out-factors"),
        (["--in-factors", "7,7"], "--in-factors"),
        (["--model", "cnn"], "--model"),
        (["--device", "cuda"], "--device"),
        (["--train-images", "0"], "--train-images"),
        (["--train-images", "61"], "--train-images"),
        (["--validation", "60"], "--validation"),
    ] {
        let output = training.run(&arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(named), "{arguments:?}: {}", stderr(&output));
        assert!(!Path::new(&training.path("run")).exists(), "{arguments:?} left a run folder");
    }
}

#[test]
fn a_device_that_cannot_be_had_is_an_error_that_lists_what_there_is() {
    // No machine has both of these.
    let elsewhere = if cfg!(target_os = "macos") { "dx12" } else { "metal" };
    for device in [elsewhere, "vulkan:4096"] {
        let output = tnet(&["verify", "--device", device]);
        assert_eq!(code(&output), 1);
        let line = error_line(&output);
        assert!(line.contains(&format!("--device {device}")), "{line}");
        assert!(line.contains("this machine has: cpu"), "{line}");
    }
}

#[test]
fn devices_lists_the_cpu_and_says_what_auto_takes() {
    let output = tnet(&["devices"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("cpu"), "{}", stdout(&output));
    assert!(stdout(&output).contains("auto takes "), "{}", stdout(&output));
    let output = tnet(&["devices", "--json"]);
    for line in stdout(&output).lines() {
        let adapter: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(adapter["name"].is_string(), "{line}");
    }
}

#[test]
fn checkpoints_that_are_none_are_refused() {
    let training = Training::new();
    let output = training.run(&["--epochs", "1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let good = fs::read(training.path("run/last.safetensors")).unwrap();
    let data = training.path("data");
    let mut not_finite = good.clone();
    let end = not_finite.len();
    not_finite[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let changed = |from: &str, to: &str| {
        let at = good.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("garbage", vec![0xff; 4096]),
        ("longer", [good.as_slice(), &[0]].concat()),
        ("not_finite", not_finite),
        ("format", changed("format\\\":3", "format\\\":9")),
        ("renamed", changed("first.a", "first.b")),
        ("wider", changed("bond\\\":1", "bond\\\":9")),
    ] {
        let file = training.path(&format!("{name}.safetensors"));
        fs::write(&file, bytes).unwrap();
        let output = tnet(&["eval", &file, "--device", "cpu", "--data", &data]);
        assert_eq!(code(&output), 1, "{name}: {}", stderr(&output));
        assert!(error_line(&output).contains(&file), "{name}: {}", stderr(&output));
    }
    let output = tnet(&["eval", &training.path("nowhere"), "--device", "cpu", "--data", &data]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("nowhere"));
}

#[test]
fn verify_reports_every_case_and_fails_where_a_number_is_off() {
    let output = tnet(&["verify", "--device", "cpu", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).lines().count() > 10);
    for line in stdout(&output).lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        for name in ["y", "da", "dc", "dbias", "dx"] {
            let distance = case[name].as_f64().unwrap();
            assert!((0.0..=1e-5).contains(&distance), "{line}");
        }
    }

    let folder = tempdir().unwrap();
    let file = folder.path().join("case.safetensors");
    let run = || tnet(&["verify", "--device", "cpu", "--cases", folder.path().to_str().unwrap()]);
    common::case_file(&file, 0.0);
    let output = run();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("pass"), "{}", stdout(&output));

    common::case_file(&file, 1e-3);
    let output = run();
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("FAIL"), "{}", stdout(&output));
    assert!(error_line(&output).contains("1 of 1 cases"), "{}", stderr(&output));

    fs::write(&file, b"no safetensors").unwrap();
    let output = run();
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("case.safetensors"), "{}", stderr(&output));
    fs::remove_file(&file).unwrap();
    assert_eq!(code(&run()), 1);
}

/// The executable on the Vulkan adapter.
mod vulkan {
    use super::*;

    #[test]
    fn a_training_learns_what_it_learns_on_the_cpu() {
        if common::open("vulkan").is_none() {
            return;
        }
        let training = Training::new();
        let accuracy = |device: &str| {
            let run = training.path(device);
            let output = training
                .run(&["--device", device, "--epochs", "12", "--lr", "0.005", "--out", &run]);
            assert_eq!(code(&output), 0, "{}", stderr(&output));
            assert!(stderr(&output).contains(&format!("device: {device}")), "{}", stderr(&output));
            metrics(&training.read(&format!("{device}/metrics.csv"))).last().unwrap()[4]
        };
        // The set's classes are easy to tell apart: both learn them all, from different random
        // numbers.
        assert_eq!(accuracy("cpu"), 1.0);
        assert_eq!(accuracy("vulkan"), 1.0);
    }

    #[test]
    fn verify_passes_and_names_a_software_adapter() {
        let Some(opened) = common::open("vulkan") else { return };
        let output = tnet(&["verify", "--device", "vulkan"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains(&opened.description), "{}", stderr(&output));
        assert_eq!(stderr(&output).contains("is software"), opened.remark.is_some());
    }
}
