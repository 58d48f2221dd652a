//! A training that is stopped goes on as if it had not been.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::{TempDir, tempdir};
use tnet_gpu::Error;
use tnet_gpu::data::fashion_mnist;
use tnet_gpu::model::{ClassifierConfig, FirstLayer};
use tnet_gpu::mps::MpsInit;
use tnet_gpu::train::{
    self, Conduct, EpochMetrics, Observer, RunFolder, Splits, StepReport, StopFlag, TrainConfig,
    run,
};

use burn::tensor::Device;

use crate::cli::{Training, code, command, error_line, stderr, stdout};
use crate::common;

mod on {
    use super::stopped_and_resumed_is_straight_to_the_bit;

    on_each_device!(stopped_and_resumed_is_straight_to_the_bit);
}

/// Kills of a training that saves every step, in each run of the tests.
const KILLS: usize = 10;

/// As many as are promised.
const ALL_KILLS: usize = 200;

/// Four epochs of ten steps, the last of each a small one.
fn config(model: FirstLayer) -> TrainConfig {
    TrainConfig {
        epochs: 4,
        batch_size: 4,
        lr: 0.012_345_678_901_234_567,
        seed: 7,
        validation: 22,
        classifier: ClassifierConfig {
            model,
            in_factors: [8, 8],
            out_factors: [4, 4],
            bond: 2,
            init: MpsInit::He,
            classes: 3,
        },
    }
}

fn splits() -> Splits {
    let folder = tempdir().unwrap();
    common::write_files(folder.path(), &common::files());
    let data = fashion_mnist::load(Some(folder.path()), &mut |_| {}).unwrap();
    let (train, validation) = data.train.hold_out(22, 7).unwrap();
    Splits { train, validation: Some(validation), test: data.test }
}

/// Asks a training to stop after a number of steps.
struct StopAfter {
    steps: u64,
    signal: Arc<AtomicUsize>,
}

impl Observer for StopAfter {
    fn step(&mut self, _report: &StepReport) {}
    fn epoch(&mut self, _metrics: &EpochMetrics) {}
    fn saved(&mut self, steps: u64) {
        // The step after this one is the last.
        if steps + 1 == self.steps {
            self.signal.store(2, Ordering::Relaxed);
        }
    }
}

/// Trains until `stop` steps were taken, if it is not 0, in one go from what the run holds.
fn go(config: &TrainConfig, data: &Splits, device: &Device, path: &Path, stop: u64) {
    let signal = Arc::new(AtomicUsize::new(0));
    let (run, from) = if path.join("last.safetensors").exists() {
        let run = RunFolder::open(path).unwrap();
        let from = run.resume_from().unwrap();
        assert!(from.passed_over.is_none());
        (run, Some(from.checkpoint))
    } else {
        (RunFolder::create(Some(path), "", false).unwrap(), None)
    };
    run.write_config(config).unwrap();
    // To be stopped anywhere, a training is watched at every step.
    let conduct =
        Conduct { stop: StopFlag::from(signal.clone()), save_every: usize::from(stop > 0), from };
    let mut observer = StopAfter { steps: stop, signal };
    let outcome = train::train(config, data, device, &run, conduct, &mut observer);
    match (stop, outcome) {
        (0, Ok(_)) | (1.., Err(Error::Interrupted { signal: 2, .. })) => {}
        (_, outcome) => panic!("stop after {stop}: {outcome:?}"),
    }
}

/// `metrics.csv` without the two columns of time.
fn metrics_without_time(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    let lines = text.lines().map(|line| line.split(',').take(5).collect::<Vec<_>>().join(","));
    lines.collect()
}

fn assert_equal_runs(name: &str, run: &Path, straight: &Path) {
    for file in ["last.safetensors", "best.safetensors"] {
        let [got, expected] = [run, straight].map(|run| fs::read(run.join(file)).unwrap());
        assert!(got == expected, "{name}: {file} differs");
    }
    assert_eq!(metrics_without_time(run), metrics_without_time(straight), "{name}");
}

/// The files are equal, byte for byte: weights, moments, sums, best epoch.
fn stopped_and_resumed_is_straight_to_the_bit(device: &Device) {
    let data = splits();
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for model in [FirstLayer::Mps, FirstLayer::Dense] {
        let config = config(model);
        let straight = at(&format!("{model:?}"));
        go(&config, &data, device, &straight, 0);
        assert_eq!(metrics_without_time(&straight).len(), 5);
        assert_eq!(run::newest(&straight).unwrap().checkpoint.state.steps, 40);

        let stops: &[&[u64]] = match model {
            FirstLayer::Mps => &[&[1], &[7], &[13], &[20], &[39], &[1, 7, 13, 20, 39]],
            FirstLayer::Dense => &[&[7]],
        };
        for stops in stops {
            let run = at(&format!("{model:?}{stops:?}"));
            for &stop in *stops {
                go(&config, &data, device, &run, stop);
                assert_eq!(run::newest(&run).unwrap().checkpoint.state.steps, stop);
            }
            go(&config, &data, device, &run, 0);
            assert_equal_runs(&format!("{model:?}, stopped after {stops:?}"), &run, &straight);
        }
    }
    // Two more with the same seed: the same checksum, three times.
    let config = config(FirstLayer::Mps);
    for again in ["second", "third"] {
        go(&config, &data, device, &at(again), 0);
        assert_equal_runs(again, &at(again), &at("Mps"));
    }
}

