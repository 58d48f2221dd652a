//! A training run that is stopped resumes as if it had not been.

use std::fs;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(unix)]
use std::time::Duration;

use burn::tensor::Device;
#[cfg(unix)]
use rand::{Rng, SeedableRng};
#[cfg(unix)]
use rand_chacha::ChaCha8Rng;
use tempfile::{TempDir, tempdir};
use tnet_gpu::Error;
use tnet_gpu::data::{Resident, fashion_mnist};
use tnet_gpu::net::{self, Model, Snapshot};
use tnet_gpu::train::checkpoint::Checkpoint;
use tnet_gpu::train::{
    self, Conduct, EpochMetrics, Observer, RateSchedule, Recipe, RunFolder, Splits, StepReport,
    StopFlag, TrainConfig, run,
};

use crate::common::data::{files, write_files};
use crate::common::executable::{
    Training, assert_no_temporaries, code, command, error_line, metrics_without_time, stderr,
    stdout,
};
#[cfg(unix)]
use crate::common::running::Running;
use crate::common::{self, stack};

mod on {
    use super::stopped_and_resumed_is_straight_to_the_bit;

    on_each_device!(stopped_and_resumed_is_straight_to_the_bit);
}

/// Kills of a training run that saves every step, in every run of the tests.
#[cfg(unix)]
const KILLS: usize = 10;

/// Kills that docs/reliability.md promises.
#[cfg(unix)]
const ALL_KILLS: usize = 200;

/// Convolutions of cores and of a matrix, pooling, a chain.
const CONVOLUTIONS: &str = r#"
input = [1, 8, 8]
[[layers]]
kind = "conv2d"
out = [2, 2]
kernel = [3, 3]
padding = 1
bond = 2
[[layers]]
kind = "relu"
[[layers]]
kind = "maxpool"
kernel = [2, 2]
[[layers]]
kind = "conv2d"
out = 6
kernel = [2, 2]
[[layers]]
kind = "dropout"
rate = 0.2
[[layers]]
kind = "mps"
in = [2, 3, 9]
out = [2, 3, 2]
bond = [2, 3]
[[layers]]
kind = "relu"
[[layers]]
kind = "dense"
out = 3
"#;

/// Four epochs of ten steps; the last step of each takes a smaller batch.
fn config(model: Model) -> TrainConfig {
    TrainConfig {
        epochs: 4,
        batch_size: 4,
        lr: 0.012_345_678_901_234_567,
        seed: 7,
        validation: 22,
        ..common::config(stack(model, [8, 8], [4, 4], 2, 3))
    }
}

fn splits() -> Splits {
    let folder = tempdir().unwrap();
    write_files(folder.path(), &files());
    let data = fashion_mnist::load(Some(folder.path()), &mut |_| {}).unwrap();
    let (train, validation) = data.train.hold_out(22, 7).unwrap();
    Splits { train, validation: Some(validation), test: data.test, classes: data.classes }
}

/// Asks a training run to stop after a number of steps.
struct StopAfter {
    steps: u64,
    signal: Arc<AtomicUsize>,
}

impl Observer for StopAfter {
    fn step(&mut self, _report: &StepReport) {}
    fn epoch(&mut self, _metrics: &EpochMetrics) {}
    fn saved(&mut self, steps: u64) {
        // The next step is the last.
        if steps + 1 == self.steps {
            self.signal.store(2, Ordering::Relaxed);
        }
    }
}

