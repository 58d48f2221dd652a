//! What cannot be compared, and what is typed wrong.

use std::fs;
use std::path::Path;

use super::{change_checkpoint, compare, train};
use crate::common::data::{files, write_files};
use crate::common::executable::{Training, code, error_line, stderr, stdout, tnet};

#[test]
fn what_is_no_finished_run_is_refused_and_nothing_is_written() {
    let training = Training::new();
    for (name, more) in [
        ("good", &["--seed", "1"][..]),
        ("runs/x-1", &[]),
        ("short", &[]),
        ("cut", &[]),
        ("lines", &[]),
        ("best", &["--validation", "15"]),
    ] {
        train(&training, name, more);
    }
    change_checkpoint(&training, "short", |checkpoint| checkpoint.config.epochs = 9);
    for name in ["cut/last.safetensors", "best/best.safetensors"] {
        let bytes = fs::read(training.path(name)).unwrap();
        fs::write(training.path(name), &bytes[..bytes.len() - 1]).unwrap();
    }
    let lines = training.read("lines/metrics.csv");
    fs::write(training.path("lines/metrics.csv"), lines.lines().next().unwrap()).unwrap();
    fs::create_dir(training.path("folder")).unwrap();
    fs::write(training.path("file"), "").unwrap();

    for (run, said) in [
        ("short", "found one in epoch 4 of 9"),
        ("cut", "cut/last.safetensors"),
        ("lines", "lines/metrics.csv: line 2"),
        ("best", "best/best.safetensors"),
        ("folder", "folder: run folder"),
        ("nowhere", "nowhere"),
        ("file", "file: run folder: expected a folder"),
        ("runs", "runs/x-1"),
    ] {
        for arguments in
            [&[run, "good"][..], &["good", run], &["--group", &format!("x=good,{run}")]]
        {
            let output = compare(&training, &[arguments, &["--out", "out"]].concat());
            assert_eq!(code(&output), 1, "{run}: {}", stderr(&output));
            let line = error_line(&output);
            assert!(line.contains(said) && line.contains(&training.path(run)), "{line}");
            assert_eq!(stdout(&output), "");
            assert!(!Path::new(&training.path("out")).exists());
        }
    }
}

#[test]
fn the_same_run_twice_and_other_test_images_are_refused() {
    let training = Training::new();
    train(&training, "a-1", &["--seed", "1"]);
    train(&training, "a-2", &["--seed", "2"]);
    for again in ["a-1", "a-1/last.safetensors", "a-2/../a-1"] {
        for arguments in [&["a-1", again][..], &["a-1", "--group", &format!("x=a-2,{again}")]] {
            let output = compare(&training, arguments);
            assert_eq!(code(&output), 2, "{}", stderr(&output));
            let said =
                format!("{} and {} are the same run", training.path("a-1"), training.path(again));
            assert!(error_line(&output).contains(&said), "{}", stderr(&output));
        }
    }

    let mut set = files();
    *set.get_mut("t10k-images-idx3-ubyte").unwrap().last_mut().unwrap() ^= 1;
    write_files(Path::new(&training.path("data")), &set);
    train(&training, "b-1", &[]);
    let output = compare(&training, &["a-1", "a-2", "b-1", "--out", "out"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = error_line(&output);
    let runs = ["a-1", "b-1"].map(|run| training.path(run));
    assert!(line.contains(&format!("{} and {} cannot be compared", runs[0], runs[1])), "{line}");
    assert!(!Path::new(&training.path("out")).exists());

    // A checkpoint of an earlier version does not tell.
    change_checkpoint(&training, "b-1", |checkpoint| checkpoint.test = None);
    let output = compare(&training, &["a-1", "b-1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&format!("{} is of an earlier", runs[1])),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_folder_that_is_not_empty_is_left_as_it_is() {
    let training = Training::new();
    train(&training, "a-1", &[]);
    fs::create_dir(training.path("full")).unwrap();
    fs::write(training.path("full/notes.txt"), "mine").unwrap();
    for (folder, said) in
        [("full", "not empty"), ("full/notes.txt", "notes.txt"), ("a-1", "not empty")]
    {
        let output = compare(&training, &["a-1", "--out", folder]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains(&training.path(folder)) && line.contains(said), "{line}");
        // Nothing was computed for it.
        assert!(!stderr(&output).contains("device: "), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    assert_eq!(training.read("full/notes.txt"), "mine");
    assert_eq!(fs::read_dir(training.path("full")).unwrap().count(), 1);
}

#[test]
fn wrong_arguments_are_told() {
    for arguments in [&[][..], &["--group", "x"], &["--group", "x=a,,b"], &["a", "--device", "tpu"]]
    {
        let output = tnet(&[&["compare"], arguments].concat());
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
    }
}
