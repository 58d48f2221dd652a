//! `tnet-gpu verify`: what it reports, and that it fails where a number is off.

use std::fs;

use serde_json::Value;
use tempfile::tempdir;
use tnet_gpu::verify::Case;

use crate::common;
use crate::common::cases::{CASES, primes, write_case};
use crate::common::executable::{code, error_line, stderr, stdout, tnet};

#[test]
fn every_built_in_case_is_reported() {
    let output = tnet(&["verify", "--device", "cpu", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let lines = stdout(&output);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names, CASES.iter().map(Case::name).collect::<Vec<_>>());
    for (line, case) in lines.iter().zip(CASES.iter()) {
        let cores: &[&str] = match case {
            Case::TwoCores(_) | Case::Convolution(_) => &["da", "dc"],
            Case::Chain(_) => &["dg1", "dg2", "dg3"],
        };
        for name in ["y", "dbias", "dx"].iter().chain(cores) {
            let distance = line[*name].as_f64().unwrap();
            assert!((0.0..=1e-5).contains(&distance), "{line}");
        }
    }
}

#[test]
fn a_number_that_is_off_fails() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("case.safetensors");
    let run = || tnet(&["verify", "--device", "cpu", "--cases", folder.path().to_str().unwrap()]);
    write_case(&file, primes(), 0.0);
    let output = run();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("pass"), "{}", stdout(&output));

    write_case(&file, primes(), 1e-3);
    let output = run();
    assert_eq!(code(&output), 1);
    assert!(stdout(&output).contains("FAIL"), "{}", stdout(&output));
    assert!(error_line(&output).contains("1 of 1 cases"), "{}", stderr(&output));
}

#[test]
fn a_folder_without_a_reference_file_is_refused() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("case.safetensors");
    let run = || tnet(&["verify", "--device", "cpu", "--cases", folder.path().to_str().unwrap()]);
    fs::write(&file, b"no safetensors").unwrap();
    let output = run();
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("case.safetensors"), "{}", stderr(&output));
    fs::remove_file(&file).unwrap();
    assert_eq!(code(&run()), 1);
}

/// The executable on the Vulkan adapter; `layer.rs` tries every built-in case there.
mod vulkan {
    use super::*;

    #[test]
    fn verify_passes_and_names_a_software_adapter() {
        let Some(opened) = common::open("vulkan") else { return };
        let folder = tempdir().unwrap();
        write_case(&folder.path().join("primes.safetensors"), primes(), 0.0);
        let cases = folder.path().to_str().unwrap();
        let output = tnet(&["verify", "--device", "vulkan", "--cases", cases]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains(&opened.description), "{}", stderr(&output));
        assert_eq!(stderr(&output).contains("is software"), opened.remark.is_some());
    }
}
