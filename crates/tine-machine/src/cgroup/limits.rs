//! What a box may use: the limits of its groups, also while it runs.

use super::{
    BoxCgroup, Layout,
    files::{failed_with, is_missing, read_at, write_at},
};
use crate::error::{MachineError, MachineResult};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use tine_model::{ByteSize, Limits};

/// Processes and threads when no limit is given.
const DEFAULT_PIDS: u32 = 4096;
/// The period over which processor time is counted, in microseconds.
const CPU_PERIOD: u64 = 100_000;

impl BoxCgroup {
    /// Sets every limit; one that the host cannot enforce is an error only when it is asked for. Memory goes first,
    /// for it alone depends on what the box does: a refusal changes nothing.
    pub(crate) fn set_limits(&self, limits: &Limits) -> MachineResult<()> {
        self.set_memory(limits)?;
        self.set_cpu(limits)?;
        let pids = limits.pids.unwrap_or(DEFAULT_PIDS).to_string();
        self.set("pids", "pids.max", &pids, limits.pids.is_some())
    }

    fn set_cpu(&self, limits: &Limits) -> MachineResult<()> {
        let quota = limits.cpu.map(|cpu| u64::from(cpu.0) * CPU_PERIOD / 1000);
        let wanted = quota.is_some();
        if self.layout == Layout::Unified {
            let quota = quota.map_or("max".to_owned(), |q| q.to_string());
            return self.set("cpu", "cpu.max", &format!("{quota} {CPU_PERIOD}"), wanted);
        }
        self.set("cpu", "cpu.cfs_period_us", &CPU_PERIOD.to_string(), wanted)?;
        self.set("cpu", "cpu.cfs_quota_us", &quota.map_or("-1".to_owned(), |q| q.to_string()), wanted)
    }

    fn set_memory(&self, limits: &Limits) -> MachineResult<()> {
        match (self.layout, limits.memory_bytes) {
            (Layout::Unified, limit) => self.set_memory_unified(limit),
            (Layout::Split, None) => self.set_memory_split("-1", false),
            (Layout::Split, Some(limit)) => match self.set_memory_split(&limit.0.to_string(), true) {
                Err(e) if failed_with(&e, Errno::BUSY) => Err(MachineError::MemoryInUse { limit }),
                other => other,
            },
        }
    }

    fn set_memory_split(&self, value: &str, wanted: bool) -> MachineResult<()> {
        // Memory plus swap must never be the lower of the two, so it goes first when both rise.
        let _ = self.set("memory", "memory.memsw.limit_in_bytes", value, false);
        self.set("memory", "memory.limit_in_bytes", value, wanted)?;
        self.set("memory", "memory.memsw.limit_in_bytes", value, false)
    }

    fn set_memory_unified(&self, limit: Option<ByteSize>) -> MachineResult<()> {
        let Some(limit) = limit else {
            self.set("memory", "memory.max", "max", false)?;
            return self.set("memory", "memory.swap.max", "max", false);
        };
        if let Some(group) = self.groups.first() {
            make_room(group.dir.as_fd(), limit)?;
        }
        self.set("memory", "memory.max", &limit.0.to_string(), true)?;
        self.set("memory", "memory.swap.max", "0", false)
    }

    /// Writes a control file; that it is missing matters only when it is `wanted`.
    pub(super) fn set(&self, controller: &str, file: &str, value: &str, wanted: bool) -> MachineResult<()> {
        let group = self.groups.iter().find(|g| g.controller.is_empty() || g.controller == controller);
        let written = group.map(|g| write_at(g.dir.as_fd(), file, value));
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(e)) if !is_missing(&e) => Err(e),
            _ if !wanted => Ok(()),
            _ => Err(MachineError::Unsupported(format!("this host has no {controller} cgroup controller"))),
        }
    }
}

/// Makes a version 2 group give back memory until it uses no more than `limit`. A limit below what is in use would
/// kill programs of the box, where version 1 refuses it.
fn make_room(group: BorrowedFd<'_>, limit: ByteSize) -> MachineResult<()> {
    let fits = || -> MachineResult<bool> {
        Ok(read_at(group, "memory.current")?.trim().parse().is_ok_and(|used: u64| used <= limit.0))
    };
    match fits() {
        Ok(true) => return Ok(()),
        // Setting the limit tells what is missing.
        Err(e) if is_missing(&e) => return Ok(()),
        other => other?,
    };
    write_at(group, "memory.high", &limit.0.to_string())?;
    let fits = fits();
    write_at(group, "memory.high", "max")?;
    if fits? { Ok(()) } else { Err(MachineError::MemoryInUse { limit }) }
}
