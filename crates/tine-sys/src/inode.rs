//! All names of an inode, which `stat(2)` does not tell. Structures and numbers are those of the kernel's `btrfs.h`.

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

/// `_IOWR(0x94, 35, struct btrfs_ioctl_ino_path_args)`.
const BTRFS_IOC_INO_PATHS: u64 = 0xc038_9423;

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

const _: () = assert!(mem::size_of::<InoPathArgs>() == 56);
