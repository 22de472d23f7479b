//! Stopping the programs and holding the disk still, and undoing both.
//!
//! What is done is remembered here and lives on in a clone, which is thawed by its own host.

use crate::error::{AgentError, AgentResult};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};
use tine_sys::guest;

/// How long the programs may take to stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be held still.
#[derive(Debug)]
pub(super) struct Freezer {
    /// A directory of the disk; none when the disk is not this machine's own.
    disk: Option<OwnedFd>,
    /// The programs' cgroup (version 2).
    group: Option<OwnedFd>,
    disk_is_still: bool,
    programs_are_still: bool,
}

impl Freezer {
    pub(super) fn new(disk: Option<&Path>, group: Option<&Path>) -> AgentResult<Self> {
        let open = |path: &Path| {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .map_err(|e| AgentError::io("open", path.display(), e))
        };
        Ok(Self {
            disk: disk.map(open).transpose()?,
            group: group.map(open).transpose()?,
            disk_is_still: false,
            programs_are_still: false,
        })
    }

    pub(super) fn is_anything_still(&self) -> bool {
        self.disk_is_still || self.programs_are_still
    }

    /// Holds the disk still, the programs first if they are to be too. When that fails everything goes on.
    pub(super) fn hold(&mut self, programs: bool) -> AgentResult<()> {
        let held = self.hold_programs(programs).and_then(|()| self.hold_disk());
        if held.is_err() {
            let _ = self.release();
        }
        held
    }

    fn hold_programs(&mut self, wanted: bool) -> AgentResult<()> {
        if !wanted || self.programs_are_still {
            return Ok(());
        }
        if self.group.is_none() {
            // An ordinary process has nothing to hold still, and a machine whose kernel cannot says so.
            let unable = AgentError::io("freeze", "programs", rustix::io::Errno::OPNOTSUPP);
            return if self.disk.is_some() { Err(unable) } else { Ok(()) };
        }
        self.programs_are_still = true;
        self.write_group("1")?;
        self.wait_for_programs()
    }

    fn hold_disk(&mut self) -> AgentResult<()> {
        let Some(disk) = self.disk.as_ref().filter(|_| !self.disk_is_still) else { return Ok(()) };
        // Freezing flushes too, but keeps every writer waiting meanwhile.
        rustix::fs::syncfs(disk).map_err(|e| AgentError::io("sync", "disk", e))?;
        guest::freeze_filesystem(disk.as_fd())?;
        self.disk_is_still = true;
        Ok(())
    }

    /// Lets everything go on. Does nothing the second time.
    pub(super) fn release(&mut self) -> AgentResult<()> {
        if let Some(disk) = self.disk.as_ref().filter(|_| self.disk_is_still) {
            match guest::thaw_filesystem(disk.as_fd()) {
                // A program of the guest may have thawed it.
                Err(e) if e.source.kind() != std::io::ErrorKind::InvalidInput => return Err(e.into()),
                _ => self.disk_is_still = false,
            }
        }
        if self.programs_are_still {
            self.write_group("0")?;
            self.programs_are_still = false;
        }
        Ok(())
    }

    fn write_group(&self, value: &str) -> AgentResult<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let err = |e| AgentError::io("write", "cgroup.freeze", e);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(group, "cgroup.freeze", flags, Mode::empty()).map_err(err)?;
        rustix::io::write(&file, value.as_bytes()).map(drop).map_err(err)
    }

    /// The kernel raises an exceptional condition on `cgroup.events` when it changes.
    fn wait_for_programs(&self) -> AgentResult<()> {
        let Some(group) = &self.group else { return Ok(()) };
        let err = |e| AgentError::io("read", "cgroup.events", e);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let events = rustix::fs::openat(group, "cgroup.events", flags, Mode::empty()).map_err(err)?;
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 256];
        loop {
            let length = rustix::io::pread(&events, &mut buffer, 0).map_err(err)?;
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if text.lines().any(|line| line == "frozen 1") {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(err(rustix::io::Errno::TIMEDOUT));
            }
            let timeout =
                Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
            let _ = rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
        }
    }
}
