//! Data sets as class folders of images and as NumPy archives.

use std::fs::{self, File, FileTimes};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};
use tnet_gpu::data::{LoadOptions, npz, picture};
use tnet_gpu::train::checkpoint::Checkpoint;

use crate::common::data::{files, fuzz_seeds, write_files};
use crate::common::executable::{code, command, error_line, stderr, stdout};
use crate::common::open;
use crate::common::pictures::{
    archive, archive_of, npy, parts, write_colours, write_folders, write_png,
};

/// Data sets and runs, and a cache of their own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// A run on the data of this name, in the folder `run`.
    fn train(&self, data: &str, more: &[&str]) -> Output {
        let (data, run) = (self.text(data), self.text("run"));
        let mut arguments = vec!["train", "--data", &data, "--out", &run, "--exist-ok"];
        for (option, default) in [("--device", "cpu"), ("--epochs", "2"), ("--batch-size", "16")] {
            if !more.contains(&option) {
                arguments.extend([option, default]);
            }
        }
        self.command(&[&arguments[..], more].concat()).output().unwrap()
    }

    /// The checkpoint of such a run.
    #[track_caller]
    fn trained(&self, data: &str, more: &[&str]) -> (Vec<u8>, Checkpoint) {
        let output = self.train(data, more);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let file = self.path("run/last.safetensors");
        (fs::read(&file).unwrap(), Checkpoint::read(&file).unwrap())
    }

    #[track_caller]
    fn refused(&self, data: &str, more: &[&str], with: &str) -> String {
        let output = self.train(data, more);
        assert!([1, 2].contains(&code(&output)), "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains(with), "{with} in {line}");
        stderr(&output)
    }

    /// The files in the cache of decoded images.
    fn cached(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("cache/tnet-gpu/images")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Checkpoints have the weights, Adam's moments, and the checksum of the data.
#[test]
fn every_form_of_a_set_trains_to_the_same_bits() {
    let place = Place::new();
    write_files(&place.path("idx"), &files());
    write_folders(&place.path("folders"));
    for (name, deflated) in [("stored.npz", false), ("deflated.npz", true)] {
        fs::write(place.path(name), archive(deflated)).unwrap();
    }
    fs::create_dir(place.path("holds-one")).unwrap();
    fs::write(place.path("holds-one/set.NPZ"), archive(true)).unwrap();
    let (expected, checkpoint) = place.trained("idx", &[]);
    assert_eq!(checkpoint.classes, ["0", "1", "2"]);
    for form in ["folders", "stored.npz", "deflated.npz", "holds-one"] {
        let (bytes, _) = place.trained(form, &[]);
        assert!(bytes == expected, "{form}");
        // From the cache, if there is one.
        let (bytes, _) = place.trained(form, &[]);
        assert!(bytes == expected, "{form}, again");
    }
    assert_eq!(place.cached().len(), 1);
}

/// A person tells the three classes apart at a glance; without colour nobody does.
fn colours_are_learned_on(device: &str) {
    if open(device).is_none() {
        return;
    }
    let place = Place::new();
    write_colours(&place.path("set/train"), 20);
    write_colours(&place.path("set/test"), 5);
    let options = ["--device", device, "--epochs", "8", "--lr", "0.01", "--tune", "off", "--json"];
    let output = place.train("set", &options);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["test_accuracy"], 1.0, "{line}");
    let checkpoint = Checkpoint::read(&place.path("run/last.safetensors")).unwrap();
    assert_eq!(checkpoint.classes, ["blue", "green", "red"]);
    let network = checkpoint.config.network;
    assert_eq!(network.input, [3, 12, 10]);
    // The channels go with the height: 36 x 10.
    assert!(network.title().unwrap().starts_with("mps1 36x10 -> "), "{}", network.title().unwrap());
    if device == "cpu" {
        // Undivided: a fifth of each class becomes test images.
        let output = place.train("set/train", &options);
        assert!(
            stderr(&output).contains("(48 training images, 12 test images)"),
            "{}",
            stderr(&output)
        );
        let eval = ["eval", &place.text("run"), "--device", "cpu", "--json"];
        let output = place.command(&eval).output().unwrap();
        let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&line["accuracy"], &line["own_data"]), (&1.0.into(), &true.into()), "{line}");
        let grey = place.train("set", &[&options[..], &["--channels", "1"]].concat());
        assert!(stderr(&grey).contains("mps1 12x10"), "{}", stderr(&grey));
    }
}

mod cpu {
    #[test]
    fn colours_are_learned() {
        super::colours_are_learned_on("cpu");
    }
}

