//! The monitors of running boxes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use crate::support::{Fixture, names};
use rustix::process::{Pid, Signal, kill_process};

/// The process id of a running box's monitor: the parent of the box's first process. One that is still putting a
/// former run away has none.
pub fn monitor(f: &Fixture, project: &str, name: &str) -> u32 {
    let wanted = format!("tine\0__monitor\0{}\0{project}:{name}\0", f.pool().display());
    let of_box =
        |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l == wanted.as_bytes());
    let processes = names("/proc".as_ref());
    let found = processes.iter().filter_map(|p| p.parse().ok()).filter(of_box).find_map(parent_of_init);
    found.unwrap_or_else(|| panic!("box {project}:{name} has no monitor"))
}

/// The parent of a process that is the first of its own process namespace.
fn parent_of_init(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_first = field("NSpid:")?.split_whitespace().nth(1) == Some("1");
    is_first.then(|| field("PPid:")?.parse().ok())?
}

/// Kills a running box's monitor, and with it the box.
pub fn kill_monitor(f: &Fixture, project: &str, name: &str) {
    let pid = Pid::from_raw(monitor(f, project, name).cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}
