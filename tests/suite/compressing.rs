//! `compress`: the table, the choice of a bond, and the run that it begins, which is like any other.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tnet_gpu::compress::{By, Candidate, Folding};
use tnet_gpu::model::{ModelFile, file};
use tnet_gpu::mps::MpsInit;
use tnet_gpu::net::{Model, Preset, Snapshot};
use tnet_gpu::train::checkpoint::Checkpoint;

use crate::common::executable::{
    Training, code, command, error_line, metrics_without_time, stderr, stdout, tnet,
};
use crate::common::fashion_mnist_is_here;
#[cfg(unix)]
use crate::common::running::Running;

/// A dense network for images of 8 x 8 with 16 and 9 features, trained for two epochs.
fn dense_run() -> Training {
    let training = Training::new();
    let output = training.run(&["--model", "dense", "--hidden", "16,9", "--validation", "10"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    training
}

impl Training {
    /// `compress` on the CPU with `--json`.
    fn compress(&self, model: &str, more: &[&str]) -> Value {
        let path = self.path(model);
        let arguments = [&["compress", &path, "--device", "cpu", "--json"], more].concat();
        let output = tnet(&arguments);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    fn refused(&self, more: &[&str]) -> String {
        let path = self.path("run");
        let output = tnet(&[&["compress", &path, "--device", "cpu"], more].concat());
        assert_ne!(code(&output), 0, "{more:?}");
        error_line(&output)
    }
}

/// A column of the rows.
fn column(report: &Value, name: &str) -> Vec<f64> {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().map(|row| row[name].as_f64().unwrap()).collect()
}

#[test]
fn the_table_has_what_every_bond_keeps_and_costs() {
    let training = dense_run();
    let by = |way: &str, more: &[&str]| {
        let options = [&["--bond", "1,2,4,32", "--by", way], more].concat();
        training.compress("run", &options)
    };
    let (weights, data) = (by("weights", &[]), by("data", &[]));
    let model = ModelFile::read(Path::new(&training.path("run")), None).unwrap();
    let candidate = Candidate::new(&model.snapshot, 0, &Folding::default()).unwrap();
    for (report, way) in [(&weights, By::Weights), (&data, By::Data)] {
        // 64 x 16 + 16, 16 x 9 + 9, 9 x 3 + 3.
        assert_eq!(report["dense"]["parameters"], 1223, "{way:?}");
        assert_eq!(report["rows"][0]["layer"], "dense1");
        // (8 x 4 + 8 x 4) K + 16, and the two other layers.
        assert_eq!(column(report, "parameters"), [263.0, 327.0, 455.0, 2247.0]);
        assert_eq!(report["rows"][3]["accuracy"], report["dense"]["accuracy"]);
        for name in ["weight_error", "output_error"] {
            assert!(column(report, name)[3] < 1e-6, "{name}, {way:?}");
        }
        let errors = column(report, "output_error");
        assert!(errors.windows(2).all(|pair| pair[1] <= pair[0]), "{errors:?}");
    }
    // There are seven layers, of which the second is a ReLU.
    for (at, with) in [(7, "layer: 7: expected less than 7"), (1, "relu2: it has no matrix")] {
        let error =
            Candidate::new(&model.snapshot, at, &Folding::default()).unwrap_err().to_string();
        assert!(error.starts_with(with), "{error}");
    }
    let expected: Vec<f64> = [1, 2, 4]
        .map(|bond| candidate.compressed(bond, By::Weights, None).unwrap().weight_error)
        .into();
    assert_eq!(column(&weights, "weight_error")[..3], expected);
    // Fitted to the outputs, their error is never larger.
    let [by_weights, by_data] = [&weights, &data].map(|report| column(report, "output_error"));
    assert!(by_data.iter().zip(&by_weights).all(|(data, weights)| data <= weights));
    assert!(by_data[0] < by_weights[0]);
}

#[test]
fn all_layers_are_compressed_in_their_order() {
    let training = dense_run();
    let report = training.compress("run", &["--bond", "1,2", "--layer", "all"]);
    let rows = report["rows"].as_array().unwrap();
    let layers: Vec<&str> = rows.iter().map(|row| row["layer"].as_str().unwrap()).collect();
    assert_eq!(layers, ["dense1", "dense4", "dense1", "dense4"]);
    // 16 -> 9 as 4x4 -> 3x3: (4 x 3 + 4 x 3) K + 9.
    assert_eq!(
        column(&report, "parameters"),
        [263.0, 263.0 - 153.0 + 33.0, 327.0, 327.0 - 153.0 + 57.0]
    );
    // A layer alone meets other inputs than one behind a compressed layer.
    let alone = training.compress("run", &["--bond", "1", "--layer", "dense4"]);
    assert_ne!(column(&alone, "output_error")[0], column(&report, "output_error")[1]);
}

#[test]
fn a_bond_is_found_by_its_error_or_by_its_size() {
    let training = dense_run();
    let found = |options: &[&str]| {
        let report = training.compress("run", options);
        let bond = column(&report, "bond")[0] as usize;
        (bond, report)
    };
    for (way, name) in [("weights", "weight_error"), ("data", "output_error")] {
        let (bond, report) = found(&["--max-error", "0.2", "--by", way]);
        assert!(column(&report, name)[0] <= 0.2, "{way}");
        let below = (bond - 1).to_string();
        let report = training.compress("run", &["--bond", &below, "--by", way]);
        assert!(column(&report, name)[0] > 0.2, "{way}: {bond} is not the smallest");
    }
    let (bond, report) = found(&["--parameters", "454"]);
    assert_eq!((bond, column(&report, "parameters")[0]), (3, 391.0));
    let line = training.refused(&["--parameters", "262"]);
    assert_eq!(line, "tnet-gpu: --parameters: 262: expected at least 263, which a bond of 1 has");
}

#[test]
fn what_cannot_be_compressed_is_refused_with_one_line() {
    let training = dense_run();
    for (options, expected) in [
        (&["--bond", "33"][..], "--bond: 33: expected 1 to 32, at which dense1 loses nothing"),
        (
            &["--bond", "1", "--layer", "relu2"],
            "--layer: relu2: expected all or one of dense1, dense4, dense7",
        ),
        (
            &["--bond", "1", "--out-factors", "3,5"],
            "--out-factors: 3,5: expected a product of 16, as dense1 has",
        ),
        (
            &["--bond", "1", "--layer", "all", "--in-factors", "8,8"],
            "--in-factors: it is for one layer",
        ),
        (&["--max-error", "1.5"], "--max-error: 1.5: expected a number from 0 to less than 1"),
        (&["--bond", "1,2", "--out", "new"], "--bond: --out writes the network of one bond"),
        (&["--bond", "1", "--data", "nowhere"], "nowhere"),
    ] {
        let line = training.refused(options);
        assert!(line.contains(expected), "{expected} in {line}");
    }
    // A folder that holds something is left as it is, before anything is computed.
    let own = training.path("run");
    let line = training.refused(&["--bond", "1", "--out", &own]);
    assert!(line.contains("it holds a run"), "{line}");
    assert!(Checkpoint::read(Path::new(&training.path("run/last.safetensors"))).is_ok());
}

/// The bond of a tensor layer is lowered like that of a dense one, and not raised.
#[test]
fn the_bond_of_a_tensor_layer_is_lowered() {
    let training = Training::new();
    let output = training.run(&["--bond", "6", "--hidden", "16,9", "--out-factors", "4,4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let report = training.compress("run", &["--bond", "2,6", "--by", "weights"]);
    assert_eq!(report["rows"][0]["layer"], "mps1");
    assert_eq!(report["dense"]["parameters"], 1223);
    let errors = column(&report, "weight_error");
    assert!(errors[0] > 0.01 && errors[1] < 1e-6, "{errors:?}");
    let line = training.refused(&["--bond", "7"]);
    assert!(line.contains("--bond: 7: expected 1 to 6, which mps1 has"), "{line}");
}

/// `--finetune 2` ends with the bits of a run that is resumed for two epochs, and of one that is stopped in between.
#[test]
fn the_run_that_is_written_is_like_any_other() {
    let training = dense_run();
    let model = training.path("run");
    let out = |name: &str, more: &[&str]| {
        let path = training.path(name);
        let report = training.compress("run", &[&["--bond", "3", "--out", &path], more].concat());
        assert_eq!(report["run"], path);
        report
    };
    let report = out("written", &[]);
    let eval = training.eval("written", &["--json"]);
    assert_eq!(code(&eval), 0, "{}", stderr(&eval));
    let eval: Value = serde_json::from_str(&stdout(&eval)).unwrap();
    assert_eq!(eval["accuracy"], report["rows"][0]["accuracy"]);
    assert_eq!(eval["own_data"], true);
    let exported = training.path("written.onnx");
    let output =
        tnet(&["export", &training.path("written"), "--format", "onnx", "--out", &exported]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let report = out("tuned", &["--finetune", "2"]);
    assert_eq!(report["finetuned"]["epochs"], 2);
    // One epoch, and another when resumed.
    for epochs in ["1", "2"] {
        let output = tnet(&["train", "--resume", &training.path("written"), "--epochs", epochs]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    let last = |name: &str| fs::read(training.path(&format!("{name}/last.safetensors"))).unwrap();
    assert!(last("tuned") == last("written"), "the runs differ");
    let [one, other] =
        ["tuned", "written"].map(|name| metrics_without_time(Path::new(&training.path(name))));
    assert_eq!(one, other);
    // The options of the run that was compressed are kept.
    let [from, to] = [model, training.path("tuned")]
        .map(|run| ModelFile::read(Path::new(&run), None).unwrap().trained.unwrap().config);
    assert_eq!(
        (from.batch_size, from.validation, from.seed),
        (to.batch_size, to.validation, to.seed)
    );

    let output = tnet(&[
        "compress",
        &training.path("run"),
        "--device",
        "cpu",
        "--bond",
        "3",
        "--finetune",
        "1",
    ]);
    assert_eq!(code(&output), 2);
}

/// Another program's file of images that no data set on this machine has: it is written, evaluated and trained on where
/// data is named.
#[test]
fn a_network_without_data_is_compressed_by_its_weights() {
    let training = dense_run();
    let exported = training.path("other.safetensors");
    let output = tnet(&["export", &training.path("run"), "--format", "dense", "--out", &exported]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let small = training.path("small");
    let report = training.compress("other.safetensors", &["--bond", "4", "--out", &small]);
    assert_eq!(report["rows"][0]["accuracy"], Value::Null);
    assert_eq!(report["rows"][0]["output_error"], Value::Null);

    let output = training.eval("small", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let data = training.path("data");
    let train =
        |more: &[&str]| tnet(&[&["train", "--resume", &small, "--data", &data], more].concat());
    let output = train(&["--epochs", "2"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    // Now it has met data, and keeps to it.
    let output = train(&["--epochs", "3", "--train-images", "30"]);
    assert!(error_line(&output).contains("--train-images: 30: the run is trained with 60"));
}

#[test]
fn the_table_is_printed_with_what_it_means() {
    let training = dense_run();
    let output = tnet(&["compress", &training.path("run"), "--device", "cpu", "--bond", "1,20"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let (table, remarks) = (stdout(&output), stderr(&output));
    for text in
        ["| dense ", "| dense1 |    1 |        263 |  21.50 % |", "|   20 |", "output error"]
    {
        assert!(table.contains(text), "{text} in\n{table}");
    }
    for text in [
        "dense1 as 8x8 -> 4x4: no more parameters than dense up to bond 16, no more multiply-adds up to bond 2, no slower",
        "dense1: a bond of 20 does not pay",
        "training a tensor network from the start",
    ] {
        assert!(remarks.contains(text), "{text} in\n{remarks}");
    }
}

/// Chains of three cores: the rows name their factors and bonds, a bond larger than a cut's rank is that rank, and a run is
/// written, trained on and exported like one of two cores.
#[test]
fn a_chain_takes_the_place_of_a_layer() {
    let training = dense_run();
    let by = |way: &str, more: &[&str]| {
        let options = [&["--cores", "3", "--bond", "1,3,8", "--by", way], more].concat();
        training.compress("run", &options)
    };
    let (weights, data) = (by("weights", &[]), by("data", &[]));
    for report in [&weights, &data] {
        // 8 x 8 as 2 x 4 x 8, 16 as 4 x 2 x 2: 8 K1 + 8 K1 K2 + 16 K2 + 16 and the other layers, 183.
        assert_eq!(column(report, "parameters"), [231.0, 343.0, 903.0]);
        let row = &report["rows"][2];
        let lists = ["in_factors", "out_factors", "bonds"].map(|name| row[name].to_string());
        assert_eq!(lists, ["[2,4,8]", "[4,2,2]", "[8,8]"]);
        assert_eq!((&row["bond"], &row["pad"]), (&8.into(), &Value::Null));
    }
    let [of_weights, of_data] = [&weights, &data].map(|report| column(report, "output_error"));
    assert!(of_data.iter().zip(&of_weights).all(|(data, weights)| data <= weights));
    assert!(of_data[0] < of_weights[0], "{of_data:?} {of_weights:?}");
    // At the full rank of every cut nothing is lost: cores are rounded to f32.
    let full = training.compress("run", &["--cores", "3", "--bond", "16", "--by", "weights"]);
    assert_eq!(full["rows"][0]["bonds"].to_string(), "[8,16]");
    assert!(column(&full, "weight_error")[0] < 1e-6);
    assert_eq!(full["rows"][0]["accuracy"], full["dense"]["accuracy"]);

    for (way, name) in [("weights", "weight_error"), ("data", "output_error")] {
        let options = ["--cores", "3", "--max-error", "0.3", "--by", way];
        let report = training.compress("run", &options);
        assert!(column(&report, name)[0] <= 0.3, "{way}");
        let below = (column(&report, "bond")[0] as usize - 1).to_string();
        let report = training.compress("run", &["--cores", "3", "--bond", &below, "--by", way]);
        assert!(column(&report, name)[0] > 0.3, "{way}: bond {below} is enough");
    }
    let report = training.compress("run", &["--cores", "3", "--parameters", "342"]);
    assert_eq!(column(&report, "parameters"), [183.0 + 16.0 + 24.0 * 2.0 + 32.0]);

    let out = training.path("chain");
    let options = ["--cores", "3", "--bond", "3", "--layer", "all", "--out", &out];
    let report = training.compress("run", &[&options[..], &["--finetune", "1"]].concat());
    assert_eq!(report["finetuned"]["epochs"], 1);
    assert_eq!(report["rows"].as_array().unwrap().len(), 2);
    let eval = training.eval("chain", &["--json"]);
    let eval: Value = serde_json::from_str(&stdout(&eval)).unwrap();
    assert_eq!(eval["accuracy"], report["finetuned"]["test_accuracy"]);
    // Its chain is made smaller in turn, and keeps its factors.
    let report = training.compress("chain", &["--cores", "3", "--bond", "2", "--by", "weights"]);
    assert_eq!(report["rows"][0]["in_factors"].to_string(), "[2,4,8]");

    for (options, expected) in [
        (&["--cores", "1"][..], "--cores: 1: expected 2 to 16"),
        (&["--cores", "3", "--in-factors", "8,8"], "--in-factors: 8,8: expected 3 factors"),
        (&["--out-factors", "4,2,3"], "--out-factors: 4,2,3: expected a product of 16"),
        (
            &["--cores", "3", "--bond", "17"],
            "--bond: 17: expected 1 to 16, at which dense1 loses nothing",
        ),
    ] {
        let line = training.refused(options);
        assert!(line.contains(expected), "{expected} in {line}");
    }
}

/// A width of 13 is padded with zeros that are stated, and at the full rank the network computes what it did: in the run that is
/// written, exported, and trained on to the bits of one that is stopped in between.
#[test]
fn a_width_without_factors_is_padded() {
    let training = Training::new();
    let output = training.run(&["--model", "dense", "--hidden", "13,9", "--validation", "10"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let run = training.path("run");
    let auto = ["--cores", "3", "--factors", "auto"];
    let arguments = [&["compress", &run, "--device", "cpu", "--bond", "2"], &auto[..]].concat();
    let output = tnet(&arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = "dense1: 64 inputs as 4 x 4 x 4, 13 outputs as 4 x 2 x 2 (3 zeros)";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
    assert!(stderr(&output).contains("dense1 as 4x4x4 -> 4x2x2: no more"), "{}", stderr(&output));
    let full = [&["--bond", "16", "--by", "weights"], &auto[..]].concat();
    let report = training.compress("run", &full);
    assert_eq!(report["rows"][0]["pad"].to_string(), "[0,3]");
    assert!(column(&report, "weight_error")[0] < 1e-6);
    assert_eq!(report["rows"][0]["accuracy"], report["dense"]["accuracy"]);
    // Without it the factors are the width's own.
    let own = training.compress("run", &["--cores", "3", "--bond", "2"]);
    assert_eq!(own["rows"][0]["out_factors"].to_string(), "[13,1,1]");

    let small = |name: &str, more: &[&str]| {
        let path = training.path(name);
        let options =
            [&["--bond", "3", "--layer", "all", "--out", &path], &auto[..], more].concat();
        training.compress("run", &options);
    };
    small("tuned", &["--finetune", "2"]);
    small("written", &[]);
    for epochs in ["1", "2"] {
        let output = tnet(&["train", "--resume", &training.path("written"), "--epochs", epochs]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    let last = |name: &str| fs::read(training.path(&format!("{name}/last.safetensors"))).unwrap();
    assert!(last("tuned") == last("written"), "the runs differ");
    for format in ["onnx", "dense", "safetensors"] {
        let to = training.path(format);
        let output = tnet(&["export", &training.path("tuned"), "--format", format, "--out", &to]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    // The merged matrices have the true widths.
    let report = training.compress("dense", &["--bond", "1", "--layer", "dense1"]);
    assert_eq!(report["dense"]["parameters"], 64 * 13 + 13 + 13 * 9 + 9 + 9 * 3 + 3);
    // A padded layer is made smaller in turn, with its zeros.
    let again = training.compress("tuned", &["--cores", "3", "--bond", "2", "--by", "weights"]);
    assert_eq!(again["rows"][0]["pad"].to_string(), "[0,3]");
}

/// What the README says of a real network: trained for two epochs, its first layer at a bond of 16 and 64.
#[test]
fn fitting_to_data_keeps_more_accuracy_than_the_nearest_cores() {
    if !fashion_mnist_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let tnet = |arguments: &[&str]| {
        let mut command = command(arguments);
        if let Some(named) = std::env::var_os("TNET_DATA") {
            command.env("TNET_DATA", named);
        }
        let output = command.output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output)
    };
    let path = run.to_str().unwrap();
    tnet(&["train", "--device", "cpu", "--model", "dense", "--epochs", "2", "--out", path]);
    let [weights, data] = ["weights", "data"].map(|by| -> Value {
        let options =
            ["compress", path, "--device", "cpu", "--json", "--bond", "16,64", "--by", by];
        serde_json::from_str(&tnet(&options)).unwrap()
    });
    let dense = data["dense"]["accuracy"].as_f64().unwrap();
    let [weights, data] = [weights, data].map(|report| column(&report, "accuracy"));
    // Measured on this network: 0.61 and 0.81 at 16; after other roundings, a little else.
    assert!(data[0] > weights[0] + 0.05, "{data:?}, {weights:?}");
    assert!(data[1] > weights[1] - 0.002 && data[1] > dense - 0.03, "{data:?}, {weights:?}");
}

/// A signal during a fit that takes some ten seconds.
#[cfg(unix)]
#[test]
fn an_interrupted_compression_leaves_nothing() {
    if !fashion_mnist_is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let stack = Preset { model: Model::Dense, ..Preset::default() }.stack([1, 28, 28], 10).unwrap();
    let weights = stack.draw(MpsInit::He, 1).unwrap();
    let snapshot = Snapshot::new(stack, weights).unwrap();
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    fs::write(path("dense"), file::to_bytes(&snapshot, &classes, None).unwrap()).unwrap();
    let mut command = command(&["compress", "--device", "cpu", "--bond", "200", "--by", "data"]);
    command.arg(path("dense")).arg("--out").arg(path("small"));
    let mut running = Running::start(command);
    running.wait_for("a run folder", || path("small/log.txt").exists());
    let output = running.interrupt("TERM");
    assert_eq!(code(&output), 143, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.ends_with("nothing is left of the run"), "{line}");
    assert!(!path("small").exists());
}
