//! `tnet-gpu eval`: what it says of a checkpoint, and which files it refuses.

use std::fs;

use crate::common::executable::{Training, code, error_line, metrics, stderr, stdout};

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
