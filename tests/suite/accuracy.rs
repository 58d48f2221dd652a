//! What is learned of the real Fashion-MNIST in two epochs: the accuracy that a user would get.

use std::path::{Path, PathBuf};

use tempfile::tempdir;

use crate::common::executable::{code, command, metrics, stderr};
use crate::common::required;

/// Whether the program would find the data set, without a download. What is wrong with a folder that
/// `$TNET_DATA` names, the program says.
fn is_there() -> bool {
    let named = std::env::var_os("TNET_DATA").is_some_and(|folder| !folder.is_empty());
    let cache = dirs::cache_dir().map(|cache| cache.join("tnet-gpu").join("fashion-mnist"));
    let system = PathBuf::from("/usr/share/datasets/fashion-mnist");
    named || cache.into_iter().chain([system]).any(|folder| is_complete(&folder))
}

fn is_complete(folder: &Path) -> bool {
    let names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"];
    names.iter().all(|name| {
        let plain = folder.join(format!("{name}-ubyte"));
        plain.exists() || plain.with_extension("gz").exists()
    })
}

/// Trains two epochs with the settings of the article and returns the test accuracy after them.
fn test_accuracy(model: &[&str]) -> Option<f64> {
    if !is_there() {
        assert!(!required("TNET_REQUIRE_DATA"), "Fashion-MNIST is not on this machine");
        eprintln!("SKIPPED, THE ACCURACY WAS NOT TESTED: Fashion-MNIST is not on this machine");
        return None;
    }
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = command(&["train", "--epochs", "2", "--seed", "200", "--device", "cpu"]);
    command.args(model).arg("--out").arg(&run);
    if let Some(named) = std::env::var_os("TNET_DATA") {
        command.env("TNET_DATA", named);
    }
    let output = command.output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let rows = metrics(&std::fs::read_to_string(run.join("metrics.csv")).unwrap());
    assert_eq!(rows.len(), 2);
    Some(rows[1][4])
}

#[test]
fn the_tensor_network_of_bond_1_is_right_about_84_of_100_images() {
    if let Some(accuracy) = test_accuracy(&["--model", "mps"]) {
        assert!(accuracy >= 0.84, "{accuracy}");
    }
}

#[test]
fn the_dense_network_is_right_about_83_of_100_images() {
    if let Some(accuracy) = test_accuracy(&["--model", "dense"]) {
        assert!(accuracy >= 0.83, "{accuracy}");
    }
}

/// 10,058 parameters.
#[test]
fn tensor_networks_in_all_hidden_layers_are_right_about_80_of_100_images() {
    if let Some(accuracy) = test_accuracy(&["--model", "mps-all", "--bond", "1,2"]) {
        assert!(accuracy >= 0.80, "{accuracy}");
    }
}
