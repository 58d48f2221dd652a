//! Opening a device without the lines that drivers print.
//!
//! Libraries of drivers write to standard error whatever they come across while they look for a GPU: a display that there
//! is not, a cache folder that cannot be made. Such a line is taken for a failure of this program, which says itself what
//! failed. It goes to the log instead; with `-v` it stays where it is.

#[cfg(target_os = "linux")]
use super::log;
use crate::Result;
use crate::device::{self, Adapter, Automatic, DeviceChoice, OpenDevice};

/// As [`device::open`].
pub fn open(choice: DeviceChoice) -> Result<OpenDevice> {
    quietly(|| device::open(choice))
}

/// All adapters, and what `auto` selects of them.
pub fn survey() -> (Vec<Adapter>, Automatic) {
    quietly(|| (device::adapters(), device::automatic()))
}

/// Runs `work` while standard error leads into a file in memory.
#[cfg(target_os = "linux")]
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    const STANDARD_ERROR: i32 = libc::STDERR_FILENO;

    /// Puts standard error back, even if the work panics.
    struct Back(OwnedFd);
    impl Drop for Back {
        fn drop(&mut self) {
            // SAFETY: both are open.
            unsafe { libc::dup2(self.0.as_raw_fd(), STANDARD_ERROR) };
        }
    }

    if log::is_verbose() {
        return work();
    }
    // SAFETY: the name is a string that ends with a zero; no other pointer is passed.
    let [kept, file] = unsafe {
        [
            libc::fcntl(STANDARD_ERROR, libc::F_DUPFD_CLOEXEC, 0),
            libc::memfd_create(c"drivers".as_ptr(), libc::MFD_CLOEXEC),
        ]
    };
    // SAFETY: a descriptor that is not negative was just opened, and nothing else has it.
    let owned = |raw: i32| (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) });
    let (Some(kept), Some(file)) = (owned(kept), owned(file)) else { return work() };
    let back = Back(kept);
    // SAFETY: both are open.
    if unsafe { libc::dup2(file.as_raw_fd(), STANDARD_ERROR) } < 0 {
        return work();
    }
    let outcome = work();
    drop(back);

    let mut file = File::from(file);
    let mut printed = Vec::new();
    if file.rewind().and_then(|()| file.read_to_end(&mut printed)).is_ok() {
        for line in String::from_utf8_lossy(&printed).lines() {
            tracing::info!("printed by a driver: {line}");
        }
    }
    outcome
}

/// Elsewhere drivers were not seen to print anything.
#[cfg(not(target_os = "linux"))]
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    work()
}
