//! The table of networks at equal numbers of parameters.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::common::executable::{Training, code, command, error_line, stderr, stdout};

fn table(training: &Training, more: &[&str]) -> Output {
    let (data, out) = (training.path("data"), training.path("table"));
    let options =
        ["table", "--data", &data, "--device", "cpu", "--out", &out, "--batch-size", "16"];
    command(&[&options[..], more].concat()).output().unwrap()
}

#[test]
fn every_family_has_a_network_of_every_size() {
    let training = Training::new();
    let sizes = ["--parameters", "1000,2000"];
    let output = table(&training, &[&sizes[..], &["--epochs", "2", "--seeds", "2"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let results = training.read("table/results.csv");
    assert_eq!(results.lines().count(), 1 + 5 * 2 * 2, "{results}");
    let cells: Vec<Value> = serde_json::from_str(&training.read("table/table.json")).unwrap();
    assert_eq!(cells.len(), 5 * 2);
    let markdown = training.read("table/table.md");
    for cell in &cells {
        let (budget, parameters) = (cell["budget"].as_u64(), cell["parameters"].as_u64());
        assert!(parameters <= budget, "{cell}");
        let accuracy = &cell["test_accuracy"];
        assert_eq!(accuracy["count"].as_u64(), Some(2));
        let [mean, sd] = ["mean", "sd"].map(|name| accuracy[name].as_f64().unwrap());
        let text = format!("{mean:.4} ± {sd:.4}");
        assert!(markdown.contains(&text) && stdout(&output).contains(&text), "{text}: {markdown}");
        // The mean is that of the runs.
        let name = format!("\"{}, {}\"", cell["family"].as_str().unwrap(), budget.unwrap());
        let of_runs = results.lines().filter_map(|line| line.strip_prefix(&name));
        let accuracies: Vec<f64> =
            of_runs.map(|line| line.split(',').nth(8).unwrap().parse().unwrap()).collect();
        assert_eq!(accuracies.len(), 2, "{name} in {results}");
        assert!((accuracies.iter().sum::<f64>() / 2.0 - mean).abs() < 1e-6);
    }
    // It goes on where it stands, and takes no other options.
    let again =
        table(&training, &[&sizes[..], &["--epochs", "2", "--seeds", "2", "--json"]].concat());
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    assert!(stderr(&again).contains("20 runs, 20 of them over"), "{}", stderr(&again));
    let line: Vec<Value> = serde_json::from_str(&stdout(&again)).unwrap();
    assert_eq!(line, cells);
    let other = table(&training, &[&sizes[..], &["--epochs", "3"]].concat());
    assert_eq!(code(&other), 1);
    assert!(error_line(&other).contains("other options"), "{}", stderr(&other));
}

#[test]
fn a_quick_table_takes_few_epochs_and_one_seed() {
    let training = Training::new();
    let output = table(&training, &["--quick", "--parameters", "1000"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let runs: Vec<_> = fs::read_dir(training.path("table/runs")).unwrap().collect();
    assert_eq!(runs.len(), 5);
    for run in runs {
        let config = fs::read_to_string(run.unwrap().path().join("config.toml")).unwrap();
        assert!(config.contains("epochs = 5\n") && config.contains("cosine"), "{config}");
    }
    // Of some families alone; those that were trained are not trained again.
    let some = ["--quick", "--parameters", "1000", "--families", "chains,dense"];
    let output = table(&training, &some);
    assert!(stderr(&output).contains("2 runs, 2 of them over"), "{}", stderr(&output));
    let rows = |text: &str| text.matches(" cores)").count() + text.matches("Kronecker").count();
    assert_eq!(rows(&training.read("table/table.md")), 3, "{}", stdout(&output));
    let output = table(&training, &["--parameters", "10"]);
    assert_eq!(code(&output), 2);
    assert!(error_line(&output).contains("--parameters: 10: "), "{}", stderr(&output));
}
