//! Paths of any bytes: they work, one error stays one line, and what is printed can be pasted.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::data::{files, write_files};
use crate::common::executable::{Training, code, command, error_line, isolated, stderr, stdout};
use crate::common::running::Running;

/// Names that are not UTF-8, break lines, act on a terminal, look like options, or mean something to a shell.
const NAMES: [&[u8]; 7] = [
    b"caf\xe9",
    b"a\nb",
    b"\x1b[31mred",
    b"-x",
    b"--json",
    b"$HOME 'and' `more`",
    "\u{202e}x".as_bytes(),
];

fn path(folder: &Path, name: &[u8]) -> PathBuf {
    folder.join(OsStr::from_bytes(name))
}

fn arguments(texts: &[&str], path: &Path) -> Vec<OsString> {
    texts.iter().map(OsString::from).chain([path.into()]).collect()
}

/// Some file systems take UTF-8 alone.
fn can_be_made(folder: &Path, name: &[u8]) -> bool {
    let made = fs::create_dir(path(folder, name)).is_ok();
    if !made {
        eprintln!("SKIPPED: this file system does not take {:?}", String::from_utf8_lossy(name));
    }
    made
}

#[test]
fn a_run_and_its_data_may_have_paths_of_any_bytes() {
    let training = Training::new();
    for (at, name) in NAMES.into_iter().enumerate() {
        let folder = training.folder.path().join(at.to_string());
        fs::create_dir(&folder).unwrap();
        if !can_be_made(&folder, name) {
            continue;
        }
        let (data, run) = (path(&folder, name).join("data"), path(&folder, name).join("run"));
        write_files(&data, &files());
        let mut train = command(&["train", "--device", "cpu", "--epochs", "1", "--json", "--out"]);
        let output = train.arg(&run).arg("--data").arg(&data).output().unwrap();
        assert_eq!(code(&output), 0, "{name:?}: {}", stderr(&output));
        let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(line["run"], run.to_string_lossy().as_ref());
        // Every line is one of the program's: nothing in a path breaks it.
        let data_line = stderr(&output).lines().filter(|line| line.starts_with("data: ")).count();
        assert_eq!(data_line, 1, "{}", stderr(&output));
        assert!(!stderr(&output).contains('\u{1b}'), "{}", stderr(&output));

        // The data is found again by what config.toml says.
        let mut resume = command(&["train", "--epochs", "2", "--resume"]);
        let output = resume.arg(&run).output().unwrap();
        assert_eq!(code(&output), 0, "{name:?}: {}", stderr(&output));
        for arguments in [
            arguments(&["eval", "--device", "cpu", "--json"], &run),
            arguments(&["eval", "--device", "cpu"], &run),
            arguments(&["compare"], &run),
        ] {
            let output = command(&[]).args(arguments).output().unwrap();
            assert_eq!(code(&output), 0, "{name:?}: {}", stderr(&output));
            assert!(!stdout(&output).contains('\u{1b}'), "{}", stdout(&output));
        }
    }
}

#[test]
fn an_error_about_any_path_is_one_line_and_leaves_nothing() {
    let training = Training::new();
    let folder = training.folder.path();
    for name in NAMES {
        let missing = path(folder, name).join("missing");
        let out = path(folder, name).join("run");
        fs::write(path(folder, name), "a file").unwrap();
        let data = training.path("data");
        for (texts, path) in [
            (&["train", "--device", "cpu", "--data"][..], &missing),
            (&["train", "--device", "cpu", "--data", &data, "--out"], &out),
            (&["train", "--device", "cpu", "--data", &data, "--network"], &missing),
            (&["train", "--resume"], &missing),
            (&["eval", "--device", "cpu"], &missing),
            (&["verify", "--device", "cpu", "--cases"], &missing),
            (&["bench", "--device", "cpu", "--export-csv"], &missing),
        ] {
            let mut command = command(&[]);
            let output = command.current_dir(folder).args(arguments(texts, path)).output().unwrap();
            assert_eq!(code(&output), 1, "{texts:?}: {}", stderr(&output));
            assert_eq!(stderr(&output).lines().count(), 1, "{texts:?}: {}", stderr(&output));
            let line = error_line(&output);
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        assert!(!folder.join("runs").exists(), "a run folder was made");
    }
}

/// In a shell that reads `$'…'`, as bash, zsh and ksh do.
#[test]
fn the_resume_command_works_when_pasted() {
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no bash");
        return;
    }
    for name in NAMES {
        let training = Training::new();
        let folder = training.folder.path();
        if !can_be_made(folder, name) {
            continue;
        }
        // A relative path, which may begin with a dash.
        let mut out = OsString::from("--out=");
        out.push(OsString::from_vec(name.to_vec()));
        let data = training.path("data");
        let mut train =
            command(&["train", "--device", "cpu", "--epochs", "1000000", "--data", &data]);
        train.args(["--out-factors", "4,4"]).arg(&out).current_dir(folder);
        let mut running = Running::start(train);
        running.wait_for("epoch", || path(folder, name).join("curves.svg").exists());
        let output = running.interrupt("TERM");
        assert_eq!(code(&output), 143, "{}", stderr(&output));
        let line = error_line(&output);
        let pasted = line.split_once("resume with: tnet-gpu ").unwrap().1;

        // The run ends at once, since it has had more epochs: the command found it.
        let script = format!("\"$0\" {pasted} --epochs 1");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_tnet-gpu")]).current_dir(folder);
        let output = isolated(&mut shell).output().unwrap();
        assert_eq!(code(&output), 2, "{pasted}: {}", stderr(&output));
        assert!(error_line(&output).contains("--epochs: 1: the run is in epoch"), "{pasted}");
    }
}
