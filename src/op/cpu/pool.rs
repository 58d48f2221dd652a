//! The threads of the CPU device.
//!
//! A fork into `rayon` from a thread outside its pool puts that thread to sleep, wakes others
//! and is woken by the last of them: 20 µs on two cores, and 50 where all had fallen asleep since the
//! last fork. A forward pass of the layer takes 40 µs, and a training step has some twenty forks. Here the
//! calling thread works too, and the others look for work for a while before they sleep, so that the next
//! fork finds them awake and costs less than 1 µs.
//!
//! With `rayon` and one `install` around a whole training step, training was 1.04 times slower at bond 1, 1.03 times at
//! bond 16 and as fast for the dense network (medians of five rounds in turn, two cores); outside such a step the
//! layer at bond 1, batch 128 took 64 instead of 53 µs forward and 271 instead of 103 backward (three rounds).
//!
//! Which thread takes which piece is left to chance. The pieces are fixed, and so are the results.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a thread looks for work before it sleeps: longer than anything that a training step does
/// between two forks (the loss takes 25 µs), and too short to be seen in the load of a processor.
const AWAKE: Duration = Duration::from_micros(200);

/// Rounds of looking before a thread offers its processor to another, which may be the one that it waits
/// for.
const ROUNDS: u32 = 64;

type Task<'a> = &'a (dyn Fn() + Sync);

/// The fork in progress.
#[derive(Default)]
struct Fork {
    /// What it runs, until the thread that forked has finished its own share.
    task: Option<Task<'static>>,
    /// What a thread panicked with.
    panic: Option<Box<dyn Any + Send>>,
}

/// One of the threads that help.
struct Helper {
    thread: Thread,
    asleep: &'static AtomicBool,
}

/// Threads that work together.
pub struct Pool {
    shared: &'static Shared,
    /// Held by the thread that forks.
    helpers: Mutex<Vec<Helper>>,
}

impl Pool {
    /// A pool of `threads`, the calling one among them. It is never torn down.
    pub fn new(threads: usize) -> Self {
        let shared: &'static Shared = Box::leak(Box::default());
        let helper = |_| {
            let asleep: &'static AtomicBool = Box::leak(Box::default());
            let helper = thread::Builder::new().name("tnet-cpu".into());
            // A system without threads to give computes on those that it gave.
            let handle = helper.spawn(move || shared.help(asleep)).ok()?;
            Some(Helper { thread: handle.thread().clone(), asleep })
        };
        Self { shared, helpers: Mutex::new((1..threads).map_while(helper).collect()) }
    }

    /// The helpers, unless they are at work.
    fn free(&self) -> Option<MutexGuard<'_, Vec<Helper>>> {
        match self.helpers.try_lock() {
            Ok(helpers) => Some(helpers),
            // A task of an earlier fork panicked. By then all had ended, so nothing is left half-done.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[derive(Default)]
struct Shared {
    fork: Mutex<Fork>,
    /// Forks so far.
    forks: AtomicUsize,
    /// Helpers at work on the fork in progress; grows only while its task is there.
    at_work: AtomicUsize,
}

/// A panic in a task never happens while a lock is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of as many threads as Burn's operations run on.
static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(rayon::current_num_threads()));

/// The pool that this thread forks into.
fn current() -> &'static Pool {
    #[cfg(test)]
    if let Some(pool) = CHOSEN.get() {
        return pool;
    }
    &POOL
}

#[cfg(test)]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<&'static Pool>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` with a pool of so many threads in place of the usual one; how often it forked, too.
#[cfg(test)]
pub fn with_threads<T>(threads: usize, work: impl FnOnce() -> T) -> (T, usize) {
    let pool: &'static Pool = Box::leak(Box::new(Pool::new(threads)));
    let before = CHOSEN.replace(Some(pool));
    let result = work();
    CHOSEN.set(before);
    (result, pool.shared.forks.load(SeqCst))
}

impl Shared {
    /// The life of a helper.
    fn help(&self, asleep: &AtomicBool) {
        let mut seen = 0;
        loop {
            self.wait(seen, asleep);
            seen = self.forks.load(SeqCst);
            let task = {
                let fork = lock(&self.fork);
                let Some(task) = fork.task else { continue };
                self.at_work.fetch_add(1, SeqCst);
                task
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(task)) {
                lock(&self.fork).panic = Some(panic);
            }
            self.at_work.fetch_sub(1, SeqCst);
        }
    }

    /// Until there were other than `seen` forks.
    fn wait(&self, seen: usize, asleep: &AtomicBool) {
        let begin = Instant::now();
        loop {
            for _ in 0..ROUNDS {
                if self.forks.load(SeqCst) != seen {
                    return;
                }
                std::hint::spin_loop();
            }
            if begin.elapsed() < AWAKE {
                thread::yield_now();
                continue;
            }
            // Either the fork that comes now sees that this thread sleeps, or it is seen here.
            asleep.store(true, SeqCst);
            while asleep.load(SeqCst) && self.forks.load(SeqCst) == seen {
                thread::park();
            }
            asleep.store(false, SeqCst);
        }
    }

