//! How many threads there may be, found out before they are needed: Rayon's pool, once it failed to start one, panics
//! whenever it is used.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
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
    say!(
        "only {startable} of {all} threads could be started (a limit on processes or memory): \
         {count} instead of {wanted} for computing"
    );
    Ok(())
}

/// How many threads, up to `most`, can be there at the same time.
fn startable(most: usize) -> usize {
    let (release, released) = mpsc::sync_channel::<()>(0);
    let released = Mutex::new(released);
    thread::scope(|scope| {
        let wait = || drop(released.lock().map(|released| released.recv()));
        let start = |_| thread::Builder::new().spawn_scoped(scope, wait).ok();
        let started: Vec<_> = (0..most).map_while(start).collect();
        let count = started.len();
        // Each of them now finds the channel closed. Joined one by one: the scope alone would wait for their work, not
        // for their end, and they would still count.
        drop(release);
        started.into_iter().for_each(|thread| drop(thread.join()));
        count
    })
}
