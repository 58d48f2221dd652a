//! What is printed where: no colours in files, and no line but the program's own.

use std::process::Command;

use crate::common::executable::{Training, code, error_line, isolated, stderr, stdout, tnet};

const ESCAPE: char = '\u{1b}';

/// A verbose training run, its standard error in a file.
fn verbose(training: &Training, name: &str, variables: &[(&str, &str)]) -> String {
    let run = training.path(name);
    let mut command = training.command(&["-v", "--out", &run, "--epochs", "1"]);
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!stdout(&output).contains(ESCAPE), "{}", stdout(&output));
    assert!(!training.read(&format!("{name}/log.txt")).contains(ESCAPE));
    stderr(&output)
}

#[test]
fn files_get_no_colours_unless_they_are_asked_for() {
    let training = Training::new();
    let plain = verbose(&training, "plain", &[]);
    assert!(plain.contains("INFO") && !plain.contains(ESCAPE), "{plain}");
    let forced = verbose(&training, "forced", &[("CLICOLOR_FORCE", "1")]);
    assert!(forced.contains(ESCAPE), "{forced}");
    let refused = verbose(&training, "refused", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert!(!refused.contains(ESCAPE), "{refused}");
}

/// On a terminal, which `script` makes.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_colours_unless_they_are_refused() {
    let training = Training::new();
    let on_terminal = |name: &str, variable: Option<(&str, &str)>| {
        let run = training.path(name);
        let train = training.command(&["-v", "--out", &run, "--epochs", "1"]);
        let words = std::iter::once(train.get_program()).chain(train.get_args());
        let words: Vec<String> =
            words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut command = Command::new("script");
        command.args(["-qec", &words.join(" "), "/dev/null"]).env("TERM", "xterm");
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(variable);
        }
        let output = isolated(&mut command).envs(variable).output().ok()?;
        assert_eq!(code(&output), 0, "{}", stdout(&output));
        // The progress bar moves the cursor; colours end in `m`.
        let log = stdout(&output);
        let event = log.lines().find(|line| line.contains("INFO"));
        Some(event.map(str::to_owned).unwrap_or_else(|| panic!("no event in {log}")))
    };
    let Some(coloured) = on_terminal("coloured", None) else {
        eprintln!("SKIPPED: there is no script, to make a terminal");
        return;
    };
    assert!(coloured.contains("\u{1b}[32m"), "{coloured:?}");
    let plain = on_terminal("plain", Some(("NO_COLOR", "1"))).unwrap();
    assert!(!plain.contains("\u{1b}[32m"), "{plain:?}");
}

/// Where there is no desktop, a library that drivers use prints "error: XDG_RUNTIME_DIR is invalid"; where the home folder
/// cannot be written, another that it cannot make its cache.
#[test]
fn no_line_is_printed_but_the_program_s_own() {
    let training = Training::new();
    let data = training.path("data");
    for changed in [
        None,
        Some(("XDG_RUNTIME_DIR", "")),
        Some(("XDG_RUNTIME_DIR", "relative")),
        Some(("XDG_CACHE_HOME", "/dev/null/cache")),
        Some(("LIBGL_DRIVERS_PATH", "/nonexistent")),
    ] {
        let headless = |arguments: &[&str]| {
            let mut command = crate::common::executable::command(arguments);
            for variable in ["XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY"] {
                command.env_remove(variable);
            }
            command.envs(changed).output().unwrap()
        };
        let output = headless(&["devices"]);
        assert_eq!((code(&output), stderr(&output)), (0, String::new()));
        let run = training.path("run");
        let output =
            headless(&["train", "--data", &data, "--epochs", "1", "--out", &run, "--exist-ok"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let own = ["device: ", "chosen by auto: ", "data: ", "network: ", "epoch "];
        for line in stderr(&output).lines() {
            assert!(own.iter().any(|start| line.starts_with(start)), "{line}");
        }
        let output = headless(&["train", "--data", "nowhere"]);
        assert_eq!((code(&output), stderr(&output).lines().count()), (1, 1), "{}", stderr(&output));
    }
}

/// What a driver prints is in the log of the run, and with `-v` on standard error.
#[test]
fn what_a_driver_prints_is_not_lost() {
    if crate::common::open("vulkan").is_none() {
        return;
    }
    let training = Training::new();
    let mut command = training.command(&["--device", "vulkan", "--out-factors", "4,4"]);
    let mut loud = |verbose: bool| {
        command.env_remove("XDG_RUNTIME_DIR");
        if verbose {
            command.args(["-v", "--exist-ok"]);
        }
        let output = command.output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stderr(&output)
    };
    assert!(!loud(false).contains("XDG_RUNTIME_DIR"));
    if !training.read("run/log.txt").contains("printed by a driver: ") {
        eprintln!("SKIPPED: this driver prints nothing where there is no desktop");
        return;
    }
    assert!(loud(true).contains("XDG_RUNTIME_DIR"));
}

/// A library's own log of a failure is for `-v`; the user gets one line.
#[test]
fn a_failure_is_one_line() {
    for device in ["vulkan:4096", "gl:4096"] {
        let output = tnet(&["verify", "--device", device]);
        assert_eq!((code(&output), stderr(&output).lines().count()), (1, 1), "{}", stderr(&output));
        error_line(&output);
    }
}
