//! The monitors of running boxes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use crate::support::{Fixture, names};
use rustix::process::{Pid, Signal, kill_process};

/// The process id of a running box's monitor.
pub fn monitor(f: &Fixture, project: &str, name: &str) -> u32 {
    let wanted = format!("tine\0__monitor\0{}\0{project}:{name}\0", f.pool().display());
    let of_box =
        |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|l| l == wanted.as_bytes());
    let processes = names("/proc".as_ref());
    // the box's first process is a fork of its monitor and comes after it
    let found = processes.iter().filter_map(|p| p.parse().ok()).filter(of_box).min();
    found.unwrap_or_else(|| panic!("box {project}:{name} has no monitor"))
}

/// Kills a running box's monitor, and with it the box.
pub fn kill_monitor(f: &Fixture, project: &str, name: &str) {
    let pid = Pid::from_raw(monitor(f, project, name).cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}
