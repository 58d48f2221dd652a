//! `--tune`: what was measured is kept, and a run computes by it to the end.
//!
//! On llvmpipe with the kernels of a GPU; what turns out to be the fastest there does not matter.

use std::fs;
use std::path::PathBuf;

use crate::common;
use crate::common::executable::{Training, code, stderr};

/// The first layer of this network, and one for three classes.
const NETWORK: &str = r#"
input = [1, 8, 8]
layers = [
    { kind = "mps", in = [8, 8], out = [4, 4], bond = 2 },
    { kind = "relu" },
    { kind = "dense", out = 3 },
]
"#;

/// Runs with a cache of their own.
struct Runs {
    training: Training,
}

impl Runs {
    fn new() -> Self {
        let training = Training::new();
        fs::write(training.path("network.toml"), NETWORK).unwrap();
        Self { training }
    }

    /// A run; what it said.
    fn run(&self, name: &str, more: &[&str]) -> String {
        let (network, out) = (self.training.path("network.toml"), self.training.path(name));
        let mut arguments = vec!["--device", "vulkan", "--network", &network, "--out", &out];
        arguments.extend(more);
        self.finish(self.training.command(&arguments))
    }

    fn resume(&self, name: &str, epochs: &str) -> String {
        let run = self.training.path(name);
        self.finish(common::executable::command(&["train", "--resume", &run, "--epochs", epochs]))
    }

    fn finish(&self, mut command: std::process::Command) -> String {
        command.env("TNET_TARGET", "gpu").env("XDG_CACHE_HOME", self.training.path("cache"));
        let output = command.output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stderr(&output)
    }

    /// The only file of the cache.
    fn kept(&self) -> PathBuf {
        let folder = fs::read_dir(self.training.path("cache/tnet-gpu/tuning")).unwrap();
        let files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    fn weights(&self, name: &str) -> Vec<u8> {
        fs::read(self.training.path(&format!("{name}/last.safetensors"))).unwrap()
    }

    fn tuning(&self, name: &str) -> Option<toml::Value> {
        let config: toml::Table =
            self.training.read(&format!("{name}/config.toml")).parse().unwrap();
        config.get("tuning").cloned()
    }
}

mod vulkan {
    use super::*;

    #[test]
    fn what_was_measured_is_kept_and_a_run_computes_by_it_to_the_end() {
        if common::open("vulkan").is_none() {
            return;
        }
        let runs = Runs::new();
        let said = runs.run("first", &["--tune", "on", "--epochs", "1"]);
        assert!(said.contains("measuring what is fastest"), "{said}");
        assert!(said.contains("products by burn-simple: "), "{said}");
        let kept = runs.kept();
        let text = fs::read_to_string(&kept).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(runs.tuning("first").as_ref(), table.get("choices"), "{text}");

        // As if other ways had been the fastest.
        let other = r#"
            products = "own"
            layers = [
                { m = 4, n = 4, j = 8, l = 8, k = 2, batch = 16, pass = "forward", strategy = "rebuilt" },
            ]
        "#;
        let mut other_table = table.clone();
        let other: toml::Table = other.parse().unwrap();
        other_table.insert("choices".into(), toml::Value::Table(other.clone()));
        fs::write(&kept, other_table.to_string()).unwrap();

        let said = runs.run("straight", &["--tune", "on", "--epochs", "2"]);
        assert!(!said.contains("measuring"), "{said}");
        assert_eq!(runs.tuning("straight"), Some(toml::Value::Table(other)));
        runs.run("stopped", &["--tune", "on", "--epochs", "1"]);
        // The run's own choices count, not those of the cache.
        fs::write(&kept, "damaged").unwrap();
        runs.resume("stopped", "2");
        assert_eq!(runs.weights("straight"), runs.weights("stopped"));

        let said = runs.run("off", &["--tune", "off", "--epochs", "2"]);
        assert!(!said.contains("measuring"), "{said}");
        assert_eq!(runs.tuning("off"), None);
        assert_ne!(runs.weights("straight"), runs.weights("off"), "the choice changed nothing");

        let said = runs.run("again", &["--tune", "on", "--epochs", "1"]);
        assert!(said.contains("measuring what is fastest"), "a damaged file was used: {said}");
    }
}
