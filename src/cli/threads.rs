//! How many threads there may be, found out before they are needed: Rayon's pool, once it failed to start one, panics
//! whenever it is used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rayon::ThreadPoolBuilder;

use super::say;
use crate::{Error, Result};

/// Threads besides the pools: of an adapter's driver, of Burn's queues, and of what compiles kernels while the data is
/// read.
const SPARE: usize = 16;

/// Whether there are fewer threads than wanted.
static SHORT: AtomicBool = AtomicBool::new(false);

/// Whether there are fewer threads than wanted, which a driver may take badly.
pub fn are_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// Makes the pools smaller where the system does not give the threads that they would have, and says so.
pub fn fit() -> Result<()> {
    // RAYON_NUM_THREADS, which the pool obeys, may ask for others; a value that is none is Rayon's to ignore.
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|count| count.parse().ok());
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let wanted: usize = asked.filter(|&count| count > 0).unwrap_or_else(processors);
    let wanted = wanted.min(rayon::max_num_threads());
    // Burn's operations have one pool, the layer's another, the calling thread among its threads.
    let all = 2 * wanted - 1 + SPARE;
    let startable = startable(all);
    if startable == all {
        return Ok(());
    }
    SHORT.store(true, Ordering::Relaxed);
    // Half of them for the pools.
    let count = startable.div_ceil(4).clamp(1, wanted);
    let pool = ThreadPoolBuilder::new().num_threads(count);
    // With hardly any, Burn's operations run on this one.
    let pool = if startable < 3 { pool.use_current_thread() } else { pool };
    pool.build_global().map_err(Error::threads)?;
    if count < wanted {
        say!(
            "only {startable} of {all} threads could be started (a limit on processes or memory): \
             {count} instead of {wanted} for computing"
        );
    }
    Ok(())
}

/// How many threads, up to `most`, can be there at the same time.
///
/// They are the system's own, not the standard library's: those allocate, and each of them would leave an arena of glibc
/// behind, 64 MiB of address space.
#[cfg(unix)]
fn startable(most: usize) -> usize {
    use std::ffi::c_void;
    use std::ptr::null_mut;

    /// Waits until the mutex is free.
    extern "C" fn wait(gate: *mut c_void) -> *mut c_void {
        // SAFETY: the mutex outlives all threads that wait for it.
        unsafe {
            libc::pthread_mutex_lock(gate.cast());
            libc::pthread_mutex_unlock(gate.cast());
        }
        null_mut()
    }

    /// Stack of a thread of the standard library, in bytes.
    const STACK: usize = 2 << 20;

    let mut gate = libc::PTHREAD_MUTEX_INITIALIZER;
    let gate = &raw mut gate;
    let mut started = Vec::with_capacity(most);
    // SAFETY: the mutex and the attributes are initialised before they are used, and every thread that was started is
    // joined before the mutex ends.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_attr_init(&raw mut attributes) != 0 {
            return most;
        }
        libc::pthread_attr_setstacksize(&raw mut attributes, STACK);
        libc::pthread_mutex_lock(gate);
        for _ in 0..most {
            let mut thread = std::mem::zeroed();
            if libc::pthread_create(&raw mut thread, &raw const attributes, wait, gate.cast()) != 0
            {
                break;
            }
            started.push(thread);
        }
        libc::pthread_mutex_unlock(gate);
        // Joined, so that none counts any more.
        for &thread in &started {
            libc::pthread_join(thread, null_mut());
        }
        libc::pthread_attr_destroy(&raw mut attributes);
    }
    started.len()
}

/// Elsewhere there is no limit on threads.
#[cfg(not(unix))]
fn startable(most: usize) -> usize {
    most
}
