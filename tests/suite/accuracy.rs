//! What is learned of the real Fashion-MNIST in two epochs: the accuracy that a user would get.

use tempfile::tempdir;

use crate::common::executable::{code, command, metrics, stderr};
use crate::common::fashion_mnist_is_here;

/// Trains two epochs with the settings of the article and returns the test accuracy after them.
fn test_accuracy(model: &[&str]) -> Option<f64> {
    if !fashion_mnist_is_here() {
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
