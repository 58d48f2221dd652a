//! `tnet-gpu devices`, and what `--device` takes and refuses.

use crate::common::executable::{code, error_line, stderr, stdout, tnet};
#[cfg(target_os = "linux")]
use crate::common::{
    self,
    executable::{Training, command},
    faulty::FaultyDevice,
};

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

/// Through OpenGL no driver tells that it is software, and one, softpipe, offers compute shaders and fails at the first.
#[cfg(target_os = "linux")]
#[test]
fn a_rasterizer_through_opengl_is_not_taken_for_a_gpu() {
    let training = Training::new();
    for driver in ["softpipe", "llvmpipe"] {
        let software = |arguments: &[&str]| {
            let mut command = command(arguments);
            // No Vulkan, where a hardware GPU may be.
            command.env("VK_DRIVER_FILES", "/nonexistent.json");
            command.env("VK_ICD_FILENAMES", "/nonexistent.json");
            command.env("LIBGL_ALWAYS_SOFTWARE", "1").env("GALLIUM_DRIVER", driver);
            command.output().unwrap()
        };
        let devices = stdout(&software(&["devices"]));
        if !devices.contains("gl:0") {
            eprintln!("SKIPPED: {driver} is not installed");
            continue;
        }
        assert!(devices.contains("auto takes cpu: "), "{devices}");
        assert!(devices.contains("gl:0"), "{devices}");
        let (data, run) = (training.path("data"), training.path(driver));
        let output = software(&["train", "--data", &data, "--out", &run, "--epochs", "1"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        assert!(stderr(&output).contains("chosen by auto"), "{}", stderr(&output));
        if driver == "softpipe" {
            let output = software(&["verify", "--device", "gl"]);
            assert_eq!((code(&output), stderr(&output).lines().count()), (1, 1));
            let line = error_line(&output);
            assert!(line.contains("softpipe) cannot be used: "), "{line}");
        }
    }
}

/// A GPU is taken only after it has computed a kernel right: llvmpipe says here that it is one.
#[cfg(target_os = "linux")]
#[test]
fn auto_takes_a_gpu_that_computes_and_passes_over_one_that_does_not() {
    if common::open("vulkan").is_none() {
        return;
    }
    let Some(faulty) = FaultyDevice::build() else { return };
    let training = Training::new();
    let data = training.path("data");
    for (fault, problem) in [
        (None, None),
        (Some("TNET_TEST_SUBMITS"), Some("lost")),
        (Some("TNET_TEST_IDLE"), Some("wrong numbers")),
    ] {
        let disguised = |arguments: &[&str]| {
            let mut command = command(arguments);
            faulty.under(&mut command).env("TNET_TEST_DISCRETE", "1");
            if let Some(fault) = fault {
                command.env(fault, "0");
            }
            command.output().unwrap()
        };
        let output = disguised(&["devices"]);
        let devices = stdout(&output);
        if devices.lines().any(|line| line.starts_with("| vulkan:1")) {
            eprintln!("SKIPPED: there are several adapters");
            return;
        }
        let Some(problem) = problem else {
            assert!(devices.contains("auto takes vulkan:0: it is a discrete GPU"), "{devices}");
            continue;
        };
        let run = training.path("run");
        let arguments = ["train", "--data", &data, "--out", &run, "--epochs", "1", "--exist-ok"];
        let trained = disguised(&arguments);
        let text = stderr(&trained);
        assert_eq!(code(&trained), 0, "{text}");
        let over = devices.lines().find(|line| line.starts_with("auto passes over vulkan:0"));
        assert!(over.is_some_and(|line| line.contains(problem)), "{fault:?}: {devices}");
        assert!(devices.contains("auto takes "), "{devices}");
        assert!(!text.contains("device: vulkan:0"), "{text}");
        assert!(text.contains("passed over vulkan:0 (Test GPU): "), "{text}");
        // Named, it is refused in one line.
        let output = disguised(&["verify", "--device", "vulkan"]);
        assert_eq!((code(&output), stderr(&output).lines().count()), (1, 1), "{}", stderr(&output));
        let line = error_line(&output);
        assert!(line.contains("cannot be used: ") && line.contains(problem), "{line}");
    }
}