/// Trains from what the run holds to its end or, if `stop` is not 0, until that many steps were taken.
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
    // To be stopped at any step, it saves at every step.
    let conduct =
        Conduct { stop: StopFlag::from(signal.clone()), save_every: usize::from(stop > 0), from };
    let mut observer = StopAfter { steps: stop, signal };
    let outcome = train::train(config, data, device, &run, conduct, &mut observer);
    match (stop, outcome) {
        (0, Ok(_)) | (1.., Err(Error::Interrupted { signal: 2, .. })) => {}
        (_, outcome) => panic!("stop after {stop}: {outcome:?}"),
    }
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
    let usual = [Model::Mps, Model::Dense, Model::MpsAll].map(|model| (model, config(model)));
    for (model, config) in usual {
        let straight = at(&format!("{model:?}"));
        go(&config, &data, device, &straight, 0);
        assert_eq!(metrics_without_time(&straight).len(), 5);
        assert_eq!(run::newest(&straight).unwrap().checkpoint.state.steps, 40);

        let stops: &[&[u64]] = match model {
            Model::Mps => &[&[1], &[7], &[13], &[20], &[39], &[1, 7, 13, 20, 39]],
            Model::Dense | Model::MpsAll => &[&[7]],
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
    // Chains and convolutions, whose weights lie otherwise.
    let network = net::file::parse(Path::new("net.toml"), CONVOLUTIONS).unwrap();
    let config_of = TrainConfig { network, ..config(Model::Mps) };
    let (straight, stopped) = (at("convolutions"), at("convolutions, stopped"));
    go(&config_of, &data, device, &straight, 0);
    for stop in [7, 20, 0] {
        go(&config_of, &data, device, &stopped, stop);
    }
    assert_equal_runs("convolutions", &stopped, &straight);
    // The learning rate goes on where it was, the mean of the weights too.
    let none = Recipe::default();
    for (name, recipe) in [
        ("rate", Recipe { schedule: RateSchedule::Cosine, warmup: 1.3, ..none }),
        ("decay", Recipe { weight_decay: 0.3, ..none }),
        ("labels", Recipe { label_smoothing: 0.1, ..none }),
        ("mean", Recipe { average: Some(0.7), ..none }),
    ] {
        let (straight, stopped) = (at(name), at(&format!("{name}, stopped")));
        let changed = TrainConfig { recipe, ..config(Model::Mps) };
        go(&changed, &data, device, &straight, 0);
        for stop in [5, 31] {
            go(&changed, &data, device, &stopped, stop);
        }
        go(&changed, &data, device, &stopped, 0);
        assert_equal_runs(name, &stopped, &straight);
        let [one, other] = [&at("Mps"), &straight].map(|run| run::newest(run).unwrap().checkpoint);
        assert_is_evaluated(&other, &straight, &data, device);
        let [one, other] = [one, other].map(|checkpoint| checkpoint.snapshot().unwrap());
        assert!(one.weights() != other.weights(), "{name}: the recipe changes nothing");
    }
    // Two more runs with the same seed give the same files.
    let config = config(Model::Mps);
    for again in ["second", "third"] {
        go(&config, &data, device, &at(again), 0);
        assert_equal_runs(again, &at(again), &at("Mps"));
    }
}

/// What a checkpoint gives to others is the network that was evaluated: the mean of the weights, where there is one.
fn assert_is_evaluated(checkpoint: &Checkpoint, run: &Path, data: &Splits, device: &Device) {
    let network = checkpoint.snapshot().unwrap().on(device).unwrap();
    let found = train::evaluate(&network, &Resident::new(&data.test, device)).unwrap();
    let lines = metrics_without_time(run);
    let told: Vec<&str> = lines.last().unwrap().split(',').collect();
    assert_eq!(told[3..], [format!("{:.6}", found.loss), format!("{:.6}", found.accuracy)]);
    let raw = checkpoint.state.weights.iter().map(|weight| weight.values.clone()).collect();
    let raw = Snapshot::new(checkpoint.config.network.clone(), raw).unwrap();
    let averages = checkpoint.config.recipe.average.is_some();
    assert_eq!(raw.weights() != checkpoint.snapshot().unwrap().weights(), averages);
}

/// A training run of the executable that takes a while, and saves every step.
#[cfg(unix)]
struct Long {
    training: Training,
    run: PathBuf,
}

/// Steps per epoch: 60 images, 4 per step.
#[cfg(unix)]
const STEPS: u64 = 15;

#[cfg(unix)]
impl Long {
    fn new() -> Self {
        let training = Training::new();
        let run = PathBuf::from(training.path("run"));
        Self { training, run }
    }

    const OPTIONS: [&str; 8] =
        ["--epochs", "100000", "--batch-size", "4", "--out-factors", "4,4", "--save-every", "1"];

    fn command(&self) -> Command {
        self.training.command(&Self::OPTIONS)
    }

    fn resume(&self) -> Command {
        command(&["train", "--resume", self.run.to_str().unwrap()])
    }

    /// Steps of the newest checkpoint.
    fn steps(&self) -> u64 {
        run::newest(&self.run).unwrap().checkpoint.state.steps
    }
}

#[cfg(unix)]
fn kill_and_resume(kills: usize) {
    let long = Long::new();
    let mut random = ChaCha8Rng::seed_from_u64(200);
    let mut running = Running::quiet(long.command());
    running.wait_for("checkpoint", || long.run.join("last.safetensors").exists());
    let mut before = 0;
    for kill in 0..kills {
        // Every other process is killed while it starts, perhaps before it has read the checkpoint, the
        // rest after some steps. The pause only varies what the process is doing then; nothing is
        // expected of its length.
        let more = if kill % 2 == 0 { 0 } else { 1 + u64::from(random.next_u32() % 30) };
        let longest = if more == 0 { 150_000 } else { 5_000 };
        running.wait_for("further step", || more == 0 || long.steps() >= before + more);
        std::thread::sleep(Duration::from_micros(u64::from(random.next_u32() % longest)));
        running.kill();
        let steps = long.steps();
        // One step is lost where it was killed between two renames.
        assert!(steps + 1 >= before + more, "kill {kill}: {before} + {more} steps became {steps}");
        before = steps;
        running = Running::quiet(long.resume());
    }
    running.kill();
    eprintln!("{kills} kills in {before} steps");

    // One more resume ends well, and all of these processes together trained what one would have.
    let epochs = (long.steps() / STEPS + 2).to_string();
    let output = long.training.resume(&["--epochs", &epochs]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let straight = long.training.path("straight");
    let options = ["--epochs", &epochs, "--batch-size", "4", "--out-factors", "4,4"];
    let output = long.training.run(&[&options[..], &["--out", &straight]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let [got, expected] = [&long.run, Path::new(&straight)]
        .map(|run| fs::read(run.join("last.safetensors")).unwrap());
    assert!(got == expected, "{epochs} epochs in {kills} pieces differ from one");
    assert_eq!(metrics_without_time(&long.run), metrics_without_time(Path::new(&straight)));
    assert_no_temporaries(&long.run);
}

#[cfg(unix)]
#[test]
fn a_killed_training_run_resumes() {
    kill_and_resume(KILLS);
}

#[cfg(unix)]
#[test]
#[ignore = "takes a minute or two: cargo test --release -- --ignored"]
fn two_hundred_killed_training_runs_resume() {
    kill_and_resume(ALL_KILLS);
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_run_resumes_inside_its_epoch() {
    for (signal, expected) in [("INT", 130), ("TERM", 143)] {
        let long = Long::new();
        let mut running = Running::start(long.command());
        running.wait_for("epoch", || long.run.join("curves.svg").exists());
        let output = running.interrupt(signal);
        assert_eq!(code(&output), expected, "{}", stderr(&output));
        let resume = format!("resume with: tnet-gpu train --resume {}", long.run.display());
        assert!(error_line(&output).ends_with(&resume), "{}", stderr(&output));

        let steps = long.steps();
        let epochs = (steps / STEPS + 1).to_string();
        let output = long.training.resume(&["--epochs", &epochs]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("resuming"), "{}", stderr(&output));
        assert!(stdout(&output).contains(&format!("after epoch {epochs}")), "{}", stdout(&output));
        let lines = metrics_without_time(&long.run);
        assert_eq!(lines.len().to_string(), (steps / STEPS + 2).to_string());
    }
}

#[test]
fn a_finished_run_takes_more_epochs() {
    let training = Training::finished();
    // With the same number of epochs it prints the summary and changes nothing.
    let before = fs::read(training.path("run/last.safetensors")).unwrap();
    let output = training.resume(&[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("after epoch 2"), "{}", stdout(&output));
    assert!(before == fs::read(training.path("run/last.safetensors")).unwrap());

    let output = training.resume(&["--epochs", "4", "--batch-size", "16", "--device", "cpu"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(training.read("run/config.toml").contains("epochs = 4"));
    let [run, straight] = ["run", "straight"].map(|name| training.path(name));
    let options = ["--out-factors", "4,4", "--validation", "10", "--epochs", "4"];
    let output = training.run(&[&options[..], &["--out", &straight]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    // `best.safetensors` differs: it names the number of epochs, two when it was written here.
    let [got, expected] = [&run, &straight].map(|run| Path::new(run).join("last.safetensors"));
    assert!(fs::read(got).unwrap() == fs::read(expected).unwrap());
    assert_eq!(metrics_without_time(Path::new(&run)), metrics_without_time(Path::new(&straight)));
    assert!(training.read("run/log.txt").matches("training").count() > 1, "the log was replaced");
}

/// The CPU device has the same bits on any number of threads, and a run that resumes on another says nothing.
#[test]
fn a_run_resumes_on_another_number_of_threads() {
    let training = Training::new();
    let [run, straight] = ["run", "straight"].map(|name| training.path(name));
    // Large enough for the kernels to fork.
    let options = ["--out-factors", "32,16", "--bond", "2", "--batch-size", "60"];
    for (epochs, out) in [("1", &run), ("3", &straight)] {
        let more = ["--epochs", epochs, "--out", out];
        let mut command = training.command(&[&options[..], &more].concat());
        let output = command.env("RAYON_NUM_THREADS", "1").output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    let mut command = command(&["train", "--resume", &run, "--epochs", "3"]);
    let output = command.env("RAYON_NUM_THREADS", "3").output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("cpu, 3 threads"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("not to the bit"), "{}", stderr(&output));
    let [got, expected] = [&run, &straight].map(|run| Path::new(run).join("last.safetensors"));
    assert!(fs::read(got).unwrap() == fs::read(expected).unwrap());
}

#[test]
fn options_that_would_change_the_run_are_refused() {
    let training = Training::finished();
    let before = fs::read(training.path("run/last.safetensors")).unwrap();
    for (option, value) in [
        ("--model", "dense"),
        ("--bond", "2"),
        ("--hidden", "16,16"),
        ("--dropout", "0.1"),
        ("--out-factors", "8,2"),
        ("--in-factors", "4,16"),
        ("--init", "glorot"),
        ("--batch-size", "8"),
        ("--lr", "0.002"),
        ("--schedule", "cosine"),
        ("--warmup", "1"),
        ("--weight-decay", "0.1"),
        ("--label-smoothing", "0.1"),
        ("--patience", "3"),
        ("--size", "4,4"),
        ("--seed", "7"),
        ("--validation", "11"),
        ("--train-images", "30"),
        ("--epochs", "1"),
    ] {
        let output = training.resume(&[option, value]);
        assert_eq!(code(&output), 2, "{option}: {}", stderr(&output));
        assert!(error_line(&output).contains(&format!("{option}: ")), "{}", stderr(&output));
    }
    for (option, name) in [("--average=0.9", "--average: "), ("--recipe=small", "--recipe: ")] {
        let output = training.resume(&[option]);
        assert_eq!(code(&output), 2, "{option}: {}", stderr(&output));
        assert!(error_line(&output).contains(name), "{}", stderr(&output));
    }
    for other in [["--out", "elsewhere"], ["--exist-ok", "--epochs=4"]] {
        let output = training.resume(&other);
        assert_eq!(code(&output), 2, "{other:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
    }
    assert!(before == fs::read(training.path("run/last.safetensors")).unwrap());
}

/// Ended by its patience, a run stays ended; stopped in between, it ends at the same epoch with the same bits.
#[test]
fn a_run_ends_when_its_patience_does() {
    let (data, device) = (splits(), Device::flex());
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recipe = Recipe { patience: Some(2), ..Recipe::default() };
    let config = TrainConfig { epochs: 60, recipe, ..config(Model::Mps) };
    go(&config, &data, &device, &at("straight"), 0);
    let ended = run::newest(&at("straight")).unwrap().checkpoint;
    let (best, _) = ended.best.unwrap();
    assert_eq!(ended.epoch, best + 2);
    assert!(ended.epoch < 60, "the test needs a run that ends early");
    go(&config, &data, &device, &at("stopped"), 15);
    go(&config, &data, &device, &at("stopped"), 0);
    assert_equal_runs("patience", &at("stopped"), &at("straight"));
    go(&config, &data, &device, &at("stopped"), 0);
    assert_equal_runs("patience, resumed at its end", &at("stopped"), &at("straight"));

    let training = Training::new();
    let options =
        ["--out-factors", "4,4", "--validation", "20", "--patience", "1", "--epochs", "60"];
    let output = training.run(&options);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains(" of 60: no better on the held-out images for 1 epoch"), "{said}");
    let output = training.run(&["--patience", "1", "--exist-ok"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
}

/// Its learning rate would have been another from the first step on.
#[test]
fn a_run_whose_rate_falls_is_not_extended() {
    let training = Training::new();
    let output = training.run(&["--out-factors", "4,4", "--schedule", "cosine", "--warmup", "0.5"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let files = || {
        ["config.toml", "last.safetensors"]
            .map(|file| fs::read(training.path(&format!("run/{file}"))).unwrap())
    };
    let before = files();
    let output = training.resume(&["--epochs", "4"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(
        line.contains("--epochs: 4: the learning rate of the run falls over 2 epochs"),
        "{line}"
    );
    assert!(before == files());
    let output = training.run(&["--warmup", "3", "--exist-ok"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(error_line(&output).contains("--warmup: 3: expected 0 to 2, the epochs"));
    assert!(before == files());
}

#[test]
fn the_data_may_move_but_not_change() {
    let training = Training::finished();
    let moved = training.path("moved");
    fs::rename(training.path("data"), &moved).unwrap();
    let output = training.resume(&["--epochs", "3"]);
    assert_eq!(code(&output), 1);
    error_line(&output);
    let output = training.resume(&["--epochs", "3", "--data", &moved]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let mut files = files();
    *files.get_mut("train-images-idx3-ubyte").unwrap().last_mut().unwrap() ^= 1;
    let other = training.path("other");
    write_files(Path::new(&other), &files);
    let output = training.resume(&["--epochs", "4", "--data", &other]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("not the data set"), "{}", stderr(&output));
}

#[test]
fn an_existing_run_is_replaced_only_when_asked() {
    let training = Training::finished();
    let output = training.run(&["--epochs", "1"]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("--exist-ok"), "{}", stderr(&output));
    let output = training.run(&["--epochs", "1", "--exist-ok"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let run = training.path("run");
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
        let training = Training::finished();
        let output = training.resume(&["--epochs", "3", "--device", "vulkan"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("not to the bit"), "{}", stderr(&output));
        // The new device is the run's from now on.
        let output = training.resume(&["--epochs", "4"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("device: vulkan"), "{}", stderr(&output));
        assert!(!stderr(&output).contains("not to the bit"), "{}", stderr(&output));
    }
}
