//! The signals that end a training run in good order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::train::StopFlag;
use crate::{Error, Result};

/// A flag that Ctrl-C, SIGTERM and SIGHUP set. A second Ctrl-C or SIGTERM ends the process at once; a SIGHUP never does,
/// because a terminal that goes away sends several, and a service manager one right after its SIGTERM.
///
/// A signal that was ignored when the process started stays ignored: nohup does that to SIGHUP, and a shell without
/// job control to the SIGINT of what it starts in the background.
pub fn listen() -> Result<StopFlag> {
    let asked = Arc::new(AtomicUsize::new(0));
    let again = Arc::new(AtomicBool::new(false));
    let failed = |error| Error::internal("installing the signal handlers", error);
    for signal in [SIGINT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal)) {
        // The order matters: the first signal must find `again` false, then set it.
        flag::register_conditional_shutdown(signal, 128 + signal, again.clone())
            .and_then(|_| flag::register(signal, again.clone()))
            .and_then(|_| flag::register_usize(signal, asked.clone(), signal as usize))
            .map_err(failed)?;
    }
    #[cfg(unix)]
    if !is_ignored(libc::SIGHUP) {
        flag::register_usize(libc::SIGHUP, asked.clone(), libc::SIGHUP as usize).map_err(failed)?;
    }
    Ok(StopFlag::from(asked))
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros are a `sigaction`, and with no new action given the call only writes the old one into it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Elsewhere nobody starts a process with signals ignored.
#[cfg(not(unix))]
fn is_ignored(_signal: i32) -> bool {
    false
}
