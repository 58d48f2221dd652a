//! `tnet-gpu train`: what it prints, what it leaves in the run folder, and what it learns.

use std::fs;
use std::path::Path;

use crate::common;
use crate::common::executable::{Training, code, error_line, metrics, stderr, stdout};
#[cfg(unix)]
use crate::common::running::Running;

#[test]
fn a_training_run_leaves_its_folder() {
    let training = Training::new();
    let output = training.run(&["--bond", "2", "--out-factors", "4,4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for text in ["| mps1 ", "| dense4 ", "| all ", "test accuracy: ", "training time: ", "run: "] {
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
        "kind = \"mps\"",
        "bond = 2",
        "init = \"he\"",
        "out = 3",
    ] {
        assert!(config.contains(text), "{text} in\n{config}");
    }
    assert!(training.read("run/curves.svg").starts_with("<svg"));
    assert!(training.read("run/log.txt").contains("epoch"));
    assert!(!Path::new(&training.path("run/best.safetensors")).exists());
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
    let mut files = common::data::files();
    for name in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        let bytes = files.get_mut(name).unwrap();
        bytes[8..].iter_mut().filter(|label| **label == 2).for_each(|label| *label = 200);
    }
    common::data::write_files(Path::new(&training.path("data")), &files);
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
    let training = Training::unnamed();
    for run in ["runs/mps-bond1-1", "runs/mps-bond1-2"] {
        assert_eq!(metrics(&training.read(&format!("{run}/metrics.csv"))).len(), 1);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_training_run_keeps_what_was_finished() {
    for (signal, expected) in [("INT", 130), ("TERM", 143)] {
        let training = Training::new();
        let mut running = Running::start(training.command(&["--epochs", "1000000"]));
        let curves = training.path("run/curves.svg");
        running.wait_for("epoch", || Path::new(&curves).exists());
        let output = running.interrupt(signal);
        assert_eq!(code(&output), expected, "{}", stderr(&output));
        assert!(!metrics(&training.read("run/metrics.csv")).is_empty());
        let output = training.eval("run", &[]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
}

/// The executable on the Vulkan adapter.
mod vulkan {
    use super::*;

    #[test]
    fn a_training_run_learns_what_it_learns_on_the_cpu() {
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
        // The set's classes are easy to tell apart: both devices learn them all.
        assert_eq!(accuracy("cpu"), 1.0);
        assert_eq!(accuracy("vulkan"), 1.0);
    }
}
