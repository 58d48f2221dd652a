//! Checkpoints that are cut, damaged or forged are refused, and a run resumes from the one before.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};
use tempfile::tempdir;
use tnet_gpu::train::checkpoint::Checkpoint;

use crate::common::data;
use crate::common::executable::{Training, code, command, error_line, stderr};

/// A checkpoint of the smallest possible network, made once.
static SMALLEST: LazyLock<Vec<u8>> = LazyLock::new(|| Training::smallest().1);

/// Checks that a checkpoint is refused with one line that names it, and returns the line.
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

/// Tried both ways: as bytes in memory, and as a file of that length.
#[test]
fn every_truncation_is_refused() {
    let whole = &SMALLEST[..];
    Checkpoint::parse(Path::new("some/file"), whole).unwrap();
    let folder = tempdir().unwrap();
    let path = folder.path().join("cut");
    fs::write(&path, whole).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..whole.len()).rev() {
        refused(&whole[..length], "cut");
        file.set_len(length as u64).unwrap();
        let line = Checkpoint::read(&path).unwrap_err().to_string();
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    refused(&[whole, &[0]].concat(), "longer");
}

#[test]
fn a_flipped_bit_in_each_byte_is_refused() {
    let mut bytes = SMALLEST.clone();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    for at in 0..bytes.len() {
        // All eight bits in the header, where one may change the meaning of the rest.
        let bits = if at < header { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            bytes[at] ^= 1 << bit;
            refused(&bytes, "flipped");
            bytes[at] ^= 1 << bit;
        }
    }
    Checkpoint::parse(Path::new("some/file"), &bytes).unwrap();
}

/// Writes the right checksum into a file.
fn seal(bytes: &mut [u8]) {
    let before = br#"\"checksum\":\""#;
    let at = bytes.windows(before.len()).position(|part| part == before).unwrap() + before.len();
    bytes[at..at + 64].fill(b'0');
    let digits: String = Sha256::digest(&*bytes).iter().map(|b| format!("{b:02x}")).collect();
    bytes[at..at + 64].copy_from_slice(digits.as_bytes());
}

/// The file with other text of the same length in its header, and the right checksum.
fn changed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from}"));
    let mut bytes = bytes.to_vec();
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    seal(&mut bytes);
    bytes
}

/// The checksum is no secret: the content is checked even where the checksum is right.
#[test]
fn files_with_a_right_checksum_are_checked_all_the_same() {
    let good = &*SMALLEST;
    let mut sealed = good.clone();
    seal(&mut sealed);
    assert!(sealed == *good, "the checksum is not what docs/reliability.md says");

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
            changed(good, r#"format\":4"#, r#"format\":2"#),
            "format: expected 4, found 2, written by",
        ),
        (changed(good, r#"bond\":1"#, r#"bond\":2"#), "tensor 'mps1.a': expected F32 [1, 2, 8]"),
        (changed(good, r#"bond\":1"#, r#"bond\":0"#), "found mps1: bond: 0"),
        (changed(good, r#"out\":3"#, r#"out\":9"#), "classes: expected 9, found 3"),
        (changed(good, r#"[8,8]"#, r#"[9,8]"#), "found mps1: in: 9,8: expected a product of 64"),
        (changed(good, r#"rate\":0.2"#, r#"rate\":2.0"#), "found dropout3: rate: 2"),
        (
            changed(good, r#"kind\":\"relu"#, r#"kind\":\"silu"#),
            "metadata: expected a training run",
        ),
        (changed(good, r#"epoch\":1"#, r#"epoch\":7"#), "epoch: expected one of the run's"),
        (changed(good, r#"lr\":0.001"#, r#"lr\":0.00x"#), "metadata: expected a version"),
        (changed(good, r#"lr\":0.001"#, r#"lr\":-0.01"#), "found lr: -0.01"),
        (changed(good, "adam.mean.mps1.c", "adam.mean.mps1.d"), "'adam.mean.mps1.c'"),
        (
            changed(good, "__metadata__\":{\"tnet-gpu", "__metadata__\":{\"other-pr"),
            "another program's",
        ),
    ] {
        let line = refused(&bytes, with);
        assert!(line.contains(with), "{with} in {line}");
    }

    // A file of another program.
    let zeros = [0_u8; 16];
    let view = TensorView::new(Dtype::F32, vec![4], &zeros).unwrap();
    let other = safetensors::serialize([("weight", view)], None).unwrap();
    assert!(refused(&other, "other").contains("another program's file"));
    // A header longer than the file.
    let mut promised = good.clone();
    promised[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&promised, "promised");
    // One tensor too many.
    let tensors = SafeTensors::deserialize(good).unwrap();
    let (_, header) = SafeTensors::read_metadata(good).unwrap();
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
        let eval = training.eval("run", &[]);
        assert_eq!(code(&eval), 0, "{}", stderr(&eval));
        assert!(stderr(&eval).contains("previous.safetensors instead"), "{}", stderr(&eval));

        let output = training.resume(&[]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let text = stderr(&output);
        assert!(text.contains("last.safetensors: "), "{text}");
        assert!(text.contains("previous.safetensors instead"), "{text}");
        // Epoch 2 again, to the bit; the damaged file has not replaced the whole one.
        assert!(fs::read(&last).unwrap() == straight);
        assert_eq!(Checkpoint::read(Path::new(&previous)).unwrap().epoch, 1);
        assert!(fs::read(training.path("run/damaged.safetensors")).unwrap() == damage);
    }

    fs::remove_file(&last).unwrap();
    let output = training.resume(&[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::read(&last).unwrap() == straight);

    for file in [&last, &previous] {
        fs::write(file, b"no checkpoint").unwrap();
    }
    let output = training.resume(&[]);
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
        let output = training.resume(&["--epochs", "3"]);
        assert_eq!(code(&output), 1, "{with}: {}", stderr(&output));
        assert!(error_line(&output).contains(with), "{with} in {}", stderr(&output));
        fs::write(&path, good).unwrap();
    }
    assert!(before == fs::read(training.path("run/last.safetensors")).unwrap());
    let output = training.resume(&["--epochs", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let output = command(&["train", "--resume", &training.path("nowhere")]).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("nowhere"), "{}", stderr(&output));
}

/// Replays the corpus of the fuzz target.
#[test]
fn the_seeds_of_the_fuzz_target_are_read_or_refused_with_one_line() {
    let mut read = 0;
    for bytes in data::fuzz_seeds("checkpoint") {
        match Checkpoint::parse(Path::new("some/file"), &bytes) {
            Ok(_) => read += 1,
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
        }
    }
    // The two valid seeds that the others were derived from.
    assert!(read >= 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A checkpoint with a part replaced is refused with one line; an unchanged one is read.
    #[test]
    fn a_checkpoint_with_a_hole_is_refused(
        at in any::<proptest::sample::Index>(),
        in_header in any::<bool>(),
        part in proptest::collection::vec(any::<u8>(), 0..32),
        cut in 0..32_usize,
    ) {
        let whole = &SMALLEST[..];
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
