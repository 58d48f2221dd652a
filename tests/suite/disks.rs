//! Disks and systems that are not like most: no syncs, no locks, few threads, little memory.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tnet_gpu::train::run;

use crate::common::data::{gzip, idx};
use crate::common::executable::{
    Training, code, command, error_line, isolated, metrics_without_time, stderr, stdout,
};
use crate::common::faulty::system;
use crate::common::running::Running;

const EIO: i32 = 5;
const EINVAL: i32 = 22;
const ENOLCK: i32 = 37;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

/// A training run on a system where one variable of `system.c` is set.
fn trained(training: &Training, variable: &str, value: i32, name: &str) -> Option<Output> {
    let run = training.path(name);
    let mut command = training.command(&["--out", &run, "--out-factors", "4,4"]);
    command.env(variable, value.to_string());
    Some(system(&mut command)?.output().unwrap())
}

/// Lines on standard error that have this text.
fn lines<'a>(text: &'a str, with: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.contains(with)).collect()
}

#[test]
fn a_disk_without_syncs_is_trained_on_and_said_once() {
    let training = Training::new();
    for (variable, value) in [
        ("TNET_TEST_FSYNC", EINVAL),
        ("TNET_TEST_FSYNC", EOPNOTSUPP),
        ("TNET_TEST_FSYNC_FILE", EINVAL),
    ] {
        let name = format!("{variable}{value}");
        let Some(output) = trained(&training, variable, value, &name) else { return };
        assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
        let text = stderr(&output);
        let said = lines(&text, "a power failure may undo");
        assert!(said.len() == 1 && said[0].contains(&training.path(&name)), "{name}: {text}");
        assert_eq!(run::newest(Path::new(&training.path(&name))).unwrap().checkpoint.epoch, 2);
    }
    // On a disk that has them, nothing is said.
    let output = training.run(&["--out-factors", "4,4"]);
    assert!(lines(&stderr(&output), "power failure").is_empty(), "{}", stderr(&output));
}

#[test]
fn a_disk_that_fails_to_sync_is_an_error_and_leaves_no_run_folder() {
    let training = Training::new();
    for variable in ["TNET_TEST_FSYNC", "TNET_TEST_FSYNC_FILE"] {
        let Some(output) = trained(&training, variable, EIO, "run") else { return };
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains("Input/output error"), "{line}");
        assert!(!Path::new(&training.path("run")).exists(), "a run folder is left");
    }
}

#[test]
fn a_disk_without_locks_is_trained_on_and_said_once() {
    let training = Training::new();
    for value in [ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL] {
        let name = format!("run{value}");
        let Some(output) = trained(&training, "TNET_TEST_FLOCK", value, &name) else { return };
        assert_eq!(code(&output), 0, "{value}: {}", stderr(&output));
        let text = stderr(&output);
        assert_eq!(lines(&text, "nothing keeps a second process").len(), 1, "{value}: {text}");
    }
    let Some(output) = trained(&training, "TNET_TEST_FLOCK", EIO, "run") else { return };
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("cannot lock"), "{}", stderr(&output));
    assert!(!Path::new(&training.path("run")).exists(), "a run folder is left");
}

