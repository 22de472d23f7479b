//! What `/proc` says of one process.
//!
//! Command lines and names are the process's own words: bounded, and without control characters.

use crate::error::{AgentError, AgentResult};
use std::{fs::File, io::Read, path::Path};
use tine_model::{ByteSize, ProcessInfo, Timestamp};
use tine_sys::{SysError, SysResult};

/// At most so many processes of a guest are told.
pub const MAX_LISTED: usize = 4096;
/// The largest list of a guest's processes, in bytes.
pub const MAX_LIST: usize = 16 << 20;
/// A guest's command line is cut off after so many characters.
const MAX_LISTED_COMMAND: usize = 2048;
/// At most so many bytes of a file of `/proc` are read; a command line may be longer.
const MAX_FILE: u64 = 16 << 10;
/// `PF_KTHREAD` of the kernel's `linux/sched.h`, as field 9 of `/proc/<pid>/stat` shows it.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// By what `/proc` counts time.
#[derive(Debug, Clone, Copy)]
pub struct ProcClock {
    boot: i64,
    ticks: i64,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// As its innermost process id namespace sees it.
    pub info: ProcessInfo,
    /// In how many process id namespaces it is, that of `/proc` included.
    pub depth: usize,
    /// True for a thread of the kernel's own.
    pub is_kernel: bool,
}

impl ProcClock {
    /// The machine's, at this moment: it changes with the wall clock.
    ///
    /// # Errors
    /// The kernel's, when `/proc` is not there.
    pub fn read() -> SysResult<Self> {
        let err = |e: std::io::Error| SysError::new("read", "/proc/stat", e);
        let stat = std::fs::read_to_string("/proc/stat").map_err(err)?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let boot = boot.ok_or_else(|| err(std::io::ErrorKind::InvalidData.into()))?;
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        Ok(Self { boot, ticks: i64::try_from(ticks).unwrap_or(100) })
    }
}

/// The process with this id in `/proc`; none when it has ended.
#[must_use]
pub fn describe(pid: u32, clock: ProcClock) -> Option<Described> {
    let dir = Path::new("/proc").join(pid.to_string());
    let status = read(&dir.join("status"))?;
    let stat = read(&dir.join("stat"))?;
    // The name before the fields may hold anything but ends at the last parenthesis; field 3 is the first after it.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let ids = field("NSpid:")?;
    let rss = field("VmRSS:").and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    let start: i64 = fields.get(19)?.parse().ok()?;
    let info = ProcessInfo {
        pid: ids.split_whitespace().next_back()?.parse().ok()?,
        uid: field("Uid:")?.split_whitespace().next()?.parse().ok()?,
        state: field("State:")?.get(..1)?.to_owned(),
        rss_bytes: ByteSize(rss.saturating_mul(1024)),
        started_at: Timestamp::from_second(clock.boot.saturating_add(start / clock.ticks)),
        command: command(&dir, field("Name:")?),
    };
    let is_kernel = fields.get(6)?.parse::<u64>().ok()? & KERNEL_THREAD != 0;
    Some(Described { info, depth: ids.split_whitespace().count(), is_kernel })
}

/// The processes of the machine this runs in, threads of the kernel left out, as JSON that fits [`parse_list`].
///
/// # Errors
/// The kernel's.
pub fn list_as_json() -> AgentResult<Vec<u8>> {
    let clock = ProcClock::read()?;
    let entries = std::fs::read_dir("/proc").map_err(|e| AgentError::io("read", "/proc", e))?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let programs = pids.filter_map(|pid| describe(pid, clock)).filter(|found| !found.is_kernel);
    let mut all: Vec<ProcessInfo> = programs.map(|found| bounded(found.info)).take(MAX_LISTED).collect();
    all.sort_by_key(|process| process.pid);
    serde_json::to_vec(&all).map_err(|e| AgentError::Malformed(e.to_string()))
}

/// Reads the list of a guest's processes, which is an attacker's.
///
/// # Errors
/// [`AgentError::Malformed`].
pub fn parse_list(json: &[u8]) -> AgentResult<Vec<ProcessInfo>> {
    if json.len() > MAX_LIST {
        return Err(AgentError::TooLarge("the list of processes"));
    }
    let odd = |reason: String| AgentError::Malformed(format!("a malformed list of processes: {reason}"));
    let all: Vec<ProcessInfo> = serde_json::from_slice(json).map_err(|e| odd(e.to_string()))?;
    if all.len() > MAX_LISTED {
        return Err(odd("too many".to_owned()));
    }
    Ok(all.into_iter().map(bounded).collect())
}

fn bounded(info: ProcessInfo) -> ProcessInfo {
    let state = info.state.chars().next().filter(char::is_ascii_alphabetic).unwrap_or('?').to_string();
    let command: String = info.command.chars().take(MAX_LISTED_COMMAND).collect();
    ProcessInfo { state, command: printable(&command), ..info }
}

fn command(dir: &Path, name: &str) -> String {
    let line = read(&dir.join("cmdline")).unwrap_or_default();
    let line = line.trim_end_matches('\0');
    let text = if line.is_empty() { format!("[{name}]") } else { line.replace('\0', " ") };
    printable(&text)
}

/// The text with every control character replaced.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described_and_the_kernels_threads_are_known() {
        let clock = ProcClock::read().unwrap();
        let own = describe(std::process::id(), clock).unwrap();
        assert_eq!((own.info.pid, own.is_kernel), (std::process::id(), false));
        assert!(own.info.rss_bytes.0 > 0 && own.info.command.contains("tine_agent"), "{own:?}");
        let age = Timestamp::now().as_second() - own.info.started_at.as_second();
        assert!((-1..600).contains(&age), "{age}");
        assert!(describe(u32::MAX, clock).is_none());
        let listed = parse_list(&list_as_json().unwrap()).unwrap();
        assert!(listed.iter().any(|found| found.pid == own.info.pid) && listed.iter().all(|p| p.pid != 2));
        assert_eq!(printable("a\n\u{1b}b"), "a??b");
    }

    #[test]
    fn a_guests_list_is_bounded_and_cannot_move_the_cursor() {
        let entry = |command: &str, state: &str| {
            format!(
                r#"{{"pid":1,"uid":0,"state":"{state}","rss_bytes":1,"started_at":"2026-01-01T00:00:00Z","command":"{command}"}}"#
            )
        };
        let listed =
            parse_list(format!("[{}]", entry(&"\\u001b".repeat(9000), "\\u001bx")).as_bytes()).unwrap();
        assert_eq!(
            (listed[0].command.as_str(), listed[0].state.as_str()),
            (&*"?".repeat(MAX_LISTED_COMMAND), "?")
        );
        let many = vec![entry("x", "R"); MAX_LISTED + 1].join(",");
        for bad in ["", "[", "[{}]", "{}", &format!("[{many}]")] {
            assert!(parse_list(bad.as_bytes()).is_err());
        }
    }
}
