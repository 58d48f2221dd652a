//! `tnet-gpu bench`, and every strategy that it can time against the f64 reference.

use std::fs;
use std::process::{Command, Output, Stdio};

use tempfile::tempdir;

use crate::common;

fn tnet(arguments: &[&str], strategy: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tnet-gpu"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("TNET_STRATEGY").stdin(Stdio::null());
    if let Some(strategy) = strategy {
        command.env("TNET_STRATEGY", strategy);
    }
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A bench so small that it takes a second.
const SMALL: [&str; 11] = [
    "bench",
    "--in-factors",
    "4,4",
    "--out-factors",
    "8,4",
    "--batch",
    "5",
    "--samples",
    "2",
    "--device",
    "cpu",
];

#[test]
fn every_row_is_measured_and_exported() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [json, csv, markdown, plot] = ["r.json", "r.csv", "r.md", "r.svg"].map(path);
    let mut arguments = SMALL.to_vec();
    arguments.extend(["--bond", "1,3", "--variant", "all", "--export-json", &json]);
    arguments.extend(["--pass", "forward,backward,backward_x,step,step_dense"]);
    arguments.extend(["--export-csv", &csv, "--export-markdown", &markdown, "--plot", &plot]);
    let output = tnet(&arguments, None);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["version"], 1);
    for ceiling in ["gflops", "gbps", "launch_s"] {
        assert!(report["ceilings"][ceiling].as_f64().unwrap() > 0.0, "{ceiling}");
    }
    // Two bonds; four passes of fused, its three strategies, composed and dense, and one of two networks.
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * (4 * 6 + 2));
    for row in rows {
        assert!(row.get("error").is_none(), "{row}");
        assert_eq!(row["samples"], 2, "{row}");
        for figure in ["median_s", "min_s", "gflops", "gbps", "fraction"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure} of {row}");
        }
    }
    assert_eq!(fs::read_to_string(csv).unwrap().lines().count(), 1 + rows.len());
    assert!(fs::read_to_string(markdown).unwrap().contains("| backward_x |"));
    assert!(fs::read_to_string(plot).unwrap().starts_with("<svg"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "something else was left");
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_anything_is_measured() {
    let mut arguments = SMALL.to_vec();
    arguments.extend(["--export-json", "/no/such/folder/report.json"]);
    let output = tnet(&arguments, None);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("cannot write /no/such/folder/report.json"), "{text}");
}

#[test]
fn a_strategy_that_there_is_not_is_wrong_usage() {
    let output = tnet(&SMALL, Some("fastest"));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("TNET_STRATEGY: 'fastest'"), "{}", stderr(&output));
}

fn verified(device: &str, strategy: &str, more: &[&str]) {
    let mut arguments = vec!["verify", "--device", device];
    arguments.extend(more);
    let output = tnet(&arguments, Some(strategy));
    assert_eq!(output.status.code(), Some(0), "{device}, {strategy}: {}", stderr(&output));
}

#[test]
fn every_strategy_is_right_on_the_cpu() {
    for strategy in ["plain", "tiled", "rebuilt"] {
        verified("cpu", strategy, &[]);
    }
}

#[test]
fn every_kernel_is_right_on_vulkan() {
    if common::open("vulkan").is_some() {
        verified("vulkan", "plain", &[]);
        verified("vulkan", "tiled", &[]);
    }
}

/// One small case: Burn tunes its products for each shape, seconds each on a software adapter.
#[test]
fn the_rebuilt_matrix_is_right_on_vulkan() {
    if common::open("vulkan").is_some() {
        let folder = tempdir().unwrap();
        common::case_file(&folder.path().join("primes.safetensors"), 0.0);
        verified("vulkan", "rebuilt", &["--cases", folder.path().to_str().unwrap()]);
    }
}
