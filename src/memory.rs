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
            let memory = ProcessRefreshKind::nothing().with_memory();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, memory);
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
        let taken = process.map_or(0, |process| process.virtual_memory());
        let ulimit = address_space().map(|most| Self {
            holder: "the address space of this process (ulimit -v)",
            left: most.saturating_sub(taken),
        });
        [machine, cgroup, ulimit].into_iter().flatten().min_by_key(|limit| limit.left)
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

/// The limit on the address space, in bytes.
#[cfg(target_os = "linux")]
fn address_space() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call only writes the limit.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
    (told && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Elsewhere there is none, or nothing that allocates asks for it.
#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<u64> {
    None
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