mod vulkan {
    #[test]
    fn colours_are_learned() {
        super::colours_are_learned_on("vulkan");
    }
}

#[test]
fn every_file_that_is_no_image_is_named() {
    let place = Place::new();
    write_folders(&place.path("set"));
    let one = place.path("set/train/1/4.png");
    let whole = fs::read(&one).unwrap();
    fs::write(&one, &whole[..whole.len() / 2]).unwrap();
    let said = place.refused("set", &[], "4.png: image: expected one that is whole");
    assert!(said.lines().filter(|line| line.contains(".png")).count() == 1, "{said}");

    let notes = place.path("set/train/1/notes.txt");
    fs::write(&notes, "not an image").unwrap();
    fs::write(place.path("set/test/0/0.png"), "").unwrap();
    let said = place.refused("set", &[], "3 of the 73 images of ");
    for name in ["train/1/4.png: ", "train/1/notes.txt: ", "test/0/0.png: "] {
        assert_eq!(said.lines().filter(|line| line.contains(name)).count(), 1, "{name} in {said}");
    }
    assert!(place.cached().is_empty(), "a set with broken images was kept");
    assert!(!place.path("run").exists(), "a run was begun");

    // A run that was trained on them before names them too.
    fs::rename(&notes, place.path("notes.txt")).unwrap();
    fs::write(&one, &whole).unwrap();
    fs::write(place.path("set/test/0/0.png"), &whole).unwrap();
    place.trained("set", &[]);
    fs::write(&one, "").unwrap();
    fs::rename(place.path("notes.txt"), &notes).unwrap();
    let eval = ["eval", &place.text("run"), "--device", "cpu"];
    let output = place.command(&eval).output().unwrap();
    let said = stderr(&output);
    assert!(error_line(&output).contains("2 of the 73 images of "), "{said}");
    for name in ["train/1/4.png: ", "train/1/notes.txt: "] {
        assert_eq!(said.lines().filter(|line| line.contains(name)).count(), 1, "{name} in {said}");
    }
}

#[test]
fn images_of_different_sizes_need_one() {
    let place = Place::new();
    write_folders(&place.path("set"));
    write_png(&place.path("set/train/2/2.png"), [1, 20, 30], &[100; 600]);
    let said =
        place.refused("set", &[], "--size: the images are of different sizes (8 x 8 pixels in ");
    assert!(said.contains("0.png, 20 x 30 in ") && said.contains("2.png)"), "{said}");
    let (_, checkpoint) = place.trained("set", &["--size", "6,4"]);
    assert_eq!(checkpoint.config.network.input, [1, 6, 4]);
    // A network of a file says which size it takes.
    let file = place.text("net.toml");
    fs::write(&file, "input = [1, 5, 7]\n[[layers]]\nkind = \"dense\"\nout = 3\n").unwrap();
    let (_, checkpoint) = place.trained("set", &["--network", &file]);
    assert_eq!(checkpoint.config.network.input, [1, 5, 7]);
    for (size, with) in
        [("0,4", "expected two whole numbers above 0"), ("100000,100000", "--size: ")]
    {
        let output = place.train("set", &["--size", size]);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains(with), "{}", stderr(&output));
    }
    place.refused("set", &["--channels", "2"], "--channels: 2: expected 1 (grey) or 3");
    place.refused(
        "set",
        &["--test-share", "1"],
        "--test-share: 1: expected a number between 0 and 1",
    );
    // Other forms are resized too.
    write_files(&place.path("idx"), &files());
    let (_, checkpoint) = place.trained("idx", &["--size", "4,4", "--channels", "3"]);
    assert_eq!(checkpoint.config.network.input, [3, 4, 4]);
}

