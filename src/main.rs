//! The executable `tnet-gpu`; see [`tnet_gpu::cli`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::process::ExitCode;

/// Ends the process with the line and the exit code of any other failure where the system has no more memory, in place
/// of an abort with a backtrace. What a training run needs is estimated before it begins; this is for what an estimate
/// misses.
struct Allocator;

impl Allocator {
    fn checked(pointer: *mut u8, bytes: usize) -> *mut u8 {
        if pointer.is_null() {
            out_of_memory(bytes);
        }
        pointer
    }
}

// SAFETY: every call is passed on to the system's allocator with its arguments, and every answer but a null pointer
// passed back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        Self::checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Self::checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        Self::checked(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Takes no memory and no lock, since it may be called while one is held. Nothing is cleaned up: what was written whole
/// stays, and what was half-written has a temporary name.
#[cold]
fn out_of_memory(bytes: usize) -> ! {
    let mut line = std::io::Cursor::new([0; 128]);
    let _ = writeln!(line, "tnet-gpu: out of memory: the system does not give {bytes} more bytes");
    let length = line.position() as usize;
    end(&line.get_ref()[..length])
}

/// Writes a line to standard error and ends the process with the exit code of a failure.
#[cfg(unix)]
fn end(line: &[u8]) -> ! {
    // SAFETY: the pointer and the length are those of a slice, and `_exit` may be called at any time.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        libc::_exit(1)
    }
}

/// Writes a line to standard error and ends the process with the exit code of a failure.
#[cfg(not(unix))]
fn end(line: &[u8]) -> ! {
    let _ = std::io::stderr().write_all(line);
    std::process::exit(1)
}

fn main() -> ExitCode {
    keep_memory();
    tnet_gpu::cli::main()
}

/// Lets glibc keep freed memory. A training step on the CPU frees and allocates the same megabytes, and
/// until glibc's own thresholds have grown, each step returns them to the system and faults them in
/// again: 100,000 page faults, which doubled the time of the first 200 steps at bond 16.
///
/// Where the address space is limited, all threads share one arena: each of their own would reserve 64 MiB of it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    // 32 MiB is the largest mmap threshold that glibc accepts.
    let mut options = vec![(libc::M_MMAP_THRESHOLD, 32 << 20), (libc::M_TRIM_THRESHOLD, 512 << 20)];
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call only writes the limit.
    unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    if limit.rlim_cur != libc::RLIM_INFINITY {
        options.push((libc::M_ARENA_MAX, 1));
    }
    for (option, value) in options {
        // SAFETY: no other thread is running yet, and a rejected value changes nothing.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Other allocators keep freed memory by themselves, or were not measured.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}
