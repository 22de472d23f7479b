//! The processes of a box, as the host's kernel sees them.

use crate::{
    cgroup::BoxCgroup,
    error::{MachineError, MachineResult},
};
use tine_agent::processes::{ProcClock, describe};
use tine_model::ProcessInfo;

/// At most so many processes are told.
const MAX_PROCESSES: usize = 32_768;

/// The processes of the running box with this id, its init included, by process id.
///
/// # Errors
/// [`MachineError::NotRunning`] when it has none; the kernel's.
pub fn processes(id: &str) -> MachineResult<Vec<ProcessInfo>> {
    let pids = BoxCgroup::open(id)?.processes()?;
    if pids.is_empty() {
        return Err(MachineError::NotRunning);
    }
    let clock = ProcClock::read()?;
    // One that ends meanwhile is left out, and one that is not inside the box is none of it.
    let inside = pids.into_iter().take(MAX_PROCESSES).filter_map(|pid| describe(pid, clock));
    let mut all: Vec<ProcessInfo> = inside.filter(|found| found.depth >= 2).map(|found| found.info).collect();
    all.sort_by_key(|process| process.pid);
    Ok(all)
}
