//! `TNET_STRATEGY`: every strategy is right, and what `bench -v` prints is what was launched.
//!
//! A strategy is forced for a whole process, so these tests run the executable.

use tempfile::tempdir;
use tnet_gpu::device::Kind;

use crate::common;
use crate::common::cases::{primes, write_case, write_cases};
use crate::common::executable::{code, command, stderr, stdout};

#[test]
fn what_there_is_not_is_wrong_usage() {
    for variable in ["TNET_STRATEGY", "TNET_TARGET", "TNET_PRODUCTS"] {
        let output = command(&["devices"]).env(variable, "fastest").output().unwrap();
        assert_eq!(code(&output), 2, "{variable}");
        let expected = format!("{variable}: 'fastest'");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
}

/// Verifies a device with each strategy on all built-in cases.
fn verified(device: &str, strategies: &[&str]) {
    let folder = tempdir().unwrap();
    write_cases(folder.path());
    for strategy in strategies {
        verified_on(device, strategy, folder.path().to_str().unwrap());
    }
}

fn verified_on(device: &str, strategy: &str, cases: &str) {
    let mut command = command(&["verify", "--device", device, "--cases", cases]);
    let output = command.env("TNET_STRATEGY", strategy).output().unwrap();
    assert_eq!(code(&output), 0, "{strategy}: {}\n{}", stdout(&output), stderr(&output));
}

#[test]
fn every_strategy_is_right_on_the_cpu() {
    verified("cpu", &["tiled", "rebuilt"]);
}

mod vulkan {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kernel_is_right() {
        if common::open("vulkan").is_some() {
            verified("vulkan", &["plain", "tiled"]);
        }
    }

    /// One small case: Burn tunes its products for each shape, seconds each on a software adapter.
    #[test]
    fn the_rebuilt_matrix_is_right() {
        if common::open("vulkan").is_some() {
            let folder = tempdir().unwrap();
            write_case(&folder.path().join("primes.safetensors"), primes(), 0.0);
            verified_on("vulkan", "rebuilt", folder.path().to_str().unwrap());
        }
    }

    /// The plan that `bench -v` prints for the forward pass of one layer, and the kernels that it
    /// launched.
    struct Bench {
        plan: String,
        kernels: BTreeSet<String>,
    }

    impl Bench {
        fn run(target: &str, strategy: Option<&str>, layer: &[&str]) -> Self {
            let mut command = command(&["bench", "-v", "--device", "vulkan", "--pass", "forward"]);
            command.args(["--against", "dense", "--warmup", "1", "--samples", "1"]).args(layer);
            command.env("RUST_LOG", "tnet_gpu::op=trace").env("TNET_TARGET", target);
            if let Some(strategy) = strategy {
                command.env("TNET_STRATEGY", strategy);
            }
            let output = command.output().unwrap();
            let (table, log) = (stdout(&output), stderr(&output));
            assert_eq!(code(&output), 0, "{layer:?}: {table}");
            // | pass | batch | bond | variant | plan | ...
            let rows = table.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
            let row = rows.into_iter().find(|row| row.get(4) == Some(&"fused"));
            let plan =
                row.unwrap_or_else(|| panic!("no row of the layer in\n{table}"))[5].to_owned();
            let launches = log.lines().filter(|line| line.contains("launch"));
            let kernels = launches.filter_map(|line| {
                let kernel =
                    line.split_whitespace().find_map(|word| word.strip_prefix("kernel="))?;
                Some(kernel.trim_matches('"').to_owned())
            });
            Self { plan, kernels: kernels.collect() }
        }

        fn launched(&self, kernel: &str) -> bool {
            self.kernels.contains(kernel)
        }

        /// The strategy that the launches show is the one that is printed, which is returned.
        fn strategy(&self, layer: &[&str]) -> &str {
            let Self { plan, kernels } = self;
            let (strategy, _) = plan.split_once(',').unwrap_or((plan, ""));
            let plain = self.launched("contract.wgsl");
            let tiled = ["software/contract_tiled.wgsl", "gpu/contract.wgsl"];
            let tiled = tiled.iter().any(|kernel| self.launched(kernel));
            assert!(!kernels.is_empty(), "{layer:?}: no launch was logged");
            let expected = match strategy {
                "plain" => (true, false),
                "tiled" => (false, true),
                "rebuilt" => (false, false),
                _ => panic!("{layer:?}: '{plan}' names no strategy"),
            };
            assert_eq!((plain, tiled), expected, "{layer:?}: {plan}, but launched {kernels:?}");
            strategy
        }
    }

    /// Whether the adapter is software: only there does a plan choose among all three strategies.
    fn software() -> bool {
        let Some(opened) = common::open("vulkan") else { return false };
        let software = opened.adapter.is_some_and(|adapter| adapter.kind == Kind::Software);
        if !software {
            eprintln!("SKIPPED: {} is no software adapter", opened.description);
        }
        software
    }

    #[test]
    fn the_plan_that_is_printed_is_the_one_that_ran() {
        if !software() {
            return;
        }
        let small = ["--in-factors", "4,4", "--out-factors", "8,4", "--bond", "2", "--batch", "5"];
        // Padded to multiples of 4 where it is tiled.
        let uneven =
            ["--in-factors", "5,11", "--out-factors", "7,18", "--bond", "3", "--batch", "13"];
        for (strategy, layer, expected) in [
            (None, &["--bond", "1", "--batch", "128"][..], "tiled"),
            (Some("plain"), &["--bond", "1", "--batch", "8"], "plain"),
            (Some("plain"), &uneven, "plain"),
            (Some("rebuilt"), &small, "rebuilt"),
            (Some("tiled"), &small, "tiled"),
            (Some("tiled"), &uneven, "tiled"),
        ] {
            for target in ["software", "gpu"] {
                let bench = Bench::run(target, strategy, layer);
                assert_eq!(bench.strategy(layer), expected, "{target}, {layer:?}");
            }
        }
    }

    /// The input is padded to 28 x 32 elements per sample, more than 16 million of them: too many to be
    /// padded, so that another strategy may run. Whichever does is the one that is printed.
    #[test]
    fn the_plan_that_is_printed_beyond_the_limit_of_padding_is_the_one_that_ran() {
        if !software() {
            return;
        }
        let layer =
            ["--in-factors", "27,29", "--out-factors", "3,1", "--bond", "1", "--batch", "19000"];
        for target in ["software", "gpu"] {
            Bench::run(target, Some("tiled"), &layer).strategy(&layer);
        }
    }
}