    /// Runs `task` on this thread and, at the same time, on those of the helpers that come before this
    /// one is done with it.
    fn run(&self, task: Task, helpers: &[Helper]) {
        // SAFETY: only the lifetime changes. No helper calls the task after this function has returned:
        // one takes it under the lock and is counted there, below it is taken away under the lock, and then
        // all who were counted are waited for. Nothing in between unwinds.
        let task_of_helpers = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        lock(&self.fork).task = Some(task_of_helpers);
        self.forks.fetch_add(1, SeqCst);
        for helper in helpers {
            if helper.asleep.swap(false, SeqCst) {
                helper.thread.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(task));
        lock(&self.fork).task = None;
        let mut rounds = 0;
        while self.at_work.load(SeqCst) > 0 {
            rounds += 1;
            if rounds % ROUNDS == 0 { thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = lock(&self.fork).panic.take();
        if let Some(panic) = own.err().or(panic) {
            resume_unwind(panic);
        }
    }
}

/// Calls `work` with every item, on all threads. Where they are at work already, for another thread or
/// for the one that calls, it is this thread alone.
pub fn for_each<I: Iterator + Send>(items: I, work: impl Fn(I::Item) + Sync) {
    for_each_with(items, || (), |(), item| work(item));
}

/// The same with something that each thread makes for itself and keeps from item to item.
pub fn for_each_with<I: Iterator + Send, S>(
    items: I,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, I::Item) + Sync,
) {
    let pieces = items.size_hint().1.unwrap_or(usize::MAX);
    let pool = current();
    if pieces > 1
        && let Some(helpers) = pool.free()
        && !helpers.is_empty()
    {
        let items = Mutex::new(items);
        let task = || {
            let mut own = None;
            loop {
                // The lock must not be held while the item is worked on.
                let item = lock(&items).next();
                match item {
                    Some(item) => work(own.get_or_insert_with(&scratch), item),
                    None => return,
                }
            }
        };
        let helpers = &helpers[..helpers.len().min(pieces - 1)];
        return pool.shared.run(&task, helpers);
    }
    let mut own = scratch();
    items.for_each(|item| work(&mut own, item));
}

/// What `work` makes of every item, in their order, on all threads.
pub fn map<I: Iterator + Send, T: Send>(items: I, work: impl Fn(I::Item) -> T + Sync) -> Vec<T> {
    map_with(items, || (), |(), item| work(item))
}

/// The same with something that each thread makes for itself and keeps from item to item.
pub fn map_with<I: Iterator + Send, S, T: Send>(
    items: I,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, I::Item) -> T + Sync,
) -> Vec<T> {
    let results = Mutex::new(Vec::with_capacity(items.size_hint().0));
    for_each_with(items.enumerate(), scratch, |own, (at, item)| {
        let result = work(own, item);
        lock(&results).push((at, result));
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From several threads at once, from within a piece, and again and again: every piece once, and
    /// results in order.
    #[test]
    fn every_piece_is_done_once() {
        thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..2000 {
                        let count = (round + thread) % 7;
                        let squares = map(0..count, |at| {
                            let mut inner = vec![0; at];
                            for_each(inner.iter_mut().enumerate(), |(at, value)| *value += at);
                            assert_eq!(inner.iter().sum::<usize>(), at * at.saturating_sub(1) / 2);
                            at * at
                        });
                        assert_eq!(squares, (0..count).map(|at| at * at).collect::<Vec<_>>());
                        // Long enough for some threads to fall asleep at times.
                        if round % 500 == 0 {
                            thread::sleep(2 * AWAKE);
                        }
                    }
                });
            }
        });
    }

    /// A panic reaches the thread that forked, and the threads work on.
    #[test]
    fn a_panic_is_passed_on() {
        for bad in 0..8 {
            let outcome = catch_unwind(|| {
                for_each(0..8, |piece| {
                    thread::sleep(Duration::from_micros(50));
                    assert!(piece != bad, "piece {piece}");
                });
            });
            let message = outcome.unwrap_err();
            assert_eq!(message.downcast_ref::<String>().unwrap(), &format!("piece {bad}"));
        }
        assert_eq!(map(0..3, |piece| piece), [0, 1, 2]);
    }

    /// After a panic the pool has as many threads as before: each of three pieces waits until all have
    /// begun, which on fewer threads none ever does.
    #[test]
    fn a_panic_costs_no_thread() {
        with_threads(3, || {
            catch_unwind(|| for_each(0..3, |piece| assert!(piece != 1, "piece {piece}")))
                .unwrap_err();
            let begun = AtomicUsize::new(0);
            let begin = Instant::now();
            for_each(0..3, |_| {
                begun.fetch_add(1, SeqCst);
                while begun.load(SeqCst) < 3 {
                    // Only to end with a message instead of never.
                    assert!(begin.elapsed() < Duration::from_secs(120), "a thread is missing");
                    thread::yield_now();
                }
            });
        });
    }
}
