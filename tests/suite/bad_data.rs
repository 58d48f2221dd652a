//! Data files that are damaged or do not fit: one line that names the file, exit code 1, no run
//! folder. The IDX reader also gets made-up bytes.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::process::Command;

use proptest::prelude::*;
use tempfile::tempdir;
use tnet_gpu::data::idx;

use crate::common::data::{self, Files, files, gzip, write_files};
use crate::common::executable::{code, command, error_line, stderr};

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// Trains on the good set after `damage` and expects an error that names `file` and contains `with`.
fn refused(damage: impl FnOnce(&mut Files, &Path), file: &str, with: &str) {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let run = folder.path().join("run");
    let mut set = files();
    fs::create_dir(&data).unwrap();
    damage(&mut set, &data);
    write_files(&data, &set);

    let mut command = command(&["train", "--device", "cpu", "--epochs", "1", "--data"]);
    let output = command.args([&data, Path::new("--out"), &run]).output().unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    let line = error_line(&output);
    let named = if file.is_empty() { data } else { data.join(file) };
    for part in [&named.display().to_string(), with] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!run.exists(), "a run folder was made");
}

/// The same with one file damaged.
fn refused_file(file: &'static str, damage: impl FnOnce(&mut Vec<u8>), with: &str) {
    refused(|set, _| damage(set.get_mut(file).unwrap()), file, with);
}

#[test]
fn an_empty_file() {
    refused_file(IMAGES, Vec::clear, "magic number");
}

#[test]
fn a_header_that_is_cut() {
    refused_file(IMAGES, |bytes| bytes.truncate(9), "extents");
}

#[test]
fn a_file_of_another_kind() {
    refused_file(IMAGES, |bytes| bytes[..4].copy_from_slice(b"\x89PNG"), "0x89504e47");
}

#[test]
fn another_element_type() {
    refused_file(IMAGES, |bytes| bytes[2] = 0x0d, "0x0d (32-bit floats)");
}

#[test]
fn labels_in_place_of_images() {
    refused(
        |set, _| {
            let labels = set[LABELS].clone();
            set.insert(IMAGES, labels);
        },
        IMAGES,
        "expected 3 (images), found 1 (labels)",
    );
}

#[test]
fn an_extent_of_zero() {
    refused_file(IMAGES, |bytes| *bytes = data::idx(&[60, 0, 8], &[]), "60 x 0 x 8");
}

#[test]
fn extents_beyond_every_memory() {
    let huge = u32::MAX as usize;
    refused_file(IMAGES, |bytes| *bytes = data::idx(&[huge, huge, huge], &[0; 64]), "at most");
}

#[test]
fn a_missing_byte() {
    refused_file(IMAGES, |bytes| bytes.truncate(bytes.len() - 1), "found 3839");
}

#[test]
fn a_byte_too_many() {
    refused_file(LABELS, |bytes| bytes.push(0), "expected nothing after the last element");
}

#[test]
fn compressed_data_that_is_too_long() {
    refused_file(LABELS, |bytes| *bytes = gzip(&[bytes, &[0; 3][..]].concat()), "expected nothing");
}

#[test]
fn compressed_data_that_is_cut() {
    let cut = |bytes: &mut Vec<u8>| {
        *bytes = gzip(bytes);
        bytes.truncate(bytes.len() / 2);
    };
    refused_file(IMAGES, cut, "compressed data");
}

#[test]
fn compressed_data_with_a_wrong_checksum() {
    let damage = |bytes: &mut Vec<u8>| {
        *bytes = gzip(bytes);
        let at = bytes.len() - 6;
        bytes[at] ^= 1;
    };
    refused_file(IMAGES, damage, "compressed data");
}

#[test]
fn a_small_file_that_holds_a_huge_one() {
    let bomb = gzip(&data::idx(&[60], &vec![0; 1 << 27]));
    refused_file(LABELS, |bytes| *bytes = bomb, "expected nothing after the last element");
}

#[test]
fn a_label_too_few() {
    refused_file(LABELS, |bytes| *bytes = data::idx(&[59], &[1; 59]), "expected 60");
}

#[test]
fn a_test_label_beyond_the_classes() {
    refused_file(TEST_LABELS, |bytes| bytes[8 + 5] = 3, "label 5: expected less than 3");
}

#[test]
fn test_images_of_another_size() {
    let other = data::idx(&[12, 4, 16], &[0; 12 * 64]);
    refused_file(TEST_IMAGES, |bytes| *bytes = other, "expected 8 x 8 pixels");
}

#[test]
fn a_missing_file() {
    // The error names the folder, and the file as what was expected there.
    refused(|set, _| drop(set.remove(TEST_LABELS)), "", TEST_LABELS);
}

#[test]
fn a_folder_in_place_of_a_file() {
    let make_folder = |set: &mut Files, data: &Path| {
        set.remove(LABELS);
        fs::create_dir(data.join(LABELS)).unwrap();
    };
    refused(make_folder, "", "train-labels-idx1-ubyte.gz, found t10k-images");
    refused(make_folder, "", "train-labels-idx1-ubyte/");
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file() {
    // Opened, it would be waited for without end.
    let make_pipe = |set: &mut Files, data: &Path| {
        set.remove(LABELS);
        let made = Command::new("mkfifo").arg(data.join(LABELS)).status().unwrap();
        assert!(made.success());
    };
    refused(make_pipe, "", "train-labels-idx1-ubyte (no regular file)");
}

#[test]
fn garbage_after_compressed_data() {
    for garbage in [&b"x"[..], b"\0\0x"] {
        let damage = |bytes: &mut Vec<u8>| *bytes = [gzip(bytes).as_slice(), garbage].concat();
        refused_file(IMAGES, damage, "expected nothing after the compressed data");
    }
}

#[test]
fn a_file_of_a_kind_that_is_known() {
    for (start, named) in [
        (&b"PK\x03\x04"[..], "found 0x504b0304 (a ZIP archive; unpack it)"),
        (b"<!DOCTYPE html>", "(an HTML page in place of the file; download it again)"),
        (b"version https://git-lfs.github.com/spec/v1", "(a Git LFS pointer; "),
    ] {
        refused_file(IMAGES, |bytes| *bytes = start.to_vec(), named);
        refused_file(IMAGES, |bytes| *bytes = gzip(start), named);
    }
}

/// Replays the corpus of the fuzz target.
#[test]
fn the_seeds_of_the_fuzz_target_are_read_or_refused_with_one_line() {
    let path = Path::new("some/file");
    for bytes in data::fuzz_seeds("idx") {
        let errors =
            [idx::read::<1>(path, &bytes[..]).err(), idx::read::<3>(path, &bytes[..]).err()];
        for error in errors.into_iter().flatten() {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes are read or refused with one line; what is read has as many elements as its header says.
    #[test]
    fn any_bytes_are_an_idx_file_or_none(
        start in prop_oneof![
            Just(vec![0, 0, 8, 1]),
            Just(vec![0, 0, 8, 3]),
            Just(vec![0x1f, 0x8b, 8]),
            Just(gzip(&data::idx(&[2], &[1, 1]))),
        ],
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

    /// What is written as IDX is read back unchanged.
    #[test]
    fn an_idx_file_comes_back(extents in proptest::array::uniform3(1..5_usize), seed in any::<u8>()) {
        let bytes: Vec<u8> =
            (0..extents.iter().product()).map(|at: usize| seed.wrapping_add(at as u8)).collect();
        let read = idx::read::<3>(Path::new("some/file"), &data::idx(&extents, &bytes)[..]).unwrap();
        prop_assert_eq!((read.extents, read.bytes), (extents, bytes));
    }
}
