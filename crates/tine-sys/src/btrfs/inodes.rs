//! The files of a subvolume by number: one pass over its tree instead of a walk over its directories.
//!
//! A pass sees every file once however many names it has, and neither depth nor names can hinder it. Numbers that
//! were not committed yet may be missing or old: callers commit first, or read a read-only subvolume.

use super::{
    search::{Key, Range, le32, le64, search},
    subvolume_info,
};
use crate::{SysError, SysResult};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const INODE_ITEM: u32 = 1;
const FIRST_OBJECT: u64 = 256;
const LAST_OBJECT: u64 = u64::MAX - 255;
/// `FILEID_BTRFS_WITHOUT_PARENT` of `include/linux/exportfs.h`.
const HANDLE_TYPE: i32 = 0x4d;

/// A file of any type, as its inode item tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// Its number in the subvolume.
    pub number: u64,
    /// The transaction that changed it last.
    pub changed_in: u64,
    /// Its length in bytes (a directory's says nothing about its content).
    pub size: u64,
    /// Bytes of extents it points to.
    pub allocated: u64,
    /// How many names it has.
    pub links: u32,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
}

impl Inode {
    /// True for a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// True for a symbolic link, whose size is its target's length.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFLNK
    }
}

/// Calls `each` with every file of the subvolume `fd` lies in that has a name. Subvolumes nested in it are not
/// entered. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's.
pub fn inodes(fd: BorrowedFd<'_>, mut each: impl FnMut(Inode)) -> SysResult<()> {
    let key = |object, kind, offset| Key { object, kind, offset };
    let tree = subvolume_info(fd)?.id;
    let range = Range { tree, min: key(FIRST_OBJECT, 0, 0), max: key(LAST_OBJECT, INODE_ITEM, u64::MAX) };
    search(fd, &range, |key, item| {
        if key.kind == INODE_ITEM
            && let Some(inode) = parse(key.object, item).filter(|i| i.links > 0)
        {
            each(inode);
        }
    })
}

/// `struct btrfs_inode_item`.
fn parse(number: u64, item: &[u8]) -> Option<Inode> {
    Some(Inode {
        number,
        changed_in: le64(item, 8)?,
        size: le64(item, 16)?,
        allocated: le64(item, 24)?,
        links: le32(item, 40)?,
        mode: le32(item, 52)?,
    })
}

#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    // the kernel's `struct btrfs_fid` is packed: two 64-bit numbers and a 32-bit one, here in pieces of 32 bits
    object: [u32; 2],
    root: [u32; 2],
    generation: u32,
}

/// Opens a directory or regular file for reading by the number of its subvolume and its own, however deep it lies
/// (open_by_handle_at(2)). `mount` is any directory of the same mount. Needs CAP_DAC_READ_SEARCH.
///
/// # Errors
/// The kernel's: `ESTALE` when there is no such file any more.
pub fn open_inode(mount: BorrowedFd<'_>, subvolume: u64, inode: u64) -> SysResult<OwnedFd> {
    let halves = |n: u64| [n as u32, (n >> 32) as u32];
    // a generation of 0 is not compared by the kernel
    let mut handle = FileHandle {
        bytes: 20,
        kind: HANDLE_TYPE,
        object: halves(inode),
        root: halves(subvolume),
        generation: 0,
    };
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOATIME;
    // SAFETY: the handle is as long as its first field says, and lives during the call.
    let fd =
        unsafe { libc::open_by_handle_at(mount.as_raw_fd(), std::ptr::from_mut(&mut handle).cast(), flags) };
    if fd < 0 {
        let object = format_args!("inode {inode} of subvolume {subvolume}").to_string();
        return Err(SysError::new("open", object, io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_the_kernels_size_and_a_short_item_is_no_inode() {
        assert_eq!(std::mem::size_of::<FileHandle>(), 28);
        assert_eq!(parse(257, &[0; 55]), None);
        let mut item = [0u8; 160];
        (item[16], item[40], item[53]) = (9, 2, 0x81);
        let inode = parse(257, &item).unwrap();
        assert!(inode.is_file() && !inode.is_symlink() && (inode.size, inode.links) == (9, 2));
    }
}
