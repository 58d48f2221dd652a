//! `train` and `bench` with networks other than the article's: from options, and from files.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tnet_gpu::net::file;

use crate::common::executable::{
    Training, code, error_line, metrics_without_time, stderr, stdout, tnet,
};
use crate::common::open;
use crate::common::pictures::{parts, write_png};

/// Five layers with weights, of every kind, for images of 8 x 8 in 3 classes.
const MIXED: &str = r#"
input = [1, 8, 8]
layers = [
    { kind = "dropout", rate = 0.1 },
    { kind = "mps", in = [8, 8], out = [6, 4], bond = 3, bias = false },
    { kind = "relu" },
    { kind = "dense", out = 15, bias = false },
    { kind = "gelu" },
    { kind = "dropout", rate = 0.3 },
    { kind = "mps", in = [3, 5], out = [7, 2], bond = 2 },
    { kind = "relu" },
    { kind = "mps", in = [2, 8], out = [4, 4], bond = 1, pad = [2, 4] },
    { kind = "relu" },
    { kind = "dropout", rate = 0.2 },
    { kind = "dense", out = 3 },
]
"#;

/// A chain of three cores after convolutions, of cores and of a matrix, and both kinds of pooling, for the same images.
pub const CONVOLUTIONS: &str = r#"
input = [1, 8, 8]
layers = [
    { kind = "conv2d", out = [3, 2], kernel = [3, 3], padding = 1, bond = 2 },
    { kind = "relu" },
    { kind = "maxpool", kernel = [2, 2] },
    { kind = "dropout", rate = 0.1 },
    { kind = "conv2d", out = 4, kernel = [2, 2] },
    { kind = "relu" },
    { kind = "avgpool", kernel = [2, 2], stride = 1 },
    { kind = "mps", in = [4, 2, 2], out = [3, 2, 2], bond = [2, 3] },
    { kind = "relu" },
    { kind = "dense", out = 3 },
]
"#;

/// A data set, and the file with a network beside it.
fn with_file(network: &str) -> (Training, String) {
    let training = Training::new();
    let file = training.path("net.toml");
    fs::write(&file, network).unwrap();
    (training, file)
}

/// The same with the first network.
fn mixed() -> (Training, String) {
    with_file(MIXED)
}

