//! `tnet-gpu predict`: the class of every image, and what is no image.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use image::ExtendedColorType;
use serde_json::Value;
use tnet_gpu::data::{ImageSet, fashion_mnist};
use tnet_gpu::device::{self, DeviceChoice};
use tnet_gpu::net::Network;

use crate::common::data::scaled;
use crate::common::executable::{Training, code, command, stderr, stdout};
use crate::common::pictures::{parts, write_png};
use crate::common::{fashion_mnist_is_here, tensor};

/// A run that tells the stripes apart, and its test images as files.
fn trained() -> Training {
    let training = Training::new();
    fs::write(training.path("data/labels.txt"), "upper\nmiddle\nlower\n").unwrap();
    let output = training.run(&["--epochs", "12", "--lr", "0.005", "--out-factors", "8,8"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let [_, (pixels, _)] = parts();
    for (at, image) in pixels.chunks(64).enumerate() {
        write_png(Path::new(&training.path(&format!("images/{at}.png"))), [1, 8, 8], image);
    }
    training
}

fn predict(training: &Training, arguments: &[&str]) -> Output {
    command(&[&["predict", &training.path("run")], arguments].concat()).output().unwrap()
}

/// Every line as JSON.
#[track_caller]
fn answers(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The class of an image in a file of `assets/images`: a stripe of brightness in the upper half of 24 x 24 pixels, where the
/// small set has its class 1.
fn asset(name: &str) -> String {
    format!("{}/assets/images/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Compares what is predicted for files of test images with what the network computes for the set that they are from.
fn compare(run: &str, set: &ImageSet, count: usize) {
    let folder = tempfile::tempdir().unwrap();
    for (at, image) in set.pixels.chunks(set.size()).take(count).enumerate() {
        write_png(&folder.path().join(format!("{at}.png")), set.shape, image);
    }
    let folder = folder.path().to_str().unwrap();
    let output = command(&["predict", run, folder, "--json"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let answers = answers(&output);
    assert_eq!(answers.len(), count);

    let device = device::open(DeviceChoice::Cpu).unwrap().device;
    let network = Network::load(run, &device).unwrap();
    let order: Vec<u32> = (0..count as u32).collect();
    let images = tensor(&scaled(set, &order), [count, set.size()], &device);
    let expected = network.probabilities(images).unwrap();
    for (at, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
        assert!(answer["file"].as_str().unwrap().ends_with(&format!("{at}.png")));
        let class = answer["class"].as_u64().unwrap() as usize;
        let largest = expected.iter().copied().fold(0.0, f32::max);
        assert_eq!(expected[class], largest, "image {at}");
        let got: Vec<f32> = serde_json::from_value(answer["probabilities"].clone()).unwrap();
        assert_eq!(&got, expected, "image {at}");
        assert_eq!(answer["probability"], answer["probabilities"][class]);
    }
}

#[test]
fn files_are_answered_as_the_set_that_they_are_from() {
    let training = trained();
    let [_, (pixels, labels)] = parts();
    let set = ImageSet { count: labels.len(), shape: [1, 8, 8], pixels, labels };
    compare(&training.path("run"), &set, 12);
}

#[test]
fn a_hundred_images_of_fashion_mnist_are_answered_as_in_the_set() {
    if !fashion_mnist_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run").to_str().unwrap().to_owned();
    let options = ["--device", "cpu", "--epochs", "1", "--train-images", "6000", "--out", &run];
    let output = command(&[&["train"], &options[..]].concat()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    compare(&run, &fashion_mnist::load(None, &mut |_| ()).unwrap().test, 100);
}

#[test]
fn a_line_has_the_file_and_the_most_probable_classes() {
    let training = trained();
    let images = training.path("images");
    let output = predict(&training, &[&images, "--top", "2"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "nothing was to be said");
    let lines: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 12);
    for (at, line) in lines.iter().enumerate() {
        let expected = ["upper", "middle", "lower"][at % 3];
        let start = format!("{images}/{at}.png: {expected} ");
        assert!(line.starts_with(&start) && line.matches(" %").count() == 2, "{start} in {line}");
    }
    let one = format!("{images}/1.png");
    let output = predict(&training, &[&one, "--json", "--top", "3"]);
    let answer = answers(&output).remove(0);
    assert_eq!((&answer["class"], &answer["name"]), (&1.into(), &"middle".into()));
    assert_eq!(answer["top"].as_array().unwrap().len(), 3);
    assert_eq!(answer["top"][0]["name"], "middle");
    let sum: f64 =
        answer["probabilities"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{answer}");
}

/// Palette, one bit, CMYK, progressive, turned by EXIF, 16 bits, with alpha; and standard input.
#[test]
fn images_of_every_kind_are_answered() {
    let training = trained();
    let names = [
        "palette.png",
        "one-bit.png",
        "cmyk.jpg",
        "progressive.jpg",
        "turned.jpg",
        "sixteen-bit.png",
        "alpha.png",
    ];
    // The turned one stands on its side in its file.
    let turned = image::open(asset("turned.jpg")).unwrap();
    assert_eq!((turned.width(), turned.height()), (45, 60));
    let files: Vec<String> = names.iter().map(|name| asset(name)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = predict(&training, &[&files[..], &["--json"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let answers = answers(&output);
    assert_eq!(answers.len(), names.len());
    for (name, answer) in names.iter().zip(&answers) {
        assert_eq!(answer["name"], "middle", "{name}: {answer}");
    }
    let mut child = command(&["predict", &training.path("run"), "-"]);
    let file = fs::File::open(asset("cmyk.jpg")).unwrap();
    let output = child.stdin(Stdio::from(file)).output().unwrap();
    assert!(stdout(&output).starts_with("-: middle "), "{}", stdout(&output));
}

#[test]
fn ink_on_paper_is_noticed_and_inverted() {
    let training = trained();
    let image = image::open(asset("alpha.png")).unwrap().to_luma8();
    let dark: Vec<u8> = image.pixels().map(|pixel| 255 - pixel.0[0]).collect();
    let file = training.path("dark.png");
    image::save_buffer(&file, &dark, 24, 24, ExtendedColorType::L8).unwrap();
    let output = predict(&training, &[&file]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let hint = format!("{file} looks inverted beside the training images");
    assert!(stderr(&output).contains(&hint), "{}", stderr(&output));
    let output = predict(&training, &[&file, "--invert", "--json"]);
    assert_eq!(answers(&output)[0]["name"], "middle");
    assert_eq!(stderr(&output), "");
    // The other way round.
    let output = predict(&training, &[&asset("alpha.png"), "--invert"]);
    assert!(stderr(&output).contains("leave out --invert"), "{}", stderr(&output));
}

/// A file that is no image is one line; the others are answered. What a header claims costs no memory: the program may take
/// 1 GB.
#[cfg(target_os = "linux")]
#[test]
fn what_is_no_image_costs_one_line() {
    let training = trained();
    let good = fs::read(training.path("images/1.png")).unwrap();
    let photo = fs::read(asset("progressive.jpg")).unwrap();
    let mut huge = good.clone();
    let side = 30_000_u32.to_be_bytes();
    huge[16..24].copy_from_slice(&[side, side].concat());
    let mut checksum = flate2::Crc::new();
    checksum.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    let bad: [(&str, &[u8], &str); 6] = [
        ("empty.png", b"", "expected a PNG or JPEG image, found an empty file"),
        ("cut.png", &good[..good.len() / 2], "expected one that is whole"),
        ("cut.jpg", &photo[..photo.len() / 2], "expected one that is whole"),
        ("huge.png", &huge, "expected at most 67108864 pixels, found 30000 x 30000"),
        ("text.png", b"hello there\n", "expected a PNG or JPEG image, found text: hello there"),
        ("photo.webp", b"RIFF\x04\0\0\0WEBP", "found a WebP image; convert it to PNG"),
    ];
    fs::create_dir(training.path("mixed")).unwrap();
    fs::write(training.path("mixed/good.png"), &good).unwrap();
    for (name, content, _) in &bad {
        fs::write(training.path(&format!("mixed/{name}")), content).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_tnet-gpu");
    let (run, images) = (training.path("run"), training.path("mixed"));
    let line =
        format!("ulimit -v 1000000; exec {program} predict {run} {images} {images}/none.png");
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 1);
    assert!(stdout(&output).starts_with(&format!("{images}/good.png: middle ")));
    let said = stderr(&output);
    assert_eq!(said.lines().count(), bad.len() + 1, "{said}");
    for (name, _, problem) in bad {
        let line = said.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.starts_with("tnet-gpu: ") && line.contains(problem), "{problem} in {line}");
    }
    assert!(said.contains("cannot open") && said.contains("none.png"), "{said}");
    // An empty folder is no answer.
    fs::create_dir(training.path("none")).unwrap();
    let output = predict(&training, &[&training.path("none")]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("expected PNG or JPEG images, found no files"));
}
