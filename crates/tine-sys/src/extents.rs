//! Where a file's data lies (FIEMAP, Documentation/filesystems/fiemap.rst; structures of `linux/fiemap.h`).

use crate::{SysError, SysResult};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// `_IOWR('f', 11, struct fiemap)`, whose size does not count the extents.
const FS_IOC_FIEMAP: u64 = 0xc020_660b;
const BATCH: usize = 128;

const FLAG_LAST: u32 = 0x1;
/// Not a place on disk: unknown, delayed, or inside metadata.
const FLAGS_NO_PLACE: u32 = 0x2 | 0x4 | 0x200;
const FLAG_INLINE: u32 = 0x200;
const FLAG_UNWRITTEN: u32 = 0x800;
const FLAG_SHARED: u32 = 0x2000;
/// Flags that say nothing against comparing: last, unwritten, merged, shared.
const FLAGS_HARMLESS: u32 = FLAG_LAST | FLAG_UNWRITTEN | 0x1000 | FLAG_SHARED;

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

/// A stretch of a file that lies in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Where it begins on the file system's own address line; none when it has no place of its own (inline in
    /// metadata, or not written back yet).
    pub place: Option<u64>,
    /// How many bytes long it is.
    pub length: u64,
    /// Whether other files or snapshots point to it too.
    pub shared: bool,
    /// Whether it lies inside metadata.
    pub inline: bool,
    /// Whether it is allocated but reads as zeros.
    pub unwritten: bool,
    /// Whether equal places prove equal data: false for compressed, inline and not yet written data.
    pub comparable: bool,
    /// Whether no other follows in the file.
    pub last: bool,
}

/// Up to 128 extents of a file from offset `start` on; fewer than there are unless one of them is the last.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has none; the kernel's others.
pub fn extents_from(file: BorrowedFd<'_>, start: u64) -> SysResult<Vec<Extent>> {
    let request = map(file, start)?;
    Ok(request.extents.iter().take(request.mapped as usize).map(convert).collect())
}

/// Calls `each` with every extent of `file`, in order.
///
/// # Errors
/// As [`extents_from`].
pub fn each_extent(file: BorrowedFd<'_>, mut each: impl FnMut(Extent)) -> SysResult<()> {
    let mut start = 0;
    loop {
        let found = extents_from(file, start)?;
        found.iter().copied().for_each(&mut each);
        match found.last() {
            Some(last) if !last.last => start = last.offset.saturating_add(last.length.max(1)),
            _ => return Ok(()),
        }
    }
}

fn map(file: BorrowedFd<'_>, start: u64) -> SysResult<Box<Request>> {
    let empty =
        RawExtent { logical: 0, physical: 0, length: 0, reserved64: [0; 2], flags: 0, reserved: [0; 3] };
    let mut request = Box::new(Request {
        start,
        length: u64::MAX - start,
        flags: 0,
        mapped: 0,
        count: BATCH as u32,
        reserved: 0,
        extents: [empty; BATCH],
    });
    // SAFETY: the kernel writes the header and at most `count` extents, which is the array's length; any bytes are
    // valid for these integers.
    let result = unsafe {
        libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as libc::Ioctl, std::ptr::from_mut(request.as_mut()))
    };
    if result < 0 {
        return Err(SysError::new("map extents of", "a file", io::Error::last_os_error()));
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
        unwritten: raw.flags & FLAG_UNWRITTEN != 0,
        comparable: raw.flags & !FLAGS_HARMLESS == 0,
        last: raw.flags & FLAG_LAST != 0,
    }
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
