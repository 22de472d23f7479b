//! Groups and their control files, relative to directory descriptors.

use crate::error::{MachineError, MachineResult};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{BorrowedFd, OwnedFd},
};

/// The largest control file that is read.
const MAX_FILE: u64 = 4 << 20;

/// Makes a group; nothing when there is one.
pub(super) fn make_dir_at(dir: BorrowedFd<'_>, name: &str) -> MachineResult<()> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(MachineError::io("make cgroup", name, e)),
    }
}

/// Opens a group.
pub(super) fn open_at(dir: BorrowedFd<'_>, name: &str) -> MachineResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| MachineError::io("open cgroup", name, e))
}

/// Writes a control file with one call, as the kernel wants it.
pub(super) fn write_at(dir: BorrowedFd<'_>, file: &str, value: &str) -> MachineResult<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, file, flags, Mode::empty())
        .map_err(|e| MachineError::io("open cgroup file", file, e))?;
    File::from(fd)
        .write_all(value.as_bytes())
        .map_err(|e| MachineError::io("write cgroup file", format!("{file} ({value})"), e))
}

/// Reads a control file.
pub(super) fn read_at(dir: BorrowedFd<'_>, file: &str) -> MachineResult<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, file, flags, Mode::empty())
        .map_err(|e| MachineError::io("open cgroup file", file, e))?;
    let mut text = String::new();
    File::from(fd)
        .take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(|e| MachineError::io("read cgroup file", file, e))?;
    Ok(text)
}

/// True when the group or the file is not there, or no longer.
pub(super) fn is_missing(error: &MachineError) -> bool {
    failed_with(error, Errno::NOENT) || failed_with(error, Errno::NODEV)
}

/// True for this error of the kernel's.
pub(super) fn failed_with(error: &MachineError, errno: Errno) -> bool {
    matches!(error, MachineError::Sys(e) if e.errno() == errno.raw_os_error())
}
