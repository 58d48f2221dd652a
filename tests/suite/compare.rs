//! `tnet-gpu compare`: its figures are those of the runs, in every form, and what cannot be compared is refused.

mod refused;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tnet_gpu::train::checkpoint::Checkpoint;

use crate::common::executable::{
    Training, assert_no_temporaries, code, metrics, stderr, stdout, tnet,
};
use crate::common::markup::elements;

/// Trains a run of 3 epochs in a folder of this name, and returns what `train --json` says of it.
fn train(training: &Training, name: &str, more: &[&str]) -> Value {
    let folder = training.path(name);
    let mut arguments = vec!["--out", &folder, "--json"];
    for (option, default) in [("--epochs", "3"), ("--out-factors", "4,4")] {
        if !more.contains(&option) {
            arguments.extend([option, default]);
        }
    }
    let output = training.run(&[&arguments, more].concat());
    assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Writes another test accuracy of an epoch into the metrics of a run: runs of so few images may come out alike.
fn set_test_accuracy(training: &Training, run: &str, epoch: usize, accuracy: &str) {
    let file = format!("{run}/metrics.csv");
    let text = training.read(&file);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut fields: Vec<&str> = lines[epoch].split(',').collect();
    fields[4] = accuracy;
    lines[epoch] = fields.join(",");
    fs::write(training.path(&file), lines.join("\n") + "\n").unwrap();
}

/// Changes the last checkpoint of a run.
fn change_checkpoint(training: &Training, run: &str, change: impl FnOnce(&mut Checkpoint)) {
    let last = training.path(&format!("{run}/last.safetensors"));
    let mut checkpoint = Checkpoint::read(Path::new(&last)).unwrap();
    change(&mut checkpoint);
    fs::write(&last, checkpoint.to_bytes().unwrap()).unwrap();
}

/// Compares runs that are named by their paths inside the folder of a training, in `--group` too.
fn compare(training: &Training, arguments: &[&str]) -> Output {
    let mut all = vec!["compare".to_owned()];
    let mut values = arguments.iter();
    while let Some(&argument) = values.next() {
        match argument {
            "--json" => all.push(argument.into()),
            "--device" => all.extend([argument.into(), (*values.next().unwrap()).into()]),
            "--out" => all.extend([argument.into(), training.path(values.next().unwrap())]),
            "--group" => {
                let (name, runs) = values.next().unwrap().split_once('=').unwrap();
                let runs: Vec<String> = runs.split(',').map(|run| training.path(run)).collect();
                all.extend([argument.into(), format!("{name}={}", runs.join(","))]);
            }
            run => all.push(training.path(run)),
        }
    }
    tnet(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What `--json` prints.
fn json(training: &Training, arguments: &[&str]) -> Value {
    let output = compare(training, &[arguments, &["--json"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Names of the groups, and the names of the folders of their runs.
fn groups(comparison: &Value) -> Vec<(String, Vec<String>)> {
    let name = |run: &Value| {
        let folder = Path::new(run["run"].as_str().unwrap());
        folder.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let groups = comparison["groups"].as_array().unwrap().iter().map(|group| {
        let runs = group["runs"].as_array().unwrap().iter().map(name);
        (group["name"].as_str().unwrap().to_owned(), runs.collect())
    });
    groups.collect()
}

fn expected(groups: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |runs: &[&str]| runs.iter().map(|&run| run.to_owned()).collect();
    groups.iter().map(|&(name, runs)| (name.to_owned(), owned(runs))).collect()
}

/// Mean and deviation of a sample.
fn spread(numbers: &[f64]) -> [f64; 2] {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    [mean, if numbers.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 }]
}

#[track_caller]
fn assert_near(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} for {expected}");
}

/// Cells of a table as it is printed and in Markdown, without the rule below the header.
fn cells(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The points of every element of this kind that has as many.
fn points(svg: &str, tag: &str, count: usize) -> usize {
    let elements = elements(svg);
    let lists = elements.iter().filter(|element| element.name == tag);
    lists.filter(|list| list.attributes["points"].split_whitespace().count() == count).count()
}

#[test]
fn table_csv_and_json_have_the_numbers_of_the_runs() {
    let training = Training::new();
    let names = ["runs/mps-1", "runs/dense-1", "runs/mps-2", "runs/mps-3", "runs/held-1"];
    let lines = names.map(|name| {
        let seed = name.rsplit('-').next().unwrap();
        let more: &[&str] = match name {
            "runs/dense-1" => &["--model", "dense", "--seed", seed],
            "runs/held-1" => &["--validation", "15", "--seed", seed],
            _ => &["--seed", seed],
        };
        train(&training, name, more)
    });
    set_test_accuracy(&training, "runs/mps-2", 3, "0.125");
    // The best epoch is not the last, nor as good on the test images.
    change_checkpoint(&training, "runs/held-1", |checkpoint| checkpoint.best = Some((2, 0.4375)));
    set_test_accuracy(&training, "runs/held-1", 2, "0.375");
    set_test_accuracy(&training, "runs/held-1", 3, "0.625");
    let comparison = json(&training, &[&names[..], &["--out", "new/folder"]].concat());
    let expected_groups = expected(&[
        ("mps", &["mps-1", "mps-2", "mps-3"]),
        ("dense", &["dense-1"]),
        ("held", &["held-1"]),
    ]);
    assert_eq!(groups(&comparison), expected_groups);
    assert!(comparison["device"].as_str().unwrap().starts_with("cpu"), "{comparison}");

    let folder = training.path("new/folder");
    let mut found: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    found.sort_unstable();
    assert_eq!(found, ["compare.csv", "compare.json", "compare.md", "curves.svg"]);
    let read = |name: &str| training.read(&format!("new/folder/{name}"));
    assert_eq!(serde_json::from_str::<Value>(&read("compare.json")).unwrap(), comparison);

    // Each run, by its own files.
    let csv = read("compare.csv");
    let mut rows = csv.lines();
    assert_eq!(
        rows.next().unwrap(),
        "group,run,seed,parameters,dense_parameters,epoch,test_accuracy,validation_accuracy,seconds,step_us,latency_us"
    );
    for (group, runs) in expected_groups {
        let of_group = comparison["groups"].as_array().unwrap();
        let of_group = of_group.iter().find(|found| found["name"] == group.as_str()).unwrap();
        let mut numbers = [const { Vec::new() }; 4];
        for (at, run) in runs.iter().enumerate() {
            let name = format!("runs/{run}");
            let line = &lines[names.iter().position(|other| *other == name).unwrap()];
            let history = metrics(&training.read(&format!("{name}/metrics.csv")));
            let best = (run == "held-1").then_some((2, 0.4375));
            let epoch = best.map_or(3, |(epoch, _)| epoch);
            let seconds: f64 = history.iter().map(|epoch| epoch[5]).sum();
            // Batches of 16, by the rates of the epochs, whose seconds are rounded.
            let each = history.iter().map(|epoch| 16e6 / epoch[6]);
            let step = each.sum::<f64>() / history.len() as f64;

            let found = &of_group["runs"][at];
            assert_eq!(found["run"], training.path(&name).as_str());
            assert_eq!(found["seed"].to_string(), run.rsplit('-').next().unwrap());
            assert_eq!(found["parameters"], line["parameters"]);
            let layers = line["layers"].as_array().unwrap();
            let dense = layers.iter().map(|layer| layer["dense_parameters"].as_u64().unwrap());
            assert_eq!(found["dense_parameters"], dense.sum::<u64>());
            assert_eq!(found["epoch"], epoch);
            assert_eq!(found["validation_accuracy"].as_f64(), best.map(|(_, accuracy)| accuracy));
            assert_near(&found["test_accuracy"], history[epoch - 1][4]);
            assert_near(&found["seconds"], seconds);
            assert_near(&found["step_us"], step);
            let latency = found["latency_us"].as_f64().unwrap();
            assert!(latency > 0.0 && latency < 1e6, "{latency}");
            for (numbers, number) in
                numbers.iter_mut().zip([history[epoch - 1][4], seconds, step, latency])
            {
                numbers.push(number);
            }

            let fields: Vec<&str> = rows.next().unwrap().split(',').collect();
            let text = |key: &str| match &found[key] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            assert_eq!((fields[0], fields[1].to_owned()), (group.as_str(), text("run")));
            let keys = ["seed", "parameters", "dense_parameters", "epoch", "test_accuracy"];
            let more = ["validation_accuracy", "seconds", "step_us", "latency_us"];
            for (key, field) in keys.iter().chain(&more).zip(&fields[2..]) {
                let [field, number] =
                    [(*field).to_owned(), text(key)].map(|text| text.parse::<f64>().ok());
                assert_eq!(field, number, "{key}");
            }
            assert_eq!(fields.len(), 11);
        }
        let keys = ["test_accuracy", "seconds", "step_us", "latency_us"];
        for (key, numbers) in keys.iter().zip(&numbers) {
            let [mean, sd] = spread(numbers);
            assert_eq!(of_group[key]["count"], numbers.len());
            assert_near(&of_group[key]["mean"], mean);
            assert_near(&of_group[key]["sd"], sd);
        }
    }
    assert_eq!(rows.next(), None);

    // The table is what the JSON says.
    let markdown = read("compare.md");
    let rows = cells(&markdown);
    assert_eq!(
        rows[0],
        [
            "group",
            "runs",
            "parameters",
            "of dense",
            "test accuracy",
            "held-out accuracy",
            "training, s",
            "step, µs",
            "one image, µs"
        ]
    );
    for (row, group) in rows[1..].iter().zip(comparison["groups"].as_array().unwrap()) {
        let runs = group["runs"].as_array().unwrap().len();
        let text = |spread: &Value| match (spread["mean"].as_f64(), spread["sd"].as_f64()) {
            (Some(mean), Some(sd)) if runs > 1 => format!("{mean:.4} ± {sd:.4}"),
            (Some(mean), _) => format!("{mean:.4}"),
            _ => String::new(),
        };
        let count = |key: &str| group[key].as_u64().unwrap();
        assert_eq!(
            (row[0].as_str(), row[1].as_str()),
            (group["name"].as_str().unwrap(), &*runs.to_string())
        );
        assert_eq!(row[2].replace(',', ""), count("parameters").to_string());
        let share = 100.0 * count("parameters") as f64 / count("dense_parameters") as f64;
        assert_eq!(row[3], format!("{share:.2} %"));
        assert_eq!(row[4], text(&group["test_accuracy"]));
        assert_eq!(row[5], text(&group["validation_accuracy"]));
        for (cell, key) in row[6..].iter().zip(["seconds", "step_us", "latency_us"]) {
            let printed: f64 = cell.split(" ± ").next().unwrap().parse().unwrap();
            let mean = group[key]["mean"].as_f64().unwrap();
            assert!((printed - mean).abs() <= (mean * 0.01).max(5e-4), "{printed} {mean}");
            assert_eq!(cell.contains('±'), runs > 1, "{cell}");
        }
    }
    assert_eq!(rows.len(), 4);
    let notes = markdown.lines().last().unwrap();
    assert!(notes.contains("best held-out accuracy, after the last epoch where"), "{markdown}");
    assert!(notes.contains("standard deviation"), "{markdown}");
}

/// The rows of what is printed are those of the Markdown file of the same call.
#[test]
fn what_is_printed_is_the_table_and_how_to_read_it() {
    let training = Training::new();
    for (name, seed) in [("a-1", "1"), ("a-2", "2")] {
        train(&training, name, &["--seed", seed]);
    }
    fs::create_dir(training.path("empty")).unwrap();
    fs::write(training.path("empty/.DS_Store"), "").unwrap();
    fs::write(training.path("empty/compare.md.77.tmp"), "").unwrap();
    let output = compare(&training, &["a-1", "a-2", "--out", "empty"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let printed = stdout(&output);
    assert_eq!(cells(&printed), cells(&training.read("empty/compare.md")));
    let lines: Vec<&str> = printed.lines().filter(|line| !line.starts_with('|')).collect();
    assert_eq!(lines[0], "test accuracy: after the last epoch");
    assert_eq!(lines[1], "±: standard deviation over the runs of a group");
    assert!(lines[2].starts_with("training: ") && lines[2].contains("cpu"), "{printed}");
    assert_eq!(lines[3..], [format!("files: {}", training.path("empty"))]);
    assert!(!printed.contains("held-out"), "{printed}");
    assert_no_temporaries(Path::new(&training.path("empty")));

    let single = stdout(&compare(&training, &["a-1"]));
    assert!(!single.contains('±') && !single.contains("files:"), "{single}");
}

#[test]
fn runs_are_grouped_by_what_they_differ_in_or_by_name() {
    let training = Training::new();
    for (name, more) in [
        ("runs/mps-1", &["--seed", "1"][..]),
        ("runs/mps-2", &["--seed", "2"]),
        ("runs/mps-3", &["--seed", "2", "--epochs", "4"]),
        ("runs/mps-4", &["--seed", "2", "--train-images", "30"]),
        ("runs/again", &["--seed", "2"]),
    ] {
        train(&training, name, more);
    }
    let of = |arguments: &[&str]| groups(&json(&training, arguments));
    assert_eq!(
        of(&["runs/mps-3", "runs/mps-1", "runs/mps-2/metrics.csv", "runs/mps-4"]),
        expected(&[
            ("mps, 4 epochs, 60 training images", &["mps-3"]),
            ("mps, 3 epochs, 60 training images", &["mps-1", "mps-2"]),
            ("mps, 3 epochs, 30 training images", &["mps-4"]),
        ])
    );
    // In the order of typing, whichever argument.
    assert_eq!(
        of(&["--group", "named=runs/mps-2,runs/mps-3", "runs/mps-1"]),
        expected(&[("named", &["mps-2", "mps-3"]), ("mps", &["mps-1"])])
    );
    assert_eq!(
        of(&["runs/mps-1", "--group", "named=runs/mps-2", "--group", "mps=runs/mps-3"]),
        expected(&[("mps (2)", &["mps-1"]), ("named", &["mps-2"]), ("mps", &["mps-3"])])
    );

    // Folders whose names have nothing in common: the network says what it is. The same run once more is no sample.
    let output = compare(&training, &["runs/mps-2", "runs/again", "--json"]);
    let comparison: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let name = "mps1 8x8 -> 4x4, bond 1; dense4 16 -> 512; dense7 512 -> 3";
    assert_eq!(groups(&comparison), expected(&[(name, &["mps-2", "again"])]));
    assert!(stderr(&output).contains("have the same seed"), "{}", stderr(&output));
    assert_eq!(comparison["groups"][0]["test_accuracy"]["sd"], 0.0);
    let output = compare(&training, &["runs/mps-1", "runs/mps-2"]);
    assert!(!stderr(&output).contains("same seed"), "{}", stderr(&output));
}

#[test]
fn curves_are_well_formed_and_reach_to_the_shortest_run_of_a_group() {
    let training = Training::new();
    for (name, more) in [
        ("a-1", &["--seed", "1", "--epochs", "5"][..]),
        ("a-2", &["--seed", "2", "--epochs", "4"]),
        ("b-1", &["--model", "dense", "--epochs", "6"]),
    ] {
        train(&training, name, more);
    }
    let group = "<tensor> & \"it's\"=a-1,a-2";
    let output = compare(&training, &["--group", group, "b-1", "--out", "out"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let svg = training.read("out/curves.svg");
    let all = elements(&svg);
    assert_eq!(all[0].name, "svg");
    let text: String = all.iter().map(|element| element.text.trim()).collect();
    for expected in ["<tensor> & \"it's\"", "b", "epoch", "accuracy", "± one standard deviation"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // There and back along four epochs, on the test images and in training; markers have four corners at most.
    assert_eq!(points(&svg, "polygon", 8), 2, "{svg}");
    let lines = [4, 5, 6].map(|count| points(&svg, "polyline", count));
    assert_eq!(lines, [2, 0, 2], "{svg}");
}
