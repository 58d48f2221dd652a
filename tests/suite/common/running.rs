//! Runs of the executable that a test watches, and ends before they would.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Ends a hang. No test expects anything to be faster: a busy machine may take minutes for what takes
/// milliseconds elsewhere.
const HANG: Duration = Duration::from_secs(600);

/// A running `tnet-gpu`; it is killed when the test is done with it, or fails.
pub struct Running(Child);

impl Running {
    /// Starts it; what it prints is dropped.
    pub fn quiet(mut command: Command) -> Self {
        Self(heeding(&mut command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts it, for [`Running::interrupt`]. Nobody reads what it prints until then, so what is waited
    /// for meanwhile must come before it has filled a pipe: 64 KiB, a thousand epochs.
    pub fn start(mut command: Command) -> Self {
        Self(heeding(&mut command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until something has happened.
    pub fn wait_for(&mut self, what: &str, happened: impl Fn() -> bool) {
        let started = Instant::now();
        while !happened() {
            let ended = self.0.try_wait().unwrap();
            assert!(ended.is_none(), "it ended before {what}: {ended:?}");
            assert!(started.elapsed() < HANG, "no {what} in ten minutes");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends it a signal.
    pub fn send(&self, signal: &str) {
        let kill = ["-s", signal, &self.0.id().to_string()];
        assert!(Command::new("kill").args(kill).status().unwrap().success());
    }

    /// Sends it a signal and waits for its end.
    pub fn interrupt(mut self, signal: &str) -> Output {
        self.send(signal);
        let mut stderr = Vec::new();
        self.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status: self.0.wait().unwrap(), stdout: Vec::new(), stderr }
    }

    /// Kills it as a power cut would.
    pub fn kill(self) {
        drop(self);
    }
}

/// Lets a command heed signals, even where the tests run in the background or under nohup and ignore some: it would
/// inherit that.
fn heeding(command: &mut Command) -> &mut Command {
    let heed = || {
        for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM] {
            // SAFETY: the default action is none of this process's functions.
            if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec, only functions that may be called there are called.
    unsafe { command.pre_exec(heed) }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
