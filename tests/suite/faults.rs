//! What goes wrong, and what is left of the run: the table of docs/reliability.md.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};
use tnet_gpu::data::idx;
use tnet_gpu::train::checkpoint::Checkpoint;
use tnet_gpu::train::run;

use crate::cli::{Training, code, command, error_line, stderr, tnet};
use crate::common;

/// A run of one epoch with a network that is as small as they come, and its checkpoint.
fn trained() -> (Training, Vec<u8>) {
    let training = Training::new();
    let output = training.run(&["--epochs", "1", "--out-factors", "1,1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let bytes = fs::read(training.path("run/last.safetensors")).unwrap();
    (training, bytes)
}

fn resume(training: &Training, more: &[&str]) -> Output {
    let run = training.path("run");
    command(&[&["train", "--resume", &run], more].concat()).output().unwrap()
}

/// A checkpoint is refused with one line that names it.
#[track_caller]
fn refused(bytes: &[u8], what: &str) -> String {
    let Err(error) = Checkpoint::parse(Path::new("some/file"), bytes) else {
        panic!("accepted: {what}")
    };
    let line = error.to_string();
    assert!(line.starts_with("some/file: "), "{what}: {line}");
    assert!(!line.chars().any(char::is_control), "{what}: {line:?}");
    line
}

/// Both ways in: bytes in memory, and a file of that length.
#[test]
fn every_truncation_is_refused() {
    let (training, whole) = trained();
    Checkpoint::parse(Path::new("some/file"), &whole).unwrap();
    let path = training.folder.path().join("cut");
    fs::write(&path, &whole).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..whole.len()).rev() {
        refused(&whole[..length], "cut");
        file.set_len(length as u64).unwrap();
        let line = Checkpoint::read(&path).unwrap_err().to_string();
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    refused(&[&whole[..], &[0]].concat(), "longer");
}

#[test]
fn a_flipped_bit_in_each_byte_is_refused() {
    let (_training, mut bytes) = trained();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    for at in 0..bytes.len() {
        // All eight where a bit may change what the others mean.
        let bits = if at < header { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            bytes[at] ^= 1 << bit;
            refused(&bytes, "flipped");
            bytes[at] ^= 1 << bit;
        }
    }
    Checkpoint::parse(Path::new("some/file"), &bytes).unwrap();
}

/// Gives a file the checksum that its content has.
fn seal(bytes: &mut [u8]) {
    let before = br#"\"checksum\":\""#;
    let at = bytes.windows(before.len()).position(|part| part == before).unwrap() + before.len();
    bytes[at..at + 64].fill(b'0');
    let digits: String = Sha256::digest(&*bytes).iter().map(|b| format!("{b:02x}")).collect();
    bytes[at..at + 64].copy_from_slice(digits.as_bytes());
}

/// The whole file with other text of the same length in its header.
fn changed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from}"));
    let mut bytes = bytes.to_vec();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    seal(&mut bytes);
    bytes
}

