//! Help texts and manual pages.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use tempfile::tempdir;

use crate::common::executable::{Training, code, command, in_shell, stderr, stdout, tnet};

/// The help text of the program, or of a command of it, in a terminal of so many columns.
fn help(of: Option<&str>, columns: &str) -> String {
    let arguments: Vec<&str> = of.into_iter().chain(["--help"]).collect();
    let output = command(&arguments).env("COLUMNS", columns).output().unwrap();
    assert_eq!(code(&output), 0, "{of:?}: {}", stderr(&output));
    stdout(&output)
}

/// The commands that the program's help text lists, all but `help`.
fn commands() -> Vec<String> {
    let text = help(None, "100");
    let (_, list) = text.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // Further lines of a description are indented more.
    let named = list.lines().filter_map(|line| line.strip_prefix("  "));
    let named = named.filter(|line| !line.starts_with(' '));
    let names = named.map(|line| line.split(' ').next().unwrap().to_owned());
    let names: Vec<_> = names.filter(|name| name != "help").collect();
    assert!(names.len() >= 9, "{names:?}");
    names
}

/// The lines with which a help text ends.
fn examples(of: Option<&str>, columns: &str) -> Vec<String> {
    let text = help(of, columns);
    let lines = text.split_once("\nExamples:\n").map_or("", |(_, lines)| lines);
    lines.lines().map(|line| line.trim().to_owned()).collect()
}

/// Each is run as it stands, after the others of its text, where `tnet-gpu train` was run before.
#[test]
fn examples_work() {
    let commands = commands();
    for of in [None].into_iter().chain(commands.iter().map(|name| Some(name.as_str()))) {
        let examples = examples(of, "80");
        assert!(!examples.is_empty(), "{of:?}");
        assert_eq!(examples, self::examples(of, "1000"), "80 columns break them");
        let training = Training::new();
        let run = |line: &str| {
            let home = training.folder.path();
            let mut shell = in_shell("sh", &["-c", line], home);
            let output = shell.env("TNET_DATA", training.path("data")).output().unwrap();
            assert_eq!(code(&output), 0, "{of:?}: {line}: {}", stderr(&output));
        };
        run("tnet-gpu train");
        let own = format!("tnet-gpu {}", of.unwrap_or_default());
        assert!(examples.iter().any(|example| example.contains(&own)), "{of:?}: {examples:?}");
        for example in examples {
            run(&example);
        }
    }
}

/// The program's page goes to standard output, or those of all commands into a folder, and groff finds nothing wrong.
#[test]
fn every_command_has_a_manual_page() {
    let folder = tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let output = tnet(&["man", pages.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let names = commands().into_iter().map(|name| format!("tnet-gpu-{name}.1"));
    let names: Vec<_> = ["tnet-gpu.1".to_owned()].into_iter().chain(names).collect();
    let paths: Vec<_> = names.iter().map(|name| pages.join(name)).collect();
    let printed: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), printed);
    assert_eq!(fs::read_dir(&pages).unwrap().count(), names.len());
    assert_eq!(tnet(&["man"]).stdout, fs::read(&paths[0]).unwrap());

    for (path, of) in paths.iter().zip([None].into_iter().chain(commands().into_iter().map(Some))) {
        assert!(fs::read(path).unwrap().is_ascii(), "{}", path.display());
        let groff =
            Command::new("groff").args(["-man", "-Tutf8", "-ww", "-P-c"]).arg(path).output();
        let output = match groff {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!(
                    "SKIPPED, THE LOOK OF MANUAL PAGES WAS NOT TESTED: groff is not installed"
                );
                return;
            }
            output => output.unwrap(),
        };
        assert_eq!((code(&output), &*stderr(&output)), (0, ""), "{}", path.display());
        let text = stdout(&output);
        for example in examples(of.as_deref(), "80") {
            assert!(text.lines().any(|line| line.trim() == example), "{example}: {text}");
        }
    }
}
