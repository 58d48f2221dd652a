//! Faults during a training run, and what is left of the run: full disks, folders that cannot be written,
//! links, a second process, non-finite numbers, lost devices, buffers that are too small. The table in
//! docs/reliability.md names these tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tnet_gpu::data::idx::MAX_BYTES;
use tnet_gpu::train::run;

use crate::common;
use crate::common::data::{Files, gzip, idx, write_files};
use crate::common::executable::{
    Training, assert_no_temporaries, code, command, error_line, isolated, stderr, tnet,
};
#[cfg(unix)]
use crate::common::running::Running;
use crate::networks::CONVOLUTIONS;

/// Runs a command with a limit on file sizes, in blocks of 512 or 1024 bytes, in place of a full disk.
/// The signal that would end the process is ignored, since a full disk sends none.
#[cfg(unix)]
fn with_small_files(blocks: u32, command: &Command) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    isolated(&mut shell).output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one() {
    let training = Training::new();
    // 16 x 8 outputs: a checkpoint of 800 KB; metrics and curves stay below 20 KB.
    let output = training.run(&["--out-factors", "16,8"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let names = ["last.safetensors", "previous.safetensors"];
    let read = || names.map(|name| fs::read(training.path(&format!("run/{name}"))).unwrap());
    let before = read();
    let run = training.path("run");
    let output = with_small_files(100, &command(&["train", "--resume", &run, "--epochs", "3"]));
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains("cannot write") && line.contains("last.safetensors"), "{line}");
    assert!(before == read(), "an old checkpoint was touched");
    assert_no_temporaries(Path::new(&run));
    let output = training.resume(&["--epochs", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// The same on a full disk, where the tests may mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let training = Training::new();
    let disk = training.path("disk");
    fs::create_dir(&disk).unwrap();
    // Two checkpoints of 800 KB fit, a third that is being written does not.
    let mount = ["-t", "tmpfs", "-o", "size=2200k", "tmpfs", &disk];
    match Command::new("mount").args(mount).output() {
        Ok(output) if output.status.success() => {}
        _ => {
            eprintln!("SKIPPED: no tmpfs could be mounted");
            return;
        }
    }
    let run = format!("{disk}/run");
    let output = training.run(&["--out-factors", "16,8", "--out", &run]);
    let newest = run::newest(Path::new(&run));
    let unmounted = Command::new("umount").args(["-l", &disk]).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains("cannot write") && line.contains("No space left"), "{line}");
    // Epoch 1 is there: the checkpoint before the first step and that of epoch 1 fit, and writing that of
    // epoch 2 removed neither.
    let newest = newest.unwrap();
    assert!(newest.passed_over.is_none());
    assert_eq!(newest.checkpoint.epoch, 1);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let training = Training::new();
    // A file in place of the folder, and in place of its parent: even root is refused.
    fs::write(training.path("run"), "precious").unwrap();
    for out in ["run", "run/below"] {
        let out = training.path(out);
        let output = training.run(&["--out", &out]);
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains(&out), "{}", stderr(&output));
        let output = tnet(&["train", "--resume", &out]);
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains(&out), "{}", stderr(&output));
    }
    assert_eq!(training.read("run"), "precious");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_a_run_folder_is_not_followed() {
    let (training, _) = Training::smallest();
    let outside = training.path("outside");
    fs::write(&outside, "precious").unwrap();
    let names = ["log.txt", "metrics.csv", "last.safetensors", "config.toml", "curves.svg"];
    for name in names {
        let path = training.path(&format!("run/{name}"));
        let moved = training.path(name);
        fs::rename(&path, &moved).unwrap();
        // A link to a file that is only read is fine; a file that is written replaces the link.
        let target = if name == "log.txt" { &outside } else { &moved };
        std::os::unix::fs::symlink(target, &path).unwrap();
        let before = fs::read(&moved).unwrap();
        let epochs = (2 + names.iter().position(|other| *other == name).unwrap()).to_string();
        let output = training.resume(&["--epochs", &epochs]);
        if name == "log.txt" {
            assert_eq!(code(&output), 1);
            assert!(error_line(&output).contains("it is a link"), "{}", stderr(&output));
            fs::remove_file(&path).unwrap();
        } else {
            assert_eq!(code(&output), 0, "{}", stderr(&output));
            assert!(!Path::new(&path).is_symlink(), "{name} was written through a link");
        }
        assert!(before == fs::read(&moved).unwrap(), "{name} was written through a link");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
}

#[cfg(unix)]
#[test]
fn two_processes_do_not_train_in_one_folder() {
    let training = Training::new();
    let mut running =
        Running::quiet(training.command(&["--epochs", "1000000", "--out-factors", "4,4"]));
    let checkpoint = training.path("run/last.safetensors");
    running.wait_for("checkpoint", || Path::new(&checkpoint).exists());
    let output = training.resume(&[]);
    let again = training.run(&["--exist-ok"]);
    running.kill();
    for output in [output, again] {
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains("another process"), "{}", stderr(&output));
    }
}

#[test]
fn a_training_run_that_leaves_the_finite_numbers_stops_and_says_where() {
    let training = Training::new();
    let file = training.path("net.toml");
    fs::write(&file, CONVOLUTIONS).unwrap();
    let of_options = |model| vec!["--model", model, "--out-factors", "4,4"];
    for (name, network) in [
        ("mps", of_options("mps")),
        ("dense", of_options("dense")),
        ("convolutions", vec!["--network", &file]),
    ] {
        let run = training.path(name);
        let options = ["--lr", "1e30", "--out", &run, "--epochs", "100"];
        let output = training.run(&[&network[..], &options].concat());
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        // 4 steps per epoch, and loss and accuracy are read at the end of each.
        for part in ["step ", " of epoch 1: training stopped", "--lr", &run] {
            assert!(line.contains(part), "{part} in {line}");
        }
        // The checkpoint is finite, or it would be refused.
        let newest = run::newest(Path::new(&run)).unwrap();
        assert!(newest.passed_over.is_none());
    }
}

mod vulkan {
    use super::*;
    #[cfg(target_os = "linux")]
    use crate::common::faulty::FaultyDevice;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lost_device_ends_the_training_run_with_one_line() {
        if common::open("vulkan").is_none() {
            return;
        }
        let Some(faulty) = FaultyDevice::build() else { return };
        let training = Training::new();
        // Before the first checkpoint, and in the middle of a training run.
        for (submits, begun) in [("5", false), ("500", true)] {
            let run = training.path(submits);
            let arguments = ["--device", "vulkan", "--out", &run, "--epochs", "1000000"];
            let mut command = training.command(&arguments);
            command.args(["--out-factors", "4,4"]).env("TNET_TEST_SUBMITS", submits);
            let output = faulty.under(&mut command).output().unwrap();
            assert_eq!(code(&output), 1, "{}", stderr(&output));
            let line = error_line(&output);
            assert!(line.contains("the device failed while"), "{line}");
            assert_eq!(run::newest(Path::new(&run)).is_ok(), begun, "{line}");
        }
    }

    #[test]
    fn what_does_not_fit_a_buffer_is_refused_before_it_is_allocated() {
        let Some(opened) = common::open("vulkan") else { return };
        let limit = opened.adapter.unwrap().limits.storage_buffer_bytes;
        let training = Training::new();
        // Core A has 32 · K · 8 numbers of 4 bytes.
        let bond = (limit / (32 * 8 * 4) + 1).to_string();
        let output = training.run(&["--device", "vulkan", "--bond", &bond]);
        // A card with very large buffers reaches the layer's own limit first.
        assert!([1, 2].contains(&code(&output)), "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains("mps1"), "{line}");
        assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
    }

    /// More images than fit a buffer, all of one grey so that the compressed file is small.
    #[test]
    fn a_data_set_over_the_limit_is_refused() {
        let Some(opened) = common::open("vulkan") else { return };
        let limit = opened.adapter.unwrap().limits.storage_buffer_bytes as usize;
        let count = limit / (512 * 512) + 1;
        if count * 512 * 512 > MAX_BYTES {
            eprintln!("SKIPPED: a buffer holds every data set that is read");
            return;
        }
        let training = Training::new();
        let images = |count: usize| gzip(&idx(&[count, 512, 512], &vec![0; count * 512 * 512]));
        let labels = |count: usize| idx(&[count], &vec![1; count]);
        let files = Files::from([
            ("train-images-idx3-ubyte", images(count)),
            ("train-labels-idx1-ubyte", labels(count)),
            ("t10k-images-idx3-ubyte", images(1)),
            ("t10k-labels-idx1-ubyte", labels(1)),
        ]);
        write_files(Path::new(&training.path("data")), &files);
        let output = training.run(&["--device", "vulkan"]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains(&format!("{count} images: ")), "{line}");
        assert!(line.contains("--device cpu"), "{line}");
        assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
    }
}