/// The run keeps how its images were taken; to resume it with others is refused.
#[test]
fn a_run_on_folders_is_resumed_and_measured_as_it_began() {
    let place = Place::new();
    write_folders(&place.path("all"));
    let options = ["--size", "6,6", "--test-share", "0.3", "--split-seed", "5"];
    let (expected, _) = place.trained("all/train", &[&options[..], &["--epochs", "4"]].concat());
    place.trained("all/train", &options);
    let run = place.text("run");
    let resume = |more: &[&str]| {
        place.command(&[&["train", "--resume", &run], more].concat()).output().unwrap()
    };
    let output = resume(&["--size", "5,5"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(error_line(&output).contains("--size: 5,5: the run is trained with 6,6"));
    let output = resume(&["--epochs", "4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(fs::read(place.path("run/last.safetensors")).unwrap() == expected);
    let output = place.command(&["eval", &run, "--device", "cpu", "--json"]).output().unwrap();
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(line["own_data"], true, "{line}");
    // A report names the file of each image, which lies in the folder of its class.
    let report = place.text("report");
    let output =
        place.command(&["eval", &run, "--device", "cpu", "--report", &report]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let predictions = fs::read_to_string(place.path("report/predictions.csv")).unwrap();
    assert_eq!(predictions.lines().count(), 1 + 18);
    for line in predictions.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (class, file) = (fields[1], fields[fields.len() - 1]);
        assert!(file.contains(&format!("/all/train/{class}/")), "{line}");
        assert!(Path::new(file).is_file(), "{line}");
    }
    // Of another set the test images are taken in the size of the network.
    let other = place.text("all");
    let eval = ["eval", &run, "--device", "cpu", "--data", &other];
    let output = place.command(&eval).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("(12 test images)"), "{}", stderr(&output));
}

/// What is in the cache is what was decoded: forged there, it is trained on; damaged, it is decoded anew.
#[test]
fn decoded_images_are_kept_and_checked() {
    let place = Place::new();
    write_folders(&place.path("set"));
    let (expected, checkpoint) = place.trained("set", &["--no-cache"]);
    assert!(place.cached().is_empty());
    place.trained("set", &[]);
    let file = place.cached().remove(0);
    let good = fs::read(&file).unwrap();
    assert_eq!(good.len(), 64 + 72 * 64);

    let mut forged = good.clone();
    forged[100] ^= 0xff;
    let (bytes, _) = {
        fs::write(&file, &forged).unwrap();
        place.trained("set", &[])
    };
    assert!(bytes == expected, "a damaged file was taken");
    assert!(fs::read(&file).unwrap() == good, "a damaged file was not replaced");
    let sum = Sha256::digest(&forged[32..]);
    forged[..32].copy_from_slice(&sum);
    fs::write(&file, &forged).unwrap();
    let (_, other) = place.trained("set", &[]);
    assert_ne!(other.data, checkpoint.data, "the cache was not used");
    let (bytes, _) = place.trained("set", &["--no-cache"]);
    assert!(bytes == expected);
    for cut in [0, 31, 64, good.len() - 1] {
        fs::write(&file, &good[..cut]).unwrap();
        assert!(place.trained("set", &[]).0 == expected, "{cut}");
    }

    // Another time stamp is another file.
    let image = File::options().append(true).open(place.path("set/train/0/0.png")).unwrap();
    let later = SystemTime::now() + Duration::from_secs(9);
    image.set_times(FileTimes::new().set_modified(later)).unwrap();
    place.trained("set", &[]);
    assert_eq!(place.cached().len(), 2);
    // A cache that cannot be written is told of, and costs nothing else.
    fs::remove_dir_all(place.path("cache")).unwrap();
    fs::write(place.path("cache"), "in the way").unwrap();
    let output = place.train("set", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("are not kept for the next time: cannot create"));
}

#[test]
fn classes_are_the_folders_in_their_order() {
    let place = Place::new();
    let grey = |path: &str| write_png(&place.path(path), [1, 4, 4], &[99; 16]);
    for class in ["c10", "c9", "été"] {
        for image in 0..4 {
            grey(&format!("set/{class}/{image}.png"));
        }
    }
    // Hidden files and litter are no images.
    fs::write(place.path("set/c9/.DS_Store"), "x").unwrap();
    fs::create_dir(place.path("set/.git")).unwrap();
    let (_, checkpoint) = place.trained("set", &["--test-share", "0.25"]);
    assert_eq!(checkpoint.classes, ["c9", "c10", "été"]);
    fs::write(place.path("set/labels.txt"), "été\nc9\nc10\n").unwrap();
    let (_, checkpoint) = place.trained("set", &["--test-share", "0.25"]);
    assert_eq!(checkpoint.classes, ["été", "c9", "c10"]);
    fs::write(place.path("set/labels.txt"), "été\nc9\nc11\n").unwrap();
    place.refused("set", &[], "labels.txt: names: expected the names of the folders");
    fs::remove_file(place.path("set/labels.txt")).unwrap();

    // An image beside the folders is no part of the set, which is said.
    grey("set/alone.png");
    let output = place.train("set", &["--test-share", "0.25"]);
    assert!(
        stderr(&output).contains("an image in no class folder is left out"),
        "{}",
        stderr(&output)
    );
    // A class may be called train.
    for image in 0..4 {
        grey(&format!("set/train/{image}.png"));
    }
    let (_, checkpoint) = place.trained("set", &["--test-share", "0.25"]);
    assert_eq!(checkpoint.classes, ["c9", "c10", "train", "été"]);
}

#[test]
fn folders_that_are_no_set_are_told_in_one_line() {
    let place = Place::new();
    write_folders(&place.path("set"));
    let moved = |from: &str, to: &str| fs::rename(place.path(from), place.path(to)).unwrap();
    moved("set/test/2", "set/test/3");
    place.refused(
        "set",
        &[],
        "test: class folder: expected a class of the training images, found ",
    );
    moved("set/test/3", "set/test/2");
    moved("set/test", "set/val");
    let output = place.train("set", &[]);
    assert!(stderr(&output).contains("the test images are those of "), "{}", stderr(&output));
    moved("set/train", "set/other");
    fs::create_dir(place.path("alone")).unwrap();
    moved("set/val", "alone/test");
    place.refused("alone", &[], "data set: expected a folder train as well, found ");
    for class in 0..257 {
        write_png(&place.path(&format!("many/{class}/0.png")), [1, 1, 1], &[0]);
    }
    place.refused("many", &[], "folders: expected 1 to 256, one for each class, found 257");
    write_png(&place.path("few/a/0.png"), [1, 1, 1], &[0]);
    write_png(&place.path("few/b/0.png"), [1, 1, 1], &[0]);
    place.refused(
        "few",
        &[],
        "test images: expected images of a class whose share of 0.2 is one, found 2 images in all",
    );
    fs::create_dir(place.path("none")).unwrap();
    place.refused("none", &[], "found an empty folder");
    fs::write(place.path("a.npz"), "x").unwrap();
    place.refused(
        "a.npz",
        &[],
        "a.npz: file: expected a whole NumPy archive, found no ZIP archive",
    );
    fs::copy(place.path("a.npz"), place.path("none/a.npz")).unwrap();
    fs::copy(place.path("a.npz"), place.path("none/b.npz")).unwrap();
    place.refused(
        "none",
        &[],
        "data set: expected one NumPy archive, or the name of one, found 2 of them",
    );
    // A label that no training image has.
    let [(pixels, labels), _] = parts();
    let x = npy("|u1", "(60, 8, 8)", &pixels);
    let (y, other) = (npy("|u1", "(60,)", &labels), npy("|u1", "(60,)", &[9; 60]));
    let arrays = [("x_train", x.clone()), ("y_train", y), ("x_test", x), ("y_test", other)];
    fs::write(place.path("b.npz"), archive_of(&arrays, true)).unwrap();
    place.refused(
        "b.npz",
        &[],
        "y_test: label 0: expected less than 3, the classes of y_train, found 9",
    );
}

/// Replays the corpora of the fuzz targets.
#[test]
fn the_seeds_of_the_fuzz_targets_are_read_or_refused_with_one_line() {
    let (mut read, mut refused) = (0, 0);
    for seed in fuzz_seeds("npz") {
        match npz::read(Path::new("seed"), Cursor::new(&seed), &LoadOptions::default()) {
            Ok((train, _)) => {
                assert_eq!(train.pixels.len(), train.count * train.size());
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 10 && refused > 10, "{read} {refused}");
    (read, refused) = (0, 0);
    for seed in fuzz_seeds("picture") {
        match picture::decode(Path::new("seed"), &seed, picture::Target::default()) {
            Ok(picture) => {
                assert_eq!(picture.pixels.len(), picture.shape.iter().product::<usize>());
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 10 && refused > 10, "{read} {refused}");
}

/// What the images take is known before they are decoded.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_checked_first() {
    let place = Place::new();
    let claim = npy("|u1", "(1000000, 32, 32)", &[0; 8]);
    let arrays = [("x_train", claim), ("y_train", npy("|u1", "(8,)", &[0; 8]))];
    fs::write(place.path("large.npz"), archive_of(&arrays, true)).unwrap();
    let limited = |data: &Path| {
        let program = env!("CARGO_BIN_EXE_tnet-gpu");
        let line = format!(
            "ulimit -v 1500000; exec {program} train --device cpu --data {}",
            data.display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).env_remove("TNET_DATA").output().unwrap()
    };
    let output = limited(&place.path("large.npz"));
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains("reading this archive needs 2.0 GB of memory, "), "{line}");
    // 400 images of 1600 x 1600 in a file of a few hundred bytes each.
    write_png(&place.path("set/a/0.png"), [1, 1600, 1600], &[7; 1600 * 1600]);
    for at in 1..400 {
        fs::hard_link(place.path("set/a/0.png"), place.path(&format!("set/a/{at}.png"))).unwrap();
    }
    let output = limited(&place.path("set"));
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains("decoding these images needs 3.1 GB of memory, "), "{line}");
}