fn one_object(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

/// Trained in one go, and in two, to the same bits; evaluated to the accuracy that was reported.
fn networks_of_files_are_trained_resumed_and_evaluated(device: &str) {
    // 144 + 96, 360, 42 + 20 + 14, 8 + 32 + 16, 36 + 3.
    is_trained_resumed_and_evaluated(device, MIXED, 240 + 360 + 76 + 56 + 39);
    // 6 + 36 + 6, 96 + 4, 24 + 24 + 12 + 12, 36 + 3.
    is_trained_resumed_and_evaluated(device, CONVOLUTIONS, 48 + 100 + 72 + 39);
}

fn is_trained_resumed_and_evaluated(device: &str, network: &str, parameters: usize) {
    let (training, file) = with_file(network);
    let [run, straight] = ["run", "straight"].map(|name| training.path(name));
    for (out, epochs) in [(&run, "1"), (&straight, "3")] {
        let options = ["--network", &file, "--device", device, "--epochs", epochs, "--out", out];
        let output = training.run(&[&options[..], &["--validation", "10", "--json"]].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let object = one_object(&stdout(&output));
        assert_eq!(object["parameters"], parameters, "{object}");
        let layers = object["layers"].as_array().unwrap();
        assert_eq!(layers.len(), network.matches("kind").count());
    }
    // The file is not needed again: the run knows its network.
    fs::remove_file(&file).unwrap();
    let output = training.resume(&["--epochs", "3", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let object = one_object(&stdout(&output));
    let [got, expected] = [&run, &straight].map(|run| Path::new(run).join("last.safetensors"));
    assert!(fs::read(got).unwrap() == fs::read(expected).unwrap(), "other bits after a resume");
    assert_eq!(metrics_without_time(Path::new(&run)), metrics_without_time(Path::new(&straight)));

    let data = training.path("data");
    let last = format!("{run}/last.safetensors");
    let output = tnet(&["eval", &last, "--device", device, "--data", &data, "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(one_object(&stdout(&output))["accuracy"], object["test_accuracy"]);
}

#[test]
fn networks_of_files_go_all_the_way_on_the_cpu() {
    networks_of_files_are_trained_resumed_and_evaluated("cpu");
}

/// Its report, its answers for pictures, and files for other programs; what is in these is compared in export.rs.
#[test]
fn a_network_of_convolutions_is_reported_on_and_taken_elsewhere() {
    let (training, file) = with_file(CONVOLUTIONS);
    let output = training.run(&["--network", &file, "--epochs", "20", "--lr", "0.01"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let [run, data, report] = ["run", "data", "report"].map(|name| training.path(name));
    let output = tnet(&["eval", &run, "--data", &data, "--report", &report, "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let accuracy = one_object(&stdout(&output))["accuracy"].as_f64().unwrap();
    // Stripes of brightness, which a kernel of three sees.
    assert!(accuracy > 0.9, "{accuracy}");
    let text = fs::read_to_string(Path::new(&report).join("report.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["accuracy"], accuracy);

    let [_, (pixels, labels)] = parts();
    let picture = |at: usize| training.path(&format!("{at}.png"));
    for (at, image) in pixels.chunks(64).enumerate() {
        write_png(Path::new(&picture(at)), [1, 8, 8], image);
    }
    let pictures: Vec<String> = (0..labels.len()).map(picture).collect();
    let pictures: Vec<&str> = pictures.iter().map(String::as_str).collect();
    let output = tnet(&[&["predict", &run, "--json"], &pictures[..]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let answers = stdout(&output);
    let right = answers.lines().zip(&labels).filter(|(line, label)| {
        serde_json::from_str::<Value>(line).unwrap()["class"] == u64::from(**label)
    });
    assert_eq!(right.count() as f64 / labels.len() as f64, accuracy);

    for format in ["onnx", "dense", "safetensors"] {
        let out = training.path(format);
        let output = tnet(&["export", &run, "--format", format, "--out", &out]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(fs::metadata(&out).unwrap().len() > 4 * (48 + 100 + 72 + 39));
    }
}

mod vulkan {
    #[test]
    fn networks_of_files_go_all_the_way() {
        if super::open("vulkan").is_some() {
            super::networks_of_files_are_trained_resumed_and_evaluated("vulkan");
        }
    }
}

/// What `--print-network` prints is what the options train.
#[test]
fn the_network_of_the_options_can_be_printed_and_trained() {
    let training = Training::new();
    let options = ["--model", "mps-all", "--bond", "2,1", "--hidden", "24,12", "--dropout", "0.1"];
    let data = training.path("data");
    let print = [&["train", "--data", &data, "--print-network"], &options[..]].concat();
    let output = tnet(&print);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let file = training.path("printed.toml");
    fs::write(&file, &output.stdout).unwrap();
    for text in ["input = [1, 8, 8]", "in = [8, 8]", "out = [6, 4]", "out = [4, 3]", "rate = 0.1"] {
        assert!(stdout(&output).contains(text), "{text} in\n{}", stdout(&output));
    }
    let [of_options, of_file] = ["a", "b"].map(|name| training.path(name));
    let runs = [
        [&["--out", &of_options], &options[..]].concat(),
        vec!["--out", &of_file, "--network", &file],
    ];
    for arguments in runs {
        let output = training.run(&arguments);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(
            stderr(&output).contains("network: mps1 8x8 -> 6x4, bond 2; mps4 6x4 -> 4x3, bond 1")
        );
    }
    let [a, b] =
        [of_options, of_file].map(|run| fs::read(format!("{run}/last.safetensors")).unwrap());
    assert!(a == b, "the file's network is another");
    // Without data it is for Fashion-MNIST's images, and a printed file is printed as it is.
    let output = tnet(&["train", "--print-network"]);
    assert!(stdout(&output).contains("out = [32, 16]"), "{}", stdout(&output));
    let again = tnet(&["train", "--data", &data, "--network", &file, "--print-network"]);
    assert_eq!(again.stdout, fs::read(&file).unwrap());
}

#[test]
fn a_network_that_does_not_fit_is_refused_by_its_layer_before_anything_is_made() {
    let (training, file) = mixed();
    let refused = |options: &[&str], expected: &str| {
        let output = training.run(options);
        assert!([1, 2].contains(&code(&output)), "{}", stderr(&output));
        assert!(error_line(&output).contains(expected), "{expected} in {}", stderr(&output));
        assert!(!Path::new(&training.path("run")).exists(), "a run folder was made");
    };
    for (from, to, expected) in [
        (
            "out = 3 }",
            "out = 4 }",
            "net.toml: dense12: expected 3 outputs, one for each class of the data, found 4",
        ),
        (
            "[1, 8, 8]",
            "[1, 4, 16]",
            "net.toml: input: expected [1, 8, 8], as the data has, found [1, 4, 16]",
        ),
        ("in = [3, 5]", "in = [3, 4]", "net.toml: mps7: in: 3,4: expected a product of 15"),
        (
            "pad = [2, 4]",
            "pad = [1, 4]",
            "net.toml: mps9: in: 2,8: expected a product of 15, the layer's 14 inputs and 1 zeros",
        ),
        (
            "pad = [2, 4]",
            "pad = [2, 16]",
            "net.toml: mps9: pad: 2,16: expected at most 15 outputs to cut off, of 16 that the cores have",
        ),
        ("\"gelu\"", "\"tanh\"", "net.toml: tanh5: expected a layer, found unknown variant `tanh`"),
        ("input =", "inputs =", "net.toml: line 2: "),
    ] {
        fs::write(&file, MIXED.replacen(from, to, 1)).unwrap();
        refused(&["--network", &file], expected);
    }
    fs::remove_file(&file).unwrap();
    refused(&["--network", &file], "cannot open");
    refused(
        &["--bond", "1,2"],
        "--bond: 1,2: expected one number, or one for each tensor layer, of which there are 1",
    );
    refused(
        &["--hidden", "16", "--out-factors", "4,5"],
        "--out-factors: 4,5: expected a product of 16",
    );
    refused(&["--dropout", "1"], "dropout3: rate: 1: expected a number from 0 to less than 1");
    refused(&["--bond", "18446744073709551615"], "mps1: bond: ");
    let output = training.run(&["--network", &file, "--bond", "2"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
}

/// A run keeps its network: neither its folder nor an option changes it.
#[test]
fn a_run_with_another_network_than_its_checkpoint_is_refused() {
    let (training, file) = mixed();
    let output = training.run(&["--network", &file]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let config = training.read("run/config.toml");
    let path = training.path("run/config.toml");
    for (from, to) in [("rate = 0.3", "rate = 0.4"), ("kind = \"gelu\"", "kind = \"relu\"")] {
        assert!(config.contains(from), "{config}");
        fs::write(&path, config.replacen(from, to, 1)).unwrap();
        let output = training.resume(&["--epochs", "3"]);
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains("config.toml is not what"), "{}", stderr(&output));
    }
    fs::write(&path, config).unwrap();
    fs::write(&file, MIXED.replace("rate = 0.3", "rate = 0.4")).unwrap();
    for options in [["--network", &file], ["--bond", "3"], ["--dropout", "0.2"]] {
        let output = training.resume(&options);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(error_line(&output).contains(options[0]), "{}", stderr(&output));
    }
    fs::write(&file, MIXED).unwrap();
    let output = training.resume(&["--epochs", "3", "--network", &file]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[test]
fn the_step_of_any_network_is_benchmarked() {
    let (training, file) = mixed();
    let json = training.path("report.json");
    let bench = ["bench", "--network", &file, "--samples", "2", "--device", "cpu", "--batch", "5"];
    let output = tnet(&[&bench[..], &["--export-json", &json]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let variants: Vec<&str> = rows.iter().map(|row| row["variant"].as_str().unwrap()).collect();
    assert_eq!(variants, ["fused", "composed", "dense"]);
    for row in rows {
        assert_eq!((&row["pass"], &row["bond"]), (&"step".into(), &Value::Null), "{row}");
        assert!(row["median_s"].as_f64().unwrap() > 0.0, "{row}");
    }
    let output = tnet(&[&bench[..], &["--pass", "forward"]].concat());
    assert_eq!(code(&output), 2);
    assert!(error_line(&output).contains("--pass: forward: of a network"), "{}", stderr(&output));
}

/// The networks that come with the program, whose accuracy the README states.
#[test]
fn networks_of_the_assets_have_the_parameters_that_are_stated() {
    for (name, stated, parameters) in
        [("conv.toml", "36,106", 36_106), ("conv-small.toml", "13,066", 13_066)]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/networks").join(name);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(stated), "{text}");
        assert_eq!(file::read(&path).unwrap().parameters().unwrap(), parameters);
    }
}
