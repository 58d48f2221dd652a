//! How much memory this process may still take.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use crate::{Error, Result};

/// A limit on memory.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// What sets it: `this machine`.
    holder: &'static str,
    /// How much is left of it, in bytes.
    left: u64,
}

impl Limit {
    /// The tightest of what the machine has, what the cgroup of this process allows, and what its ulimit does. None where
    /// the system does not tell.
    pub fn tightest() -> Option<Self> {
        let mut system = System::new();
        system.refresh_memory();
        let own = sysinfo::get_current_pid().ok();
        if let Some(own) = own {
            let nothing = ProcessRefreshKind::nothing();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, nothing);
        }
        let process = own.and_then(|own| system.process(own));

        // What other programs have is theirs; what the system caches is not.
        let machine = system.available_memory().saturating_add(system.free_swap());
        let machine =
            (system.total_memory() > 0).then_some(Self { holder: "this machine", left: machine });
        // In a container, the path of the process's own cgroup may be one that is only valid outside.
        let cgroup = process.and_then(|process| process.cgroup_limits());
        let cgroup = cgroup.or_else(|| system.cgroup_limits());
        let cgroup = cgroup.filter(|limits| limits.total_memory < system.total_memory());
        let cgroup = cgroup.map(|limits| Self {
            holder: "the cgroup of this process",
            left: limits.total_memory.saturating_sub(limits.rss),
        });
        let limits = [machine, cgroup].into_iter().flatten().chain(ulimits());
        limits.min_by_key(|limit| limit.left)
    }

    /// Checks that `needed` bytes can be had; `what` needs them, as in `training this network`.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] with both numbers.
    pub fn check(self, what: &'static str, needed: u64) -> Result<()> {
        let Self { holder, left } = self;
        if needed <= left {
            return Ok(());
        }
        Err(Error::Memory { what, needed, holder, available: left })
    }
}

/// The limits of the shell that started this process.
#[cfg(target_os = "linux")]
fn ulimits() -> Vec<Limit> {
    // Sizes in pages: the first is the address space, the sixth the data (proc_pid_statm(5)).
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Vec<u64> = statm.split(' ').map_while(|pages| pages.parse().ok()).collect();
    // SAFETY: the call has no conditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or_default();
    let limit = |resource, taken: usize, holder| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the call only writes the limit.
        let told = unsafe { libc::getrlimit(resource, &raw mut limit) } == 0;
        let taken = pages.get(taken).map_or(0, |pages| pages * page);
        let left = limit.rlim_cur.saturating_sub(taken);
        (told && limit.rlim_cur != libc::RLIM_INFINITY).then_some(Limit { holder, left })
    };
    let limits = [
        limit(libc::RLIMIT_AS, 0, "the address space of this process (ulimit -v)"),
        limit(libc::RLIMIT_DATA, 5, "the data of this process (ulimit -d)"),
    ];
    limits.into_iter().flatten().collect()
}

/// Elsewhere there are none, or nothing that allocates asks for them.
#[cfg(not(target_os = "linux"))]
fn ulimits() -> Vec<Limit> {
    Vec::new()
}

/// Checks that the machine has the memory that something needs.
///
/// # Errors
///
/// [`Error::Memory`] with both numbers.
pub fn check(what: &'static str, needed: u64) -> Result<()> {
    Limit::tightest().map_or(Ok(()), |limit| limit.check(what, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_limit() {
        let limit = Limit::tightest().unwrap();
        limit.check("this test", 1 << 20).unwrap();
        let message = limit.check("this test", u64::MAX).unwrap_err().to_string();
        assert!(message.starts_with("this test needs 18446744.1 TB of memory, "), "{message}");
    }
}