/// The checksum is no secret: what a file says is checked even where it is right.
#[test]
fn files_with_a_right_checksum_are_checked_all_the_same() {
    let (_training, good) = trained();
    let mut sealed = good.clone();
    seal(&mut sealed);
    assert!(sealed == good, "the checksum is not what docs/reliability.md says");

    let number = |value: f32| {
        let mut bytes = good.clone();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
        seal(&mut bytes);
        bytes
    };
    for (bytes, with) in [
        (number(f32::NAN), "expected finite numbers, found NaN"),
        (number(f32::NEG_INFINITY), "expected finite numbers, found -inf"),
        (
            changed(&good, r#"format\":3"#, r#"format\":2"#),
            "format: expected 3, found 2, written by",
        ),
        (changed(&good, r#"bond\":1"#, r#"bond\":2"#), "tensor 'first.a': expected F32 [1, 2, 8]"),
        (changed(&good, r#"bond\":1"#, r#"bond\":0"#), "found bond: 0"),
        (changed(&good, r#"classes\":3"#, r#"classes\":9"#), "tensor 'output.weight'"),
        (changed(&good, r#"epoch\":1"#, r#"epoch\":7"#), "epoch: expected one of the run's"),
        (changed(&good, r#"lr\":0.001"#, r#"lr\":0.00x"#), "metadata: expected a version"),
        (changed(&good, r#"lr\":0.001"#, r#"lr\":-0.01"#), "found lr: -0.01"),
        (changed(&good, "adam.mean.first.c", "adam.mean.first.d"), "'adam.mean.first.c'"),
        (
            changed(&good, "__metadata__\":{\"tnet-gpu", "__metadata__\":{\"other-pr"),
            "another program's",
        ),
    ] {
        let line = refused(&bytes, with);
        assert!(line.contains(with), "{with} in {line}");
    }

    // What another program writes.
    let zeros = [0_u8; 16];
    let view = TensorView::new(Dtype::F32, vec![4], &zeros).unwrap();
    let other = safetensors::serialize([("weight", view)], None).unwrap();
    assert!(refused(&other, "other").contains("another program's file"));
    // A header that promises what is not there.
    let mut promised = good.clone();
    promised[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&promised, "promised");
    // A tensor more than the network has.
    let tensors = SafeTensors::deserialize(&good).unwrap();
    let (_, header) = SafeTensors::read_metadata(&good).unwrap();
    let view = TensorView::new(Dtype::F32, vec![4], &zeros).unwrap();
    let more = tensors.tensors().into_iter().chain([("more".to_owned(), view)]);
    let mut more = safetensors::serialize(more, header.metadata().clone()).unwrap();
    seal(&mut more);
    assert!(refused(&more, "more").contains("tensors: expected 21, found 22"));
}

#[test]
fn resume_takes_the_one_before_a_damaged_checkpoint() {
    let training = Training::new();
    let output = training.run(&["--out-factors", "4,4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let [last, previous] =
        ["last", "previous"].map(|name| training.path(&format!("run/{name}.safetensors")));
    let straight = fs::read(&last).unwrap();
    assert_eq!(Checkpoint::read(Path::new(&previous)).unwrap().epoch, 1);

    for damage in [&straight[..100], &[][..]] {
        fs::write(&last, damage).unwrap();
        let data = training.path("data");
        let eval = tnet(&["eval", &training.path("run"), "--data", &data, "--device", "cpu"]);
        assert_eq!(code(&eval), 0, "{}", stderr(&eval));
        assert!(stderr(&eval).contains("previous.safetensors instead"), "{}", stderr(&eval));

        let output = resume(&training, &[]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let text = stderr(&output);
        assert!(text.contains("last.safetensors: "), "{text}");
        assert!(text.contains("previous.safetensors instead"), "{text}");
        // Epoch 2 again, to the bit, and the whole one was not pushed out by the damaged one.
        assert!(fs::read(&last).unwrap() == straight);
        assert_eq!(Checkpoint::read(Path::new(&previous)).unwrap().epoch, 1);
        assert!(fs::read(training.path("run/damaged.safetensors")).unwrap() == damage);
    }

    fs::remove_file(&last).unwrap();
    let output = resume(&training, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::read(&last).unwrap() == straight);

    for file in [&last, &previous] {
        fs::write(file, b"no checkpoint").unwrap();
    }
    let output = resume(&training, &[]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("last.safetensors or previous.safetensors"));
}

#[test]
fn a_damaged_run_folder_is_refused_by_file_and_line() {
    let training = Training::new();
    let output = training.run(&["--out-factors", "4,4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let before = fs::read(training.path("run/last.safetensors")).unwrap();
    let metrics = training.read("run/metrics.csv");
    let config = training.read("run/config.toml");
    for (file, damaged, with) in [
        ("metrics.csv", metrics.replacen("\n1,", "\n7,", 1), "metrics.csv: line 2"),
        ("metrics.csv", metrics.lines().next().unwrap().to_owned(), "metrics.csv: line 2"),
        ("metrics.csv", String::new(), "metrics.csv: line 1"),
        ("config.toml", config.replace("seed = 200", "seed = \"x\""), "config.toml: line"),
        ("config.toml", config.replace("seed = 200", "seed = 201"), "config.toml is not what"),
        ("config.toml", config.replace("\"cpu\"", "\"gpu\""), "config.toml: device"),
    ] {
        let path = training.path(&format!("run/{file}"));
        let good = fs::read(&path).unwrap();
        fs::write(&path, damaged).unwrap();
        let output = resume(&training, &["--epochs", "3"]);
        assert_eq!(code(&output), 1, "{with}: {}", stderr(&output));
        assert!(error_line(&output).contains(with), "{with} in {}", stderr(&output));
        fs::write(&path, good).unwrap();
    }
    assert!(before == fs::read(training.path("run/last.safetensors")).unwrap());
    let output = resume(&training, &["--epochs", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let output = command(&["train", "--resume", &training.path("nowhere")]).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("nowhere"), "{}", stderr(&output));
}

/// Files cannot grow over some blocks of 512 or 1024 bytes: like a full disk, without one. The signal
/// that would end the process is ignored, since a full disk sends none.
#[cfg(unix)]
fn with_small_files(blocks: u32, command: &Command) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("TNET_DATA")
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
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
    let left: Vec<_> =
        fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    let output = resume(&training, &["--epochs", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// The same on a disk that is full, where the tests may mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let training = Training::new();
    let disk = training.path("disk");
    fs::create_dir(&disk).unwrap();
    // Two checkpoints of 800 KB and a third that is being written do not fit, the first one does.
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
    // Epoch 1 is there: what was written first, then 1, then 2 with nothing removed before.
    let newest = newest.unwrap();
    assert!(newest.passed_over.is_none());
    assert_eq!(newest.checkpoint.epoch, 1);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let training = Training::new();
    // A file where the folder shall be, and where a folder on the way to it is: even root is refused.
    fs::write(training.path("run"), "precious").unwrap();
    for out in ["run", "run/below"] {
        let out = training.path(out);
        let output = training.run(&["--out", &out]);
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains(&out), "{}", stderr(&output));
        let output = command(&["train", "--resume", &out]).output().unwrap();
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains(&out), "{}", stderr(&output));
    }
    assert_eq!(training.read("run"), "precious");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_a_run_folder_is_not_followed() {
    let (training, _) = trained();
    let outside = training.path("outside");
    fs::write(&outside, "precious").unwrap();
    let names = ["log.txt", "metrics.csv", "last.safetensors", "config.toml", "curves.svg"];
    for name in names {
        let path = training.path(&format!("run/{name}"));
        let moved = training.path(name);
        fs::rename(&path, &moved).unwrap();
        // What is only read may be a link; what is written replaces it.
        let target = if name == "log.txt" { &outside } else { &moved };
        std::os::unix::fs::symlink(target, &path).unwrap();
        let before = fs::read(&moved).unwrap();
        let epochs = (2 + names.iter().position(|other| *other == name).unwrap()).to_string();
        let output = resume(&training, &["--epochs", &epochs]);
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
    let mut child = training
        .command(&["--epochs", "1000000", "--out-factors", "4,4"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    while !Path::new(&training.path("run/last.safetensors")).exists() {
        assert!(started.elapsed().as_secs() < 60, "no checkpoint in a minute");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = resume(&training, &[]);
    let again = training.run(&["--exist-ok"]);
    child.kill().unwrap();
    child.wait().unwrap();
    for output in [output, again] {
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains("another process"), "{}", stderr(&output));
    }
}

#[test]
fn a_training_that_leaves_the_finite_numbers_stops_and_says_where() {
    let training = Training::new();
    for model in ["mps", "dense"] {
        let run = training.path(model);
        let output = training.run(&[
            "--model",
            model,
            "--lr",
            "1e30",
            "--out",
            &run,
            "--out-factors",
            "4,4",
            "--epochs",
            "100",
        ]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        // 4 steps an epoch: the first steps are in the report of the first 20.
        for part in ["step ", " of epoch 1: training stopped", "--lr", &run] {
            assert!(line.contains(part), "{part} in {line}");
        }
        // What is kept is finite, or it would be refused.
        let newest = run::newest(Path::new(&run)).unwrap();
        assert!(newest.passed_over.is_none());
    }
}

mod vulkan {
    use super::*;

    /// A layer between the Vulkan loader and the driver loses the device after some submissions.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_lost_device_ends_the_training_with_one_line() {
        if common::open("vulkan").is_none() {
            return;
        }
        let training = Training::new();
        let layer = training.path("layer");
        fs::create_dir(&layer).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/lost_device.c");
        let library = format!("{layer}/liblost.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-o", &library])
            .arg(source)
            .status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no C compiler, so no layer that loses the device");
            return;
        }
        let manifest = r#"{"file_format_version": "1.2.0", "layer": {
            "name": "VK_LAYER_TNET_lost", "type": "GLOBAL", "library_path": "./liblost.so",
            "api_version": "1.3.0", "implementation_version": "1", "description": "loses the device"
        }}"#;
        fs::write(format!("{layer}/lost.json"), manifest).unwrap();

        // Before the first checkpoint, and in the middle of a training.
        for (submits, begun) in [("5", false), ("500", true)] {
            let run = training.path(submits);
            let arguments = ["--device", "vulkan", "--out", &run, "--epochs", "1000000"];
            let child = training
                .command(&arguments)
                .args(["--out-factors", "4,4"])
                .env("VK_LAYER_PATH", &layer)
                .env("VK_INSTANCE_LAYERS", "VK_LAYER_TNET_lost")
                .env("TNET_TEST_SUBMITS", submits)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let output = child.wait_with_output().unwrap();
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
        assert!(line.contains("first.a") || line.contains("--bond"), "{line}");
        assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
    }

    /// More images than a buffer holds: all of one grey, so that the file is small.
    #[test]
    fn a_data_set_over_the_limit_is_refused() {
        let Some(opened) = common::open("vulkan") else { return };
        let limit = opened.adapter.unwrap().limits.storage_buffer_bytes as usize;
        let count = limit / (512 * 512) + 1;
        if count * 512 * 512 > idx::MAX_BYTES {
            eprintln!("SKIPPED: a buffer holds every data set that is read");
            return;
        }
        let training = Training::new();
        let gzip = |bytes: &[u8]| {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, bytes).unwrap();
            encoder.finish().unwrap()
        };
        let images =
            |count: usize| gzip(&common::idx(&[count, 512, 512], &vec![0; count * 512 * 512]));
        let labels = |count: usize| common::idx(&[count], &vec![1; count]);
        let files = common::Files::from([
            ("train-images-idx3-ubyte", images(count)),
            ("train-labels-idx1-ubyte", labels(count)),
            ("t10k-images-idx3-ubyte", images(1)),
            ("t10k-labels-idx1-ubyte", labels(1)),
        ]);
        common::write_files(Path::new(&training.path("data")), &files);
        let output = training.run(&["--device", "vulkan"]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains(&format!("{count} images: ")), "{line}");
        assert!(line.contains("--device cpu"), "{line}");
        assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
    }
}

/// What the fuzz targets found is tried again.
#[test]
fn the_seeds_of_the_fuzz_targets_are_read_or_refused_with_one_line() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let seeds = |target: &str| {
        let files = fs::read_dir(corpus.join(target)).unwrap();
        files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    let path = Path::new("some/file");
    let mut read = 0;
    for bytes in seeds("checkpoint") {
        match Checkpoint::parse(path, &bytes) {
            Ok(_) => read += 1,
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
        }
    }
    // The two that the others were made of.
    assert!(read >= 2);
    for bytes in seeds("idx") {
        let errors =
            [idx::read::<1>(path, &bytes[..]).err(), idx::read::<3>(path, &bytes[..]).err()];
        for error in errors.into_iter().flatten() {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}

/// A checkpoint of a network as small as they come, made once.
fn small() -> &'static [u8] {
    static SMALL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    SMALL.get_or_init(|| trained().1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes are read or refused with one line; what is read has what its header says.
    #[test]
    fn any_bytes_are_an_idx_file_or_none(
        start in prop_oneof![Just(vec![0, 0, 8, 1]), Just(vec![0, 0, 8, 3]), Just(vec![0x1f, 0x8b, 8])],
        rest in proptest::collection::vec(prop_oneof![4 => 0..4_u8, 1 => any::<u8>()], 0..64),
    ) {
        let bytes = [start, rest].concat();
        let path = Path::new("some/file");
        match idx::read::<1>(path, &bytes[..]) {
            Ok(idx) => prop_assert_eq!(idx.bytes.len(), idx.extents[0]),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
        match idx::read::<3>(path, &bytes[..]) {
            Ok(idx) => prop_assert_eq!(idx.bytes.len(), idx.extents.iter().product::<usize>()),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }

    /// What is written as IDX is read as it was.
    #[test]
    fn an_idx_file_comes_back(extents in proptest::array::uniform3(1..5_usize), seed in any::<u8>()) {
        let bytes: Vec<u8> =
            (0..extents.iter().product()).map(|at: usize| seed.wrapping_add(at as u8)).collect();
        let read = idx::read::<3>(Path::new("some/file"), &common::idx(&extents, &bytes)[..]).unwrap();
        prop_assert_eq!((read.extents, read.bytes), (extents, bytes));
    }

    /// A checkpoint with a part replaced is refused with one line, and without is read.
    #[test]
    fn a_checkpoint_with_a_hole_is_refused(
        at in any::<proptest::sample::Index>(),
        in_header in any::<bool>(),
        part in proptest::collection::vec(any::<u8>(), 0..32),
        cut in 0..32_usize,
    ) {
        let whole = small();
        let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        let at = at.index(if in_header { header } else { whole.len() });
        let end = (at + cut).min(whole.len());
        let bytes = [&whole[..at], &part, &whole[end..]].concat();
        match Checkpoint::parse(Path::new("some/file"), &bytes) {
            Ok(_) => prop_assert!(bytes == whole),
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }
}
