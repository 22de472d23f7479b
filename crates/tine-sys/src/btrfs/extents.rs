//! Where a file's data lies (FIEMAP), and writing it back so that the next commit holds it.

use crate::{SysError, SysResult};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

const FIEMAP: u64 = 0xc020_660b;
const BATCH: usize = 128;

/// The last extent of the file.
const FLAG_LAST: u32 = 0x1;
/// Not a place on disk: unknown, delayed, or inside metadata.
const FLAGS_NO_PLACE: u32 = 0x2 | 0x4 | 0x200;
const FLAG_INLINE: u32 = 0x200;
const FLAG_SHARED: u32 = 0x2000;

#[repr(C)]
#[derive(Clone, Copy)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; BATCH],
}

/// A run of a file's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// Where it begins on the file system's own address line; none when it has no place of its own (inline in
    /// metadata, or not written back yet).
    pub place: Option<u64>,
    /// How long it is.
    pub length: u64,
    /// Whether other files or snapshots point to it too.
    pub shared: bool,
    /// Whether it lies inside metadata.
    pub inline: bool,
}

/// Calls `each` with every extent of `file`, in order (Documentation/filesystems/fiemap.rst).
///
/// # Errors
/// The kernel's.
pub fn extents(file: BorrowedFd<'_>, mut each: impl FnMut(Extent)) -> SysResult<()> {
    let mut start = 0;
    loop {
        let request = map(file, start)?;
        let found = &request.extents[..(request.mapped as usize).min(BATCH)];
        found.iter().for_each(|raw| each(convert(raw)));
        match found.last() {
            Some(last) if last.flags & FLAG_LAST == 0 => {
                start = last.logical.saturating_add(last.length.max(1))
            }
            _ => return Ok(()),
        }
    }
}

fn map(file: BorrowedFd<'_>, start: u64) -> SysResult<Request> {
    let empty =
        RawExtent { logical: 0, physical: 0, length: 0, reserved64: [0; 2], flags: 0, reserved: [0; 3] };
    let mut request = Request {
        start,
        length: u64::MAX - start,
        flags: 0,
        mapped: 0,
        count: BATCH as u32,
        reserved: 0,
        extents: [empty; BATCH],
    };
    // SAFETY: the kernel writes the header and at most `count` extents, which is the array's length; any bytes are
    // valid for these integers.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as libc::Ioctl, std::ptr::from_mut(&mut request)) };
    if result < 0 {
        return Err(SysError::new("map extents", file.as_raw_fd(), io::Error::last_os_error()));
    }
    Ok(request)
}

fn convert(raw: &RawExtent) -> Extent {
    Extent {
        offset: raw.logical,
        place: (raw.flags & FLAGS_NO_PLACE == 0).then_some(raw.physical),
        length: raw.length,
        shared: raw.flags & FLAG_SHARED != 0,
        inline: raw.flags & FLAG_INLINE != 0,
    }
}

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
    if extents(file, |extent| all_inline &= extent.inline).is_ok() && all_inline {
        return Ok(());
    }
    rustix::fs::fdatasync(file).map_err(|e| SysError::new("write back", file.as_raw_fd(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(std::mem::size_of::<RawExtent>(), 56);
        assert_eq!(std::mem::offset_of!(Request, extents), 32);
    }
}
