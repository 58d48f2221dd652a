//! Data files that are damaged or do not fit: one line that names the file, exit code 1, no run
//! folder.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::tempdir;

use crate::common::{Files, files, idx, write_files};

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Trains on the good set after `damage`, and expects an error that names `file` and says `with`.
fn refused(damage: impl FnOnce(&mut Files, &Path), file: &str, with: &str) {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let run = folder.path().join("run");
    let mut set = files();
    fs::create_dir(&data).unwrap();
    damage(&mut set, &data);
    write_files(&data, &set);

    let output = Command::new(env!("CARGO_BIN_EXE_tnet-gpu"))
        .args(["train", "--device", "cpu", "--epochs", "1", "--data"])
        .args([&data, Path::new("--out"), &run])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let named = if file.is_empty() { data } else { data.join(file) };
    for part in ["tnet-gpu: ", &named.display().to_string(), with] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    assert!(!run.exists(), "a run folder was made");
}

/// Replaces one file's content by what `damage` makes of it.
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
    refused_file(IMAGES, |bytes| *bytes = idx(&[60, 0, 8], &[]), "60 x 0 x 8");
}

#[test]
fn extents_beyond_every_memory() {
    let huge = u32::MAX as usize;
    refused_file(IMAGES, |bytes| *bytes = idx(&[huge, huge, huge], &[0; 64]), "at most");
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
fn compressed_data_that_goes_on() {
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
    let bomb = gzip(&idx(&[60], &vec![0; 1 << 27]));
    refused_file(LABELS, |bytes| *bytes = bomb, "expected nothing after the last element");
}

#[test]
fn a_label_too_few() {
    refused_file(LABELS, |bytes| *bytes = idx(&[59], &[1; 59]), "expected 60");
}

#[test]
fn a_test_label_beyond_the_classes() {
    refused_file(TEST_LABELS, |bytes| bytes[8 + 5] = 3, "label 5: expected less than 3");
}

#[test]
fn test_images_of_another_size() {
    let other = idx(&[12, 4, 16], &[0; 12 * 64]);
    refused_file(TEST_IMAGES, |bytes| *bytes = other, "expected 8 x 8 pixels");
}

#[test]
fn a_missing_file() {
    // The folder is what is named, and the file's name is in what was expected.
    refused(|set, _| drop(set.remove(TEST_LABELS)), "", TEST_LABELS);
}

#[test]
fn a_folder_in_place_of_a_file() {
    let make_folder = |set: &mut Files, data: &Path| {
        set.remove(LABELS);
        fs::create_dir(data.join(LABELS)).unwrap();
    };
    refused(make_folder, LABELS, "cannot read");
}
