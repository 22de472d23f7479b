//! Pseudo-terminals.
//!
//! Knows nothing of who uses them.

use crate::error::{SysError, SysResult};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pty::OpenptFlags,
    termios::Winsize,
};
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

/// The two ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The end that stands for the user.
    pub master: OwnedFd,
    /// The end that the program has.
    pub slave: OwnedFd,
}

/// Opens a pseudo-terminal of the devpts file system whose `ptmx` is at `multiplexer`.
///
/// # Errors
/// The kernel's.
pub fn open_pty(multiplexer: &Path, rows: u16, columns: u16) -> SysResult<Pty> {
    let err = |e: Errno| SysError::new("open terminal at", multiplexer.display(), e);
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open(multiplexer, flags, Mode::empty()).map_err(err)?;
    rustix::pty::unlockpt(&master).map_err(err)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(err)?;
    set_size(std::os::fd::AsFd::as_fd(&master), rows, columns)?;
    Ok(Pty { master, slave })
}

/// Tells a terminal its size; its foreground programs get SIGWINCH.
///
/// # Errors
/// ENOTTY when it is none.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> SysResult<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).map_err(|e| SysError::new("resize", "terminal", e))
}

/// Makes a terminal the controlling one of the process, which must lead a session without one.
///
/// # Errors
/// The kernel's.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> SysResult<()> {
    rustix::process::ioctl_tiocsctty(terminal).map_err(|e| SysError::new("take", "controlling terminal", e))
}

/// True when the descriptor is the master end of a pseudo-terminal.
#[must_use]
pub fn is_master(fd: BorrowedFd<'_>) -> bool {
    rustix::pty::ptsname(fd, Vec::new()).is_ok()
}
