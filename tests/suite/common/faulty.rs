//! Systems and devices that are not the one at hand: C code put between the executable and the system, or its driver.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tempfile::{TempDir, tempdir};

/// Compiles a file of `tests/suite`. Without a compiler it prints that the test is skipped.
fn compile(source: &str, library: &Path) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite").join(source);
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-o"]).args([library, &source]);
    if command.arg("-ldl").status().is_ok_and(|status| status.success()) {
        return Some(());
    }
    eprintln!("SKIPPED: no C compiler for {}", source.display());
    None
}

/// A system whose calls answer as its variables say: see `system.c`. The commands of one run of the tests share it.
pub fn system(command: &mut Command) -> Option<&mut Command> {
    static LIBRARY: LazyLock<Option<(TempDir, PathBuf)>> = LazyLock::new(|| {
        let folder = tempdir().unwrap();
        let library = folder.path().join("libsystem.so");
        compile("system.c", &library)?;
        Some((folder, library))
    });
    let (_, library) = LIBRARY.as_ref()?;
    Some(command.env("LD_PRELOAD", library))
}

/// A Vulkan layer between loader and driver: see `faulty_device.c`.
pub struct FaultyDevice(TempDir);

impl FaultyDevice {
    /// Builds it.
    pub fn build() -> Option<Self> {
        let folder = tempdir().unwrap();
        compile("faulty_device.c", &folder.path().join("libfaulty.so"))?;
        let manifest = r#"{"file_format_version": "1.2.0", "layer": {
            "name": "VK_LAYER_TNET_faulty", "type": "GLOBAL", "library_path": "./libfaulty.so",
            "api_version": "1.3.0", "implementation_version": "1", "description": "a faulty device"
        }}"#;
        std::fs::write(folder.path().join("faulty.json"), manifest).unwrap();
        Some(Self(folder))
    }

    /// Puts it under a command.
    pub fn under<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("VK_LAYER_PATH", self.0.path())
            .env("VK_INSTANCE_LAYERS", "VK_LAYER_TNET_faulty")
    }
}