/// With any number of threads that a training run starts on a machine of two processors, it gives the same network.
#[test]
fn few_threads_are_enough_and_said_in_one_line() {
    let training = Training::new();
    // Large enough for the kernels to fork.
    let options = ["--out-factors", "32,16", "--batch-size", "60"];
    let straight = training.path("straight");
    let output = training.run(&[&options[..], &["--out", &straight]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for threads in ["0", "1", "2", "3", "5"] {
        let run = training.path(threads);
        let mut command = training.command(&[&options[..], &["--out", &run]].concat());
        command.env("TNET_TEST_THREADS", threads).env("RAYON_NUM_THREADS", "4");
        let Some(command) = system(&mut command) else { return };
        let output = command.output().unwrap();
        let text = stderr(&output);
        assert_eq!(code(&output), 0, "{threads}: {text}");
        let said = lines(&text, "threads could be started");
        assert_eq!(said.len(), 1, "{threads}: {text}");
        assert!(said[0].starts_with(&format!("only {threads} of ")), "{text}");
        let [run, straight] = [&run, &straight].map(Path::new);
        assert_eq!(metrics_without_time(run), metrics_without_time(straight), "{threads}");
        let [got, expected] = [run, straight].map(|run| fs::read(run.join("last.safetensors")));
        assert!(got.unwrap() == expected.unwrap(), "{threads} threads gave another network");
    }
}

/// An adapter's driver and Burn's queues need threads that cannot be done without.
#[test]
fn too_few_threads_for_an_adapter_are_told_as_such() {
    if crate::common::open("vulkan").is_none() {
        return;
    }
    let training = Training::new();
    for threads in ["0", "3"] {
        let mut command = training.command(&["--device", "vulkan"]);
        command.env("TNET_TEST_THREADS", threads);
        let Some(command) = system(&mut command) else { return };
        let output = command.output().unwrap();
        if code(&output) == 0 {
            eprintln!("SKIPPED: this driver needs no more than {threads} threads");
            continue;
        }
        assert_eq!(code(&output), 1, "{threads}: {}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains("thread"), "{threads}: {line}");
        assert!(!Path::new(&training.path("run")).exists(), "a run folder is left");
    }
}

/// A command under a limit on its address space, in KiB.
fn with_little_memory(kibibytes: usize, command: &Command) -> Output {
    let script = format!("ulimit -v {kibibytes}; exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    // The stacks of many threads would take what there is.
    isolated(shell.env("RAYON_NUM_THREADS", "2")).output().unwrap()
}

#[test]
fn a_network_larger_than_memory_is_refused_with_both_numbers() {
    let training = Training::new();
    for (options, needed) in [
        // 64 million parameters of 40 bytes each.
        (["--bond", "1000000", "--out-factors", "4,4"], "2.6 GB"),
        (["--hidden", "8000,8000", "--out-factors", "100,80"], "2.6 GB"),
    ] {
        let command = training.command(&options);
        let output = with_little_memory(2_000_000, &command);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        let text = format!("training this network needs {needed} of memory, the address space");
        assert!(line.contains(&text) && line.contains(" GB left"), "{line}");
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
    }
    // What fits is trained under the same limit.
    let output = with_little_memory(2_000_000, &training.command(&["--out-factors", "4,4"]));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// Without any limit: what no machine has.
#[test]
fn a_network_larger_than_any_machine_is_refused() {
    let training = Training::new();
    let layers = "\n[[layers]]\nkind = \"dense\"\nout = 40000\n".repeat(40);
    let file = training.path("huge.toml");
    let last = "\n[[layers]]\nkind = \"dense\"\nout = 3\n";
    fs::write(&file, format!("input = [1, 8, 8]\n{layers}{last}")).unwrap();
    let output = training.run(&["--network", &file]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains("training this network needs 2.5 TB of memory, "), "{line}");
    assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
}

/// What no estimate covers ends in one line as well: here data that is larger than it looks.
#[test]
fn memory_that_runs_out_ends_the_program_with_one_line() {
    let training = Training::new();
    let images = gzip(&idx(&[1000, 512, 512], &vec![0; 1000 << 18]));
    fs::write(training.path("data/train-images-idx3-ubyte"), images).unwrap();
    let output = with_little_memory(300_000, &training.command(&[]));
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains("out of memory: the system does not give "), "{line}");
    assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
}

/// Wherever the signal finds it: while it draws, it leaves nothing, and later a run that can be resumed.
#[test]
fn a_signal_ends_a_long_drawing_of_weights_and_leaves_nothing() {
    for (signal, expected) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let training = Training::new();
        // 32 million weights: the better part of a second, in pieces of some milliseconds.
        let options = ["--hidden", "4000,4000,4000", "--out-factors", "80,50"];
        let mut running = Running::start(training.command(&options));
        let config = training.path("run/config.toml");
        running.wait_for("run folder", || Path::new(&config).exists());
        let output = running.interrupt(signal);
        assert_eq!(code(&output), expected, "{}", stderr(&output));
        let line = error_line(&output);
        let resumable = line.contains("resume with: ");
        let nothing = line.contains("before the first checkpoint: nothing is left");
        assert!(line.contains("interrupted by") && nothing != resumable, "{line}");
        if resumable {
            eprintln!("SKIPPED: all weights were drawn before the signal came");
        }
        assert_eq!(Path::new(&training.path("run")).exists(), resumable, "{line}");
    }
}

/// `bench` tells of a row that does not fit and goes on.
#[test]
fn a_row_larger_than_memory_is_told_and_the_next_is_measured() {
    let arguments = [
        "bench",
        "--device",
        "cpu",
        "--bond",
        "1,2000000",
        "--batch",
        "1",
        "--pass",
        "forward",
        "--in-factors",
        "4,4",
        "--out-factors",
        "64,64",
        "--samples",
        "1",
    ];
    let output = with_little_memory(3_000_000, &command(&arguments));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("this row needs ") && text.contains(" of memory, "), "{text}");
}
