//! `tnet-gpu eval`: what it says of a checkpoint, on which data, and which files it refuses.

use std::fs;

use std::path::Path;

use crate::common::data::{files, write_files};
use crate::common::executable::{Training, code, error_line, metrics, stderr, stdout, tnet};

/// The checkpoint is the trained network: its accuracy and loss are those of the last epoch.
#[test]
fn a_run_and_its_checkpoint_have_the_accuracy_of_the_last_epoch() {
    let training = Training::new();
    let output = training.run(&["--bond", "2", "--out-factors", "4,4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let rows = metrics(&training.read("run/metrics.csv"));
    let last = rows.last().unwrap();

    let output = training.eval("run", &["--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["epoch"], 2);
    // metrics.csv has six digits.
    assert!((line["loss"].as_f64().unwrap() - last[3]).abs() < 1e-5, "{line} {last:?}");
    assert!((line["accuracy"].as_f64().unwrap() - last[4]).abs() < 1e-5, "{line} {last:?}");

    let output = training.eval("run/last.safetensors", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("test accuracy: {:.4}", last[4])));
}

#[test]
fn files_that_are_no_checkpoints_are_refused() {
    let training = Training::new();
    let output = training.run(&["--epochs", "1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let good = fs::read(training.path("run/last.safetensors")).unwrap();
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
        ("format", changed("format\\\":4", "format\\\":9")),
        ("renamed", changed("mps1.a", "mps1.b")),
        ("wider", changed("bond\\\":1", "bond\\\":9")),
    ] {
        let name = format!("{name}.safetensors");
        let file = training.path(&name);
        fs::write(&file, bytes).unwrap();
        let output = training.eval(&name, &[]);
        assert_eq!(code(&output), 1, "{name}: {}", stderr(&output));
        assert!(error_line(&output).contains(&file), "{name}: {}", stderr(&output));
    }
    let output = training.eval("nowhere", &[]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("nowhere"));
}

/// A run that tells its classes apart, and beside its data a set whose labels are turned round.
fn with_another_set() -> (Training, String) {
    let training = Training::new();
    let output = training.run(&["--epochs", "12", "--lr", "0.005", "--out-factors", "8,8"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(metrics(&training.read("run/metrics.csv")).last().unwrap()[4], 1.0);
    let mut set = files();
    for name in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        set.get_mut(name).unwrap()[8..].iter_mut().for_each(|label| *label = (*label + 1) % 3);
    }
    let other = training.path("other");
    write_files(Path::new(&other), &set);
    (training, other)
}

#[test]
fn a_run_is_measured_on_its_own_data() {
    let (training, other) = with_another_set();
    for name in ["run", "run/last.safetensors"] {
        let path = training.path(name);
        let mut command = crate::common::executable::command(&["eval", &path, "--device", "cpu"]);
        // Where data is found otherwise.
        let output = command.env("TNET_DATA", &other).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stdout(&output).contains("test accuracy: 1.0000"), "{}", stdout(&output));
        let data = format!("data: {} (", training.path("data"));
        assert!(stderr(&output).contains(&data), "{}", stderr(&output));
    }
}

#[test]
fn another_data_set_is_measured_on_only_when_asked_for_and_is_told() {
    let (training, other) = with_another_set();
    let run = training.path("run");
    let eval = |more: &[&str]| tnet(&[&["eval", &run, "--device", "cpu"], more].concat());
    let said = format!("{other} is not the data set of {run}/last.safetensors: its test images");

    let output = eval(&["--data", &other]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("test accuracy: 0.0000"), "{}", stdout(&output));
    assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    for (data, own) in [(&other, false), (&training.path("data"), true)] {
        let output = eval(&["--data", data, "--json"]);
        let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&line["own_data"], &line["data"]), (&own.into(), &data.as_str().into()));
        assert_eq!(stderr(&output).contains("is not the data set"), !own, "{}", stderr(&output));
    }

    // The run's own folder has another set now; and a checkpoint on its own, where another set is found.
    let alone = training.path("alone.safetensors");
    fs::copy(training.path("run/last.safetensors"), &alone).unwrap();
    let mut command = crate::common::executable::command(&["eval", &alone, "--device", "cpu"]);
    let found = command.env("TNET_DATA", &other).output().unwrap();
    fs::remove_dir_all(training.path("data")).unwrap();
    fs::rename(&other, training.path("data")).unwrap();
    for output in [found, eval(&[])] {
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains("is not the data set of") && line.contains("--data"), "{line}");
    }
    // It is gone.
    fs::remove_dir_all(training.path("data")).unwrap();
    for output in [eval(&[]), training.resume(&["--epochs", "13"])] {
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains(&training.path("data")) && line.contains("--data DIR"), "{line}");
    }
}
