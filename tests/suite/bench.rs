//! `tnet-gpu bench`: its rows, its exports, and what it refuses.

use std::fs;

use tempfile::tempdir;

use crate::common::executable::{code, error_line, stderr, tnet};

/// A benchmark so small that it takes a second.
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
    let output = tnet(&arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["version"], 1);
    for ceiling in ["gflops", "gbps", "launch_s"] {
        assert!(report["ceilings"][ceiling].as_f64().unwrap() > 0.0, "{ceiling}");
    }
    // For each of two bonds: four passes of five variants (fused, the CPU's two strategies, composed
    // and dense), and `step_dense` of two.
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * (4 * 5 + 2));
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
    let output = tnet(&arguments);
    assert_eq!(code(&output), 1);
    assert!(output.stdout.is_empty());
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    let line = error_line(&output);
    assert!(line.contains("cannot write /no/such/folder/report.json"), "{line}");
}
