//! Files that share their data (ioctl_ficlonerange(2)): a copy that costs no space until one side is written.
//!
//! Both files must lie on the same file system. Copies no bytes: where data cannot be shared, it fails.

use crate::{SysError, SysResult};
use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// `FICLONERANGE` of `include/uapi/linux/fs.h`.
const FICLONERANGE: u64 = 0x4020_940d;

/// `struct file_clone_range`.
#[repr(C)]
struct CloneRange {
    source: i64,
    source_offset: u64,
    length: u64,
    target_offset: u64,
}

/// Makes `target`, open for writing, hold what `source` holds, whose length it gets if it is shorter. The source may
/// lie in a read-only subvolume, or in a deleted one that it keeps alive.
///
/// # Errors
/// The kernel's: `EXDEV` across file systems, `EOPNOTSUPP` where they share nothing, `ENOSPC`.
pub fn clone_file(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> SysResult<()> {
    rustix::fs::ioctl_ficlone(target.as_fd(), source.as_fd())
        .map_err(|e| SysError::new("clone file", source.as_raw_fd(), e))
}

/// Makes `length` bytes of `target` from `target_offset` on share those of `source` from `source_offset` on. All three
/// are whole blocks, except that a range may end where the source does; a length of 0 means up to there.
///
/// # Errors
/// As [`clone_file`]; `EINVAL` for what is no whole block.
pub fn clone_range(
    source: BorrowedFd<'_>,
    source_offset: u64,
    length: u64,
    target: BorrowedFd<'_>,
    target_offset: u64,
) -> SysResult<()> {
    let range = CloneRange { source: i64::from(source.as_raw_fd()), source_offset, length, target_offset };
    // SAFETY: the kernel reads a structure of exactly this layout, which lives during the call.
    let result =
        unsafe { libc::ioctl(target.as_raw_fd(), FICLONERANGE as libc::Ioctl, std::ptr::from_ref(&range)) };
    if result < 0 {
        return Err(SysError::new("clone range of", source.as_raw_fd(), io::Error::last_os_error()));
    }
    Ok(())
}

const _: () = assert!(mem::size_of::<CloneRange>() == 32);
