//! What a file system knows of an inode beyond `stat(2)`: where its data lies, and all of its names.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/fiemap.h` and `btrfs.h`.

use crate::{SysError, SysResult};
use std::{
    ffi::OsString,
    io, mem,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
};

/// Stretch of a file that lies in one piece on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset in the file.
    pub logical: u64,
    /// Offset on the disk, in the file system's own numbering.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
    /// Whether it is allocated but reads as zeros.
    pub unwritten: bool,
    /// Whether equal fields prove equal data: false for compressed, inline and not yet written data.
    pub comparable: bool,
    /// Whether no other follows in the file.
    pub last: bool,
}

const EXTENTS: usize = 128;
const EXTENT_LAST: u32 = 0x1;
const EXTENT_UNWRITTEN: u32 = 0x800;
/// Flags that say nothing against comparing: last, unwritten, merged, shared.
const EXTENT_HARMLESS: u32 = EXTENT_LAST | EXTENT_UNWRITTEN | 0x1000 | 0x2000;

#[repr(C)]
#[derive(Clone, Copy)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; EXTENTS],
}

/// `_IOWR('f', 11, struct fiemap)`, whose size does not count the extents.
const FS_IOC_FIEMAP: u64 = 0xc020_660b;
/// `_IOWR(0x94, 35, struct btrfs_ioctl_ino_path_args)`.
const BTRFS_IOC_INO_PATHS: u64 = 0xc038_9423;

/// Up to 128 extents of a file from offset `start` on; fewer than there are unless one of them is the last.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has none; the others of `ioctl_fiemap`.
pub fn extents(file: BorrowedFd<'_>, start: u64) -> SysResult<Vec<Extent>> {
    let empty =
        FiemapExtent { logical: 0, physical: 0, length: 0, reserved64: [0; 2], flags: 0, reserved: [0; 3] };
    let mut map = Box::new(Fiemap {
        start,
        length: u64::MAX - start,
        flags: 0,
        mapped: 0,
        count: EXTENTS as u32,
        reserved: 0,
        extents: [empty; EXTENTS],
    });
    // SAFETY: the kernel writes the header and at most `count` extents, for which the structure has room; it is
    // plain data that any bytes are valid for.
    let result = unsafe {
        libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as libc::Ioctl, std::ptr::from_mut(map.as_mut()))
    };
    if result < 0 {
        return Err(SysError::new("map extents of", "a file", io::Error::last_os_error()));
    }
    Ok(map.extents.iter().take(map.mapped as usize).map(extent).collect())
}

fn extent(raw: &FiemapExtent) -> Extent {
    Extent {
        logical: raw.logical,
        physical: raw.physical,
        length: raw.length,
        unwritten: raw.flags & EXTENT_UNWRITTEN != 0,
        comparable: raw.flags & !EXTENT_HARMLESS == 0,
        last: raw.flags & EXTENT_LAST != 0,
    }
}

/// More than the kernel fills in one call.
const PATHS_BUFFER: usize = 8192;
/// `struct btrfs_data_container` without its values.
const CONTAINER_HEAD: usize = 16;

#[repr(C)]
struct InoPathArgs {
    inode: u64,
    size: u64,
    reserved: [u64; 4],
    paths: u64,
}

#[repr(C, align(8))]
struct Container([u8; PATHS_BUFFER]);

/// All names of inode `inode` in the btrfs subvolume that `root` lies on, relative to the subvolume's root; `None`
/// when it has more than the kernel tells at once (about 4 KiB of paths).
///
/// # Errors
/// `ENOENT` for an unknown inode, `EPERM` without `CAP_DAC_READ_SEARCH`, `ENOTTY` where it is no btrfs.
pub fn names_of_inode(root: BorrowedFd<'_>, inode: u64) -> SysResult<Option<Vec<PathBuf>>> {
    let mut container = Box::new(Container([0; PATHS_BUFFER]));
    let mut args = InoPathArgs {
        inode,
        size: PATHS_BUFFER as u64,
        reserved: [0; 4],
        paths: container.0.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel reads the arguments and writes at most `size` bytes to `paths`, which is the length of the
    // buffer that lives until after the call.
    let result = unsafe {
        libc::ioctl(root.as_raw_fd(), BTRFS_IOC_INO_PATHS as libc::Ioctl, std::ptr::from_mut(&mut args))
    };
    if result < 0 {
        return Err(SysError::new("find names of inode", inode, io::Error::last_os_error()));
    }
    Ok(paths(&container.0))
}

/// Reads a `struct btrfs_data_container`: counts, then offsets (from the first offset on) of closed strings.
fn paths(container: &[u8]) -> Option<Vec<PathBuf>> {
    let count = |at: usize| Some(u32::from_ne_bytes(container.get(at..at + 4)?.try_into().ok()?));
    let (missing_bytes, found, missed) = (count(4)?, count(8)?, count(12)?);
    if missing_bytes > 0 || missed > 0 {
        return None;
    }
    let values = container.get(CONTAINER_HEAD..)?;
    (0..found as usize)
        .map(|i| {
            let start = values.get(i * 8..i * 8 + 8)?.try_into().ok().map(u64::from_ne_bytes)?;
            let text = values.get(usize::try_from(start).ok()?..)?;
            let end = text.iter().position(|b| *b == 0)?;
            Some(PathBuf::from(OsString::from_vec(text.get(..end)?.to_vec())))
        })
        .collect()
}

const _: () = assert!(mem::size_of::<InoPathArgs>() == 56 && mem::size_of::<FiemapExtent>() == 56);
