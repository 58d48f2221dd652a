//! The executable `tnet-gpu`; see [`tnet_gpu::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_memory();
    tnet_gpu::cli::main()
}

/// Lets glibc keep freed memory. A training step on the CPU frees and allocates the same megabytes, and
/// until glibc's own thresholds have grown, each step returns them to the system and faults them in
/// again: 100,000 page faults, which doubled the time of the first 200 steps at bond 16.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    // 32 MiB is the largest mmap threshold that glibc accepts.
    for (option, bytes) in [(libc::M_MMAP_THRESHOLD, 32 << 20), (libc::M_TRIM_THRESHOLD, 512 << 20)]
    {
        // SAFETY: no other thread is running yet, and a rejected value changes nothing.
        unsafe { libc::mallopt(option, bytes) };
    }
}

/// Other allocators keep freed memory by themselves, or were not measured.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}
