//! Long training runs: memory does not grow. Not run by default; see docs/reliability.md.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common;
use crate::common::executable::Training;

/// Resident memory of a process in MiB, while it lives.
fn resident(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes / 1024.0)
}

/// Trains `steps` steps, 60 per epoch with a checkpoint after every 10, and compares the most memory that
/// the last half of the epochs took with the most that the second to the tenth took.
fn soak(device: &str, steps: usize) {
    let training = Training::new();
    let epochs = steps.div_ceil(60);
    let run = training.path("run");
    let mut child = training
        .command(&["--device", device, "--batch-size", "1", "--epochs", &epochs.to_string()])
        .args(["--save-every", "10"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut begin, mut end) = (0.0_f64, 0.0_f64);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let metrics = fs::read_to_string(Path::new(&run).join("metrics.csv")).unwrap_or_default();
        let done = metrics.lines().count().saturating_sub(1);
        if let Some(memory) = resident(child.id()) {
            if (1..10).contains(&done) {
                begin = begin.max(memory);
            } else if done > epochs / 2 {
                end = end.max(memory);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success());
    eprintln!("{device}: {steps} steps, {begin:.1} MiB at the beginning, {end:.1} at the end");
    // Some pages more or less, and what the allocator keeps.
    assert!(begin > 0.0 && end > 0.0 && end < begin * 1.05 + 4.0, "{begin} MiB became {end}");
}

#[test]
#[ignore = "20,000 steps: cargo test --release soak -- --ignored"]
fn memory_stays_flat_on_the_cpu() {
    soak("cpu", 20_000);
}

#[test]
#[ignore = "2,000 steps: cargo test --release soak -- --ignored"]
fn memory_stays_flat_on_vulkan() {
    if common::open("vulkan").is_some() {
        soak("vulkan", 2_000);
    }
}
