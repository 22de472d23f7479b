//! Writing a file's data back, so that the next commit holds it.

use crate::{SysError, SysResult, extents::each_extent};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Writes back a file's data so that the next commit of the file system makes it durable together with its name.
///
/// A commit takes the trees as they are and leaves out data still waiting in the page cache: without this, a power
/// cut after it could show the file empty. Data of up to about 2 KiB goes into the tree itself, where the commit
/// finds it, as soon as it is written back; that is checked, and costs a fifth of an `fdatasync`, which is what
/// any other file gets.
///
/// # Errors
/// The kernel's: `ENOSPC`, `EDQUOT`, `EIO`.
pub fn write_back(file: BorrowedFd<'_>) -> SysResult<()> {
    let steps =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: takes no pointers.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, steps) } < 0 {
        return Err(SysError::new("write back", file.as_raw_fd(), io::Error::last_os_error()));
    }
    let mut all_inline = true;
    if each_extent(file, |extent| all_inline &= extent.inline).is_ok() && all_inline {
        return Ok(());
    }
    rustix::fs::fdatasync(file).map_err(|e| SysError::new("write back", file.as_raw_fd(), e))
}

/// Begins to write back what of a file's data waits in the page cache, and waits for nothing; the data stays there too.
/// A later sync has less to do. Only a hint, so nothing comes of a failure (sync_file_range(2)).
pub fn begin_write_back(file: BorrowedFd<'_>) {
    // SAFETY: takes no pointers.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
