//! `tnet-gpu devices`, and what `--device` takes and refuses.

use crate::common::executable::{code, error_line, stderr, stdout, tnet};

#[test]
fn a_device_that_cannot_be_had_is_an_error_that_lists_what_there_is() {
    // No machine has both of these.
    let elsewhere = if cfg!(target_os = "macos") { "dx12" } else { "metal" };
    for device in [elsewhere, "vulkan:4096"] {
        let output = tnet(&["verify", "--device", device]);
        assert_eq!(code(&output), 1);
        let line = error_line(&output);
        assert!(line.contains(&format!("--device {device}")), "{line}");
        assert!(line.contains("this machine has: cpu"), "{line}");
    }
}

#[test]
fn devices_lists_the_cpu_and_says_what_auto_takes() {
    let output = tnet(&["devices"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("cpu"), "{}", stdout(&output));
    assert!(stdout(&output).contains("auto takes "), "{}", stdout(&output));
    let output = tnet(&["devices", "--json"]);
    for line in stdout(&output).lines() {
        let adapter: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(adapter["name"].is_string(), "{line}");
    }
}
