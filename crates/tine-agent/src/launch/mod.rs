//! Starting a program in a box, the same for both kinds of box: called by the box's first process, inside it.
//!
//! Decides nothing about who may start what, and knows no protocol.

mod child;
mod program;
mod users;

pub use child::ChildStreams;
pub use program::Program;

use rustix::pipe::{PipeFlags, pipe_with};
use std::{os::fd::OwnedFd, path::Path};
use tine_model::{EnvVar, ExecRequest, WindowSize};
use tine_sys::{SysError, SysResult, process, terminal};

/// A program to start.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// What the user asked for.
    pub request: &'a ExecRequest,
    /// The box's environment.
    pub env: &'a [EnvVar],
    /// Its standard streams.
    pub streams: &'a ChildStreams,
}

/// What the new process does for whoever starts it. Both are called in the new process.
#[derive(Clone, Copy)]
pub struct Hooks<'a> {
    /// Called first of all, with every privilege; in words why it failed.
    pub enter: &'a dyn Fn() -> Result<(), String>,
    /// Told why nothing runs, when that is not the program's own fault.
    pub refuse: &'a dyn Fn(Refusal),
}

/// Why nothing runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The user or group is unknown in the box.
    NoSuchUser(String),
    /// Anything else.
    Other(String),
}

/// Forks the program. Returns when the new process leads its session and has its terminal, so that what is typed or
/// sent at once reaches it. One that cannot be executed says so on its standard error and exits with 126 or 127.
///
/// # Errors
/// The kernel's; EBUSY when the calling process has several threads.
pub fn start(launch: &Launch<'_>, hooks: &Hooks<'_>) -> SysResult<Program> {
    let (settled, settling) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| SysError::new("make", "pipe", e))?;
    let mut settling = Some(settling);
    let pid = process::fork_child(|| child::become_program(launch, hooks, &mut || drop(settling.take())))?;
    drop(settling);
    // Only this program's code holds the other end, and its death closes it too.
    let _ = rustix::io::read(&settled, &mut [0; 1]);
    Ok(Program::new(pid, launch.request, matches!(launch.streams, ChildStreams::Terminal(_))))
}

/// A terminal of the box's own: the program's streams, and the master.
///
/// # Errors
/// The kernel's.
pub fn open_terminal(size: WindowSize) -> SysResult<(ChildStreams, OwnedFd)> {
    let pty = terminal::open_pty(Path::new("/dev/pts/ptmx"), size.rows, size.columns)?;
    Ok((ChildStreams::Terminal(pty.slave), pty.master))
}
