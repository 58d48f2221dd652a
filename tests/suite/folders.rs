//! Folders as people have them: with macOS's files in them, edited in a spreadsheet, or one level too high or too low.

use std::fs;
use std::path::Path;

use crate::common::cases::{primes, write_case};
use crate::common::executable::{
    Training, code, command, error_line, metrics_without_time, stderr, stdout, tnet,
};

#[test]
fn the_files_of_macos_are_passed_over() {
    let training = Training::new();
    let litter = |folder: &str, names: &[&str]| {
        for name in names {
            fs::write(format!("{folder}/._{name}"), [0, 5, 22, 7]).unwrap();
        }
    };
    litter(&training.path("data"), &["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"]);
    let run = training.path("run");
    fs::create_dir(&run).unwrap();
    litter(&run, &["run", "last.safetensors"]);
    fs::write(format!("{run}/.DS_Store"), "").unwrap();
    let output = training.run(&[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let output = training.resume(&["--epochs", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let cases = training.path("cases");
    fs::create_dir(&cases).unwrap();
    write_case(Path::new(&format!("{cases}/one.safetensors")), primes(), 0.0);
    litter(&cases, &["one.safetensors"]);
    // And one file in place of the folder.
    for cases in [cases.clone(), format!("{cases}/one.safetensors")] {
        let output = tnet(&["verify", "--device", "cpu", "--cases", &cases]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("all 1 cases"), "{}", stderr(&output));
    }
}

/// A byte order mark and other line ends.
#[test]
fn a_run_whose_metrics_a_spreadsheet_has_saved_resumes() {
    let training = Training::finished();
    let lines = metrics_without_time(Path::new(&training.path("run")));
    let text = training.read("run/metrics.csv").replace('\n', "\r\n");
    fs::write(training.path("run/metrics.csv"), format!("\u{feff}{text}")).unwrap();
    let config = training.read("run/config.toml");
    fs::write(training.path("run/config.toml"), format!("\u{feff}{config}")).unwrap();
    let output = training.resume(&["--epochs", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let after = metrics_without_time(Path::new(&training.path("run")));
    assert_eq!((after.len(), &after[..3]), (4, &lines[..]));
    assert!(training.read("run/metrics.csv").starts_with("epoch,"));
}

#[test]
fn a_network_file_with_a_byte_order_mark_is_read() {
    let training = Training::new();
    let output = training.run(&["--print-network", "--out-factors", "4,4"]);
    let file = training.path("network.toml");
    fs::write(&file, format!("\u{feff}{}", stdout(&output).replace('\n', "\r\n"))).unwrap();
    let output = training.run(&["--network", &file]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn what_looks_like_the_expected_is_shown_with_its_difference() {
    let training = Training::finished();
    let good = training.read("run/metrics.csv");
    for (damaged, shown) in [
        (good.replacen("epoch,", "epoch ,", 1), "\"epoch ,train_loss"),
        (good.replacen("epoch,", "epoch\u{200b},", 1), "epoch\\u{200b},"),
        (good.replacen("epoch,", "\u{435}poch,", 1), "\\u{435}poch,"),
    ] {
        fs::write(training.path("run/metrics.csv"), damaged).unwrap();
        let output = training.resume(&["--epochs", "3"]);
        assert_eq!(code(&output), 1);
        let line = error_line(&output);
        let (expected, found) = line.split_once(", found ").unwrap();
        assert!(found.contains(shown), "{shown} in {line}");
        assert!(expected.ends_with("images_per_s\""), "{line}");
    }
}

#[test]
fn a_file_of_a_run_is_taken_for_its_run() {
    let training = Training::finished();
    for (name, epochs) in [("last.safetensors", "3"), ("config.toml", "4"), ("metrics.csv", "5")] {
        let file = training.path(&format!("run/{name}"));
        let output = tnet(&["train", "--resume", &file, "--epochs", epochs]);
        assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
        assert!(stdout(&output).contains(&format!("after epoch {epochs}")), "{name}");
        if name != "last.safetensors" {
            let output = training.eval(&format!("run/{name}"), &[]);
            assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
            assert!(stdout(&output).contains("best.safetensors"), "{name}");
        }
    }
    // Within the folder, where the path has no parent.
    let output = command(&["train", "--resume", "last.safetensors", "--epochs", "6"])
        .current_dir(training.path("run"))
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for name in ["best.safetensors", "previous.safetensors"] {
        let file = training.path(&format!("run/{name}"));
        let output = tnet(&["train", "--resume", &file, "--epochs", "7"]);
        assert_eq!(code(&output), 1, "{name}");
        let line = error_line(&output);
        let told = format!("{} resumes from its newest", training.path("run"));
        assert!(line.contains(&told), "{name}: {line}");
    }
}

#[test]
fn a_folder_of_runs_is_told_from_a_run() {
    let training = Training::unnamed();
    let runs = training.path("runs");
    let outputs = [
        tnet(&["train", "--resume", &runs]),
        training.eval("runs", &[]),
        // And the folder where they were begun.
        training.eval("", &[]),
    ];
    for output in outputs {
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains("a folder of runs; name one of them: "), "{line}");
        for name in ["mps-bond1-1", "mps-bond1-2"] {
            assert!(line.contains(&format!("{runs}/{name}")), "{line}");
        }
    }
}
