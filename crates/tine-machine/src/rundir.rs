//! A box's run directory: its lock, its sockets and its mark of being paused.

use crate::error::{MachineError, MachineResult};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};
use tine_model::{Accel, BoxStatus};
use tine_sys::{lock, lock::OfdLock};

/// Locked by the monitor as long as anything of the box is there.
const LOCK: &str = "lock";
/// Exists while the box is frozen; means nothing when the lock is free.
const PAUSED: &str = "paused";
/// Exists beside it where the box was paused because its pool was full. Both are empty: a full pool has room for that.
const FULL: &str = "full";
/// Where the monitor listens.
pub(crate) const CONTROL_SOCKET: &str = "monitor.sock";
/// Where the box's init listens.
pub(crate) const INIT_SOCKET: &str = "init.sock";
/// Mounted onto `/etc/hostname`.
pub(crate) const HOSTNAME: &str = "hostname";
/// How the last run of a vm box ended, where that was not in order.
pub(crate) const ENDED: &str = "ended";
/// What runs the instructions of a running vm box.
pub(crate) const ACCEL: &str = "accel";
/// The box's address, where it has one.
pub(crate) const ADDRESS: &str = "address";

/// What the box whose run directory this is is doing. Asks nobody but the kernel.
///
/// # Errors
/// The kernel's.
pub fn status(run_dir: &Path) -> MachineResult<BoxStatus> {
    if !lock::is_locked(&run_dir.join(LOCK))? {
        return Ok(BoxStatus::Stopped);
    }
    let paused = rustix::fs::access(run_dir.join(PAUSED), rustix::fs::Access::EXISTS).is_ok();
    Ok(if paused { BoxStatus::Paused } else { BoxStatus::Running })
}

/// Whether the paused box whose run directory this is was paused because its pool was full.
pub(crate) fn is_full(run_dir: &Path) -> bool {
    rustix::fs::access(run_dir.join(FULL), rustix::fs::Access::EXISTS).is_ok()
}

/// The address of the running box whose run directory this is, where it has one. Means nothing for a stopped box.
///
/// # Errors
/// The kernel's.
pub fn address(run_dir: &Path) -> MachineResult<Option<Ipv4Addr>> {
    Ok(read_small(&run_dir.join(ADDRESS))?.and_then(|text| text.parse().ok()))
}

/// How the last run of the vm box whose run directory this is ended, where that was not in order.
///
/// # Errors
/// The kernel's.
pub fn last_end(run_dir: &Path) -> MachineResult<Option<String>> {
    read_small(&run_dir.join(ENDED))
}

/// What runs the instructions of the running vm box whose run directory this is. Means nothing for a stopped box.
///
/// # Errors
/// The kernel's.
pub fn accel(run_dir: &Path) -> MachineResult<Option<Accel>> {
    Ok(read_small(&run_dir.join(ACCEL))?.and_then(|text| text.parse().ok()))
}

fn read_small(path: &Path) -> MachineResult<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(MachineError::io("read", path.display(), e)),
    }
}

/// An open run directory.
#[derive(Debug)]
pub(crate) struct RunDir {
    fd: OwnedFd,
    path: std::path::PathBuf,
}

impl RunDir {
    pub(crate) fn open(path: &Path) -> MachineResult<Self> {
        let fd = open_dir(path)?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes the lock that means "running"; none when it is taken.
    pub(crate) fn lock(&self) -> MachineResult<Option<OfdLock>> {
        Ok(OfdLock::try_acquire(&self.path.join(LOCK))?)
    }

    pub(crate) fn is_locked(&self) -> MachineResult<bool> {
        Ok(lock::is_locked_at(self.fd(), Path::new(LOCK))?)
    }

    /// Leaves the marks of being paused because the pool is full.
    pub(crate) fn mark_full(&self) -> MachineResult<()> {
        self.write(FULL, b"").and_then(|()| self.mark_paused(true))
    }

    /// Leaves or removes the mark of being paused.
    pub(crate) fn mark_paused(&self, paused: bool) -> MachineResult<()> {
        if !paused {
            return self.remove(FULL).and_then(|()| self.remove(PAUSED));
        }
        self.write(PAUSED, b"")
    }

    /// Writes a small file anew.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> MachineResult<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644))
            .map_err(|e| MachineError::io("write", self.path.join(name).display(), e))?;
        std::io::Write::write_all(&mut std::fs::File::from(file), content)
            .map_err(|e| MachineError::io("write", self.path.join(name).display(), e))
    }

    /// Removes a file; nothing when it is not there.
    pub(crate) fn remove(&self, name: &str) -> MachineResult<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(MachineError::io("remove", self.path.join(name).display(), e)),
        }
    }

    /// Whether it lies elsewhere than where it was opened, which a box's does that was made in staging and then shown.
    pub(crate) fn was_moved(&self) -> bool {
        let exists = rustix::fs::Access::EXISTS;
        let gone = rustix::fs::access(&self.path, exists) == Err(rustix::io::Errno::NOENT);
        // what is removed loses its files first
        gone && rustix::fs::accessat(&self.fd, LOCK, exists, AtFlags::empty()).is_ok()
    }

    pub(crate) fn path_of(&self, name: &str) -> std::path::PathBuf {
        self.path.join(name)
    }
}

/// Opens a directory to work in.
pub(crate) fn open_dir(path: &Path) -> MachineResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| MachineError::io("open", path.display(), e))
}
