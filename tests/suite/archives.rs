//! Data sets as they come: compressed, named and laid out as those who publish and unpack them do it.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::{TempDir, tempdir};

use crate::common::data::{files, gzip, write_files};
use crate::common::executable::{Training, code, command, error_line, stderr, tnet};

/// Writes the small set, each file changed: its name and its content.
fn write_changed(folder: &Path, change: impl Fn(&str, &[u8]) -> (String, Vec<u8>)) {
    for (name, bytes) in files() {
        let (name, bytes) = change(name, &bytes);
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Trains for an epoch on `data`, a path in `folder`.
fn train(folder: &TempDir, data: &str) -> Output {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, run) = (path(data), path("run"));
    let short = ["--device", "cpu", "--epochs", "1", "--batch-size", "16", "--out-factors", "1,1"];
    tnet(&[&["train", "--data", &data, "--out", &run], &short[..]].concat())
}

/// Training on the changed set gives the checkpoint of the set that has the canonical names.
#[track_caller]
fn same_run(expected: &[u8], data: &str, change: impl Fn(&str, &[u8]) -> (String, Vec<u8>)) {
    let folder = tempdir().unwrap();
    write_changed(&folder.path().join("set"), change);
    let output = train(&folder, data);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let checkpoint = fs::read(folder.path().join("run/last.safetensors")).unwrap();
    assert!(checkpoint == expected, "another network came out");
}

/// Expects exit code 1 and one line that ends like this; no run folder is made.
#[track_caller]
fn refused(folder: &TempDir, data: &str, with: &str) {
    let output = train(folder, data);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains(with), "{with} in {line}");
    assert!(line.contains(folder.path().to_str().unwrap()), "{line}");
    assert!(!folder.path().join("run").exists(), "a run folder was made");
}

#[test]
fn a_set_compressed_in_several_members_is_read() {
    let (_training, expected) = Training::smallest();
    same_run(&expected, "set", |name, bytes| {
        // Blocks, an empty one last, as bgzip writes them; then filling.
        let mut members: Vec<Vec<u8>> = bytes.chunks(1000).map(gzip).collect();
        members.extend([gzip(&[]), vec![0; 512]]);
        (format!("{name}.gz"), members.concat())
    });
}

#[test]
fn a_set_is_read_under_the_names_it_is_published_under() {
    let (_training, expected) = Training::smallest();
    let renamed: [&dyn Fn(&str) -> String; 6] = [
        &|name| name.replace("-idx", ".idx"),
        &|name| name.replace('-', "_").to_uppercase(),
        &|name| name.replace("t10k", "test"),
        &|name| format!("emnist-letters-{}", name.replace("t10k", "test")),
        &|name| format!("{name}/{name}"),
        &|name| format!("{name}/{}", name.replace("-idx", ".idx")),
    ];
    for rename in renamed {
        same_run(&expected, "set", |name, bytes| (rename(name), bytes.to_vec()));
    }
    same_run(&expected, "set", |name, bytes| (format!("{name}.gz/{name}.gz"), gzip(bytes)));
    let file = "set/t10k-labels-idx1-ubyte.gz";
    same_run(&expected, file, |name, bytes| (format!("{name}.gz"), gzip(bytes)));
}

#[test]
fn folders_and_litter_beside_the_files_are_passed_over() {
    let (_training, expected) = Training::smallest();
    let folder = tempdir().unwrap();
    let set = folder.path().join("set");
    write_changed(&set, |name, bytes| (format!("{name}.gz"), gzip(bytes)));
    for name in files().keys() {
        fs::create_dir(set.join(name)).unwrap();
        fs::write(set.join(format!("._{name}")), "Mac OS X").unwrap();
    }
    let output = train(&folder, "set");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::read(folder.path().join("run/last.safetensors")).unwrap() == expected);
}

#[test]
fn one_of_several_sets_in_a_folder_is_named_by_its_prefix() {
    let (_training, expected) = Training::smallest();
    let folder = tempdir().unwrap();
    let set = folder.path().join("set");
    for prefix in ["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] {
        write_changed(&set, |name, bytes| {
            let mut bytes = bytes.to_vec();
            // Only that of the letters is the right one.
            if prefix != "letters" && name.contains("images") {
                bytes[16..].reverse();
            }
            (format!("emnist-{prefix}-{}.gz", name.replace("t10k", "test")), gzip(&bytes))
        });
    }
    let path = set.display();
    let several = format!(
        "{path}: data set: expected one set (name one as {path}/emnist-balanced), found \
         emnist-balanced, emnist-byclass, emnist-bymerge, emnist-digits, emnist-letters, emnist-mnist"
    );
    refused(&folder, "set", &several);
    refused(&folder, "set/emnist-leters", "cannot read");

    let output = train(&folder, "set/emnist-letters");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let run = folder.path().join("run");
    assert!(fs::read(run.join("last.safetensors")).unwrap() == expected, "another set was read");
    // The run remembers which one it was, from any folder.
    let mut resume = command(&["train", "--epochs", "2", "--resume"]);
    let output = resume.arg(&run).current_dir(&set).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn what_looks_like_the_data_is_listed_where_nothing_fits() {
    let folder = tempdir().unwrap();
    let set = folder.path().join("set");
    refused(&folder, "set", "cannot read");
    fs::create_dir(&set).unwrap();
    let first = "expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz, found";
    refused(&folder, "set", &format!("{first} an empty folder"));
    fs::write(set.join("notes.txt"), "").unwrap();
    refused(&folder, "set", &format!("{first} nothing like it"));
    for name in ["archive.zip", "train\n.csv", "._train.csv"] {
        fs::write(set.join(name), "PK\x03\x04").unwrap();
    }
    fs::create_dir(set.join("test")).unwrap();
    refused(&folder, "set", &format!("{first} archive.zip, test/, train\\n.csv"));
    refused(&folder, "set/archive.zip", "found a ZIP archive; unpack it");

    write_files(&set.join("raw"), &files());
    refused(&folder, "set", &format!("{first} that the folder raw/ has them, and archive.zip"));
    let mut some = files();
    some.remove("t10k-images-idx3-ubyte");
    fs::remove_dir_all(set.join("raw")).unwrap();
    write_files(&set, &some);
    refused(&folder, "set", "expected t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz, found");
}
