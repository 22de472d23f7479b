//! The processes of a box, as the host's kernel sees them.

use crate::{
    cgroup::BoxCgroup,
    error::{MachineError, MachineResult},
};
use std::{fs::File, io::Read, path::Path};
use tine_model::{ByteSize, ProcessInfo, Timestamp};

/// At most so many processes are told.
const MAX_PROCESSES: usize = 32_768;
/// At most so many bytes of a file of `/proc` are read; a command line may be longer.
const MAX_FILE: u64 = 16 << 10;

/// The processes of the running box with this id, its init included, by process id.
///
/// # Errors
/// [`MachineError::NotRunning`] when it has none; the kernel's.
pub fn processes(id: &str) -> MachineResult<Vec<ProcessInfo>> {
    let pids = BoxCgroup::open(id)?.processes()?;
    if pids.is_empty() {
        return Err(MachineError::NotRunning);
    }
    let boot = boot_time()?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    // One that ends meanwhile is left out.
    let mut all: Vec<ProcessInfo> =
        pids.into_iter().take(MAX_PROCESSES).filter_map(|pid| describe(pid, boot, ticks)).collect();
    all.sort_by_key(|process| process.pid);
    Ok(all)
}

fn describe(host_pid: u32, boot: i64, ticks: u64) -> Option<ProcessInfo> {
    let dir = Path::new("/proc").join(host_pid.to_string());
    let status = read(&dir.join("status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let ids: Vec<&str> = field("NSpid:")?.split_whitespace().collect();
    if ids.len() < 2 {
        return None;
    }
    let rss = field("VmRSS:").and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    Some(ProcessInfo {
        pid: ids.last()?.parse().ok()?,
        uid: field("Uid:")?.split_whitespace().next()?.parse().ok()?,
        state: field("State:")?.get(..1)?.to_owned(),
        rss_bytes: ByteSize(rss * 1024),
        started_at: Timestamp::from_second(boot + start_ticks(&dir)? / i64::try_from(ticks).ok()?),
        command: command(&dir, field("Name:")?),
    })
}

/// Field 22 of `stat`; the name before it may hold anything but ends at the last parenthesis.
fn start_ticks(dir: &Path) -> Option<i64> {
    let stat = read(&dir.join("stat"))?;
    stat.get(stat.rfind(')')? + 1..)?.split_whitespace().nth(19)?.parse().ok()
}

fn command(dir: &Path, name: &str) -> String {
    let line = read(&dir.join("cmdline")).unwrap_or_default();
    let line = line.trim_end_matches('\0');
    let text = if line.is_empty() { format!("[{name}]") } else { line.replace('\0', " ") };
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn boot_time() -> MachineResult<i64> {
    let stat =
        std::fs::read_to_string("/proc/stat").map_err(|e| MachineError::io("read", "/proc/stat", e))?;
    let time = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    time.ok_or_else(|| MachineError::Unsupported("/proc/stat has no boot time".to_owned()))
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
