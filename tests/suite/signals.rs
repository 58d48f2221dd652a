//! Signals: a training run ends in good order, and what was ignored at its start stays ignored.

use std::path::Path;
use std::process::Command;

use tnet_gpu::train::run;

use crate::common::executable::{Training, code, error_line, isolated, stderr};
use crate::common::running::Running;

/// A training run without an end that a shell starts with a signal ignored.
fn ignoring(training: &Training, signal: &str) -> Command {
    let command = training.command(&["--epochs", "1000000", "--out-factors", "4,4"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' {signal}; exec \"$@\""), "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    isolated(&mut shell);
    shell
}

/// Steps of the newest checkpoint.
fn steps(training: &Training) -> Option<u64> {
    let newest = run::newest(Path::new(&training.path("run"))).ok()?;
    Some(newest.checkpoint.state.steps)
}

/// A terminal or a connection that goes away.
#[test]
fn sighup_ends_a_training_run_as_sigterm_does() {
    let training = Training::new();
    let options = ["--epochs", "1000000", "--out-factors", "4,4"];
    let mut running = Running::start(training.command(&options));
    running.wait_for("step", || steps(&training) > Some(0));
    let output = running.interrupt("HUP");
    assert_eq!(code(&output), 129, "{}", stderr(&output));
    let line = error_line(&output);
    let run = training.path("run");
    let expected = format!("interrupted by SIGHUP; resume with: tnet-gpu train --resume {run}");
    assert!(line.ends_with(&expected), "{line}");
    let epochs = (steps(&training).unwrap() / 4 + 1).to_string();
    let output = training.resume(&["--epochs", &epochs]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// A terminal that goes away sends several, and a service manager one after its SIGTERM: the checkpoint is written all
/// the same.
#[test]
fn a_second_sighup_does_not_cut_the_checkpoint_short() {
    for first in ["HUP", "TERM"] {
        let training = Training::new();
        let options = ["--epochs", "1000000", "--out-factors", "4,4"];
        let mut running = Running::start(training.command(&options));
        running.wait_for("step", || steps(&training) > Some(0));
        running.send(first);
        running.send("HUP");
        let output = running.interrupt("HUP");
        assert!([129, 143].contains(&code(&output)), "{}", stderr(&output));
        assert!(error_line(&output).contains("resume with: "), "{}", stderr(&output));
    }
}

/// As under nohup, and in the background of a shell without job control.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for signal in ["HUP", "INT"] {
        let training = Training::new();
        let mut running = Running::start(ignoring(&training, signal));
        running.wait_for("step", || steps(&training) > Some(0));
        running.send(signal);
        // It is sent before this is looked at, so the run has gone on after it.
        let before = steps(&training);
        running.wait_for("further step", || steps(&training) > before.map(|steps| steps + 8));
        let output = running.interrupt("TERM");
        assert_eq!(code(&output), 143, "{signal}: {}", stderr(&output));
    }
}