/// A training of the executable that takes a while, and saves every step.
struct Long {
    training: Training,
    run: PathBuf,
}

/// Steps an epoch: 60 images, 4 a step.
const STEPS: u64 = 15;

impl Long {
    fn new() -> Self {
        let training = Training::new();
        let run = PathBuf::from(training.path("run"));
        Self { training, run }
    }

    const OPTIONS: [&str; 8] =
        ["--epochs", "100000", "--batch-size", "4", "--out-factors", "4,4", "--save-every", "1"];

    fn command(&self) -> std::process::Command {
        let data = self.training.path("data");
        let mut arguments = vec!["train", "--device", "cpu", "--data", &data];
        arguments.extend(["--out", self.run.to_str().unwrap()]);
        arguments.extend(Self::OPTIONS);
        command(&arguments)
    }

    fn resume(&self) -> std::process::Command {
        command(&["train", "--resume", self.run.to_str().unwrap()])
    }

    fn steps(&self) -> u64 {
        run::newest(&self.run).unwrap().checkpoint.state.steps
    }
}

fn quiet(mut command: std::process::Command) -> std::process::Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(unix)]
fn kill_and_resume(kills: usize) {
    let long = Long::new();
    let mut random = ChaCha8Rng::seed_from_u64(200);
    let mut child = quiet(long.command());
    wait_for("the first checkpoint", || long.run.join("last.safetensors").exists());
    let mut before = 0;
    for kill in 0..kills {
        // From a start that has not read the checkpoint yet to some hundred steps.
        std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % 250_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let steps = long.steps();
        // One is lost where it was killed between two renames.
        assert!(steps + 1 >= before, "kill {kill}: {before} steps became {steps}");
        before = steps;
        child = quiet(long.resume());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    eprintln!("{kills} kills in {before} steps");

    // The last resume ends well, and what all of these processes trained is what one would have.
    let epochs = (long.steps() / STEPS + 2).to_string();
    let data = long.training.path("data");
    let output = command(&["train", "--resume", long.run.to_str().unwrap(), "--epochs", &epochs])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let straight = long.training.path("straight");
    let mut arguments = vec!["train", "--device", "cpu", "--data", &data, "--out", &straight];
    arguments.extend(Long::OPTIONS);
    arguments[8] = &epochs;
    arguments.truncate(arguments.len() - 2);
    let output = command(&arguments).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let [got, expected] = [&long.run, Path::new(&straight)]
        .map(|run| fs::read(run.join("last.safetensors")).unwrap());
    assert!(got == expected, "{epochs} epochs in {kills} pieces differ from one");
    assert_eq!(metrics_without_time(&long.run), metrics_without_time(Path::new(&straight)));
    let left: Vec<_> = fs::read_dir(&long.run).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[cfg(unix)]
#[test]
fn a_killed_training_resumes() {
    kill_and_resume(KILLS);
}

#[cfg(unix)]
#[test]
#[ignore = "takes a minute or two: cargo test --release -- --ignored"]
fn two_hundred_killed_trainings_resume() {
    kill_and_resume(ALL_KILLS);
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_goes_on_inside_its_epoch() {
    for (signal, expected) in [("INT", 130), ("TERM", 143)] {
        let long = Long::new();
        let child = long.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("an epoch", || long.run.join("curves.svg").exists());
        let kill = ["-s", signal, &child.id().to_string()];
        assert!(std::process::Command::new("kill").args(kill).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), expected);
        let resume = format!("resume with: tnet-gpu train --resume {}", long.run.display());
        assert!(error_line(&output).ends_with(&resume), "{}", stderr(&output));

        let steps = long.steps();
        let epochs = (steps / STEPS + 1).to_string();
        let run = long.run.to_str().unwrap();
        let output = command(&["train", "--resume", run, "--epochs", &epochs]).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("resuming"), "{}", stderr(&output));
        assert!(stdout(&output).contains(&format!("after epoch {epochs}")), "{}", stdout(&output));
        let lines = metrics_without_time(&long.run);
        assert_eq!(lines.len().to_string(), (steps / STEPS + 2).to_string());
    }
}

/// A finished run of two epochs.
fn finished() -> (Training, String) {
    let training = Training::new();
    let output = training.run(&["--out-factors", "4,4", "--validation", "10"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let run = training.path("run");
    (training, run)
}

#[test]
fn a_finished_training_takes_more_epochs() {
    let (training, run) = finished();
    let resume =
        |more: &[&str]| command(&[&["train", "--resume", &run], more].concat()).output().unwrap();
    // As many as there are: the summary, and nothing changes.
    let before = fs::read(training.path("run/last.safetensors")).unwrap();
    let output = resume(&[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("after epoch 2"), "{}", stdout(&output));
    assert!(before == fs::read(training.path("run/last.safetensors")).unwrap());

    let output = resume(&["--epochs", "4", "--batch-size", "16", "--device", "cpu"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(training.read("run/config.toml").contains("epochs = 4"));
    let straight = training.path("straight");
    let options = ["--out-factors", "4,4", "--validation", "10", "--epochs", "4"];
    let output = training.run(&[&options[..], &["--out", &straight]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    // `best` says of how many epochs it is: of two here, where it was found before there were four.
    let [got, expected] = [&run, &straight].map(|run| Path::new(run).join("last.safetensors"));
    assert!(fs::read(got).unwrap() == fs::read(expected).unwrap());
    assert_eq!(metrics_without_time(Path::new(&run)), metrics_without_time(Path::new(&straight)));
    assert!(training.read("run/log.txt").matches("training").count() > 1, "the log was replaced");
}

#[test]
fn options_that_would_change_the_training_are_refused() {
    let (training, run) = finished();
    let before = fs::read(training.path("run/last.safetensors")).unwrap();
    for (option, value) in [
        ("--model", "dense"),
        ("--bond", "2"),
        ("--out-factors", "8,2"),
        ("--in-factors", "4,16"),
        ("--init", "glorot"),
        ("--batch-size", "8"),
        ("--lr", "0.002"),
        ("--seed", "7"),
        ("--validation", "11"),
        ("--train-images", "30"),
        ("--epochs", "1"),
    ] {
        let output = command(&["train", "--resume", &run, option, value]).output().unwrap();
        assert_eq!(code(&output), 2, "{option}: {}", stderr(&output));
        assert!(error_line(&output).contains(&format!("{option}: ")), "{}", stderr(&output));
    }
    for other in [["--out", "elsewhere"], ["--exist-ok", "--epochs=4"]] {
        let output = command(&[&["train", "--resume", &run], &other[..]].concat()).output();
        let output = output.unwrap();
        assert_eq!(code(&output), 2, "{other:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
    }
    assert!(before == fs::read(training.path("run/last.safetensors")).unwrap());
}

#[test]
fn the_data_may_move_but_not_change() {
    let (training, run) = finished();
    let moved = training.path("moved");
    fs::rename(training.path("data"), &moved).unwrap();
    let resume = |more: &[&str]| {
        command(&[&["train", "--resume", &run, "--epochs", "3"], more].concat()).output().unwrap()
    };
    let output = resume(&[]);
    assert_eq!(code(&output), 1);
    error_line(&output);
    let output = resume(&["--data", &moved]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let mut files = common::files();
    *files.get_mut("train-images-idx3-ubyte").unwrap().last_mut().unwrap() ^= 1;
    let other = training.path("other");
    common::write_files(Path::new(&other), &files);
    let output = command(&["train", "--resume", &run, "--epochs", "4", "--data", &other]).output();
    let output = output.unwrap();
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("not the data set"), "{}", stderr(&output));
}

#[test]
fn an_existing_run_is_replaced_only_when_asked() {
    let (training, run) = finished();
    let output = training.run(&["--epochs", "1"]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("--exist-ok"), "{}", stderr(&output));
    let output = training.run(&["--epochs", "1", "--exist-ok"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(metrics_without_time(Path::new(&run)).len(), 2);
    assert!(!Path::new(&run).join("best.safetensors").exists(), "the old run's best is left");

    // A folder that holds something else is never taken.
    let other = TempDir::new_in(training.folder.path()).unwrap();
    fs::write(other.path().join("thesis.tex"), "precious").unwrap();
    let output = training.run(&["--out", other.path().to_str().unwrap(), "--exist-ok"]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("not empty"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
}

/// The executable on the Vulkan adapter.
mod vulkan {
    use super::*;

    #[test]
    fn a_run_may_change_its_device_and_says_so() {
        if common::open("vulkan").is_none() {
            return;
        }
        let (_training, run) = finished();
        let resume = ["train", "--resume", &run, "--epochs", "3", "--device", "vulkan"];
        let output = command(&resume).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("not to the bit"), "{}", stderr(&output));
        // Its device is the new one from now on.
        let output = command(&["train", "--resume", &run, "--epochs", "4"]).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("device: vulkan"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("not to the bit"), "{}", stderr(&output));
    }
}
