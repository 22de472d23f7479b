//! btrfs by its ioctls: subvolumes, snapshots, commits, the send stream, what lies nested in a subvolume.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/btrfs.h` and `btrfs_tree.h`. Every
//! function works on descriptors that were opened for reading (not `O_PATH`). Decides nothing: no retries, no
//! policy, no paths of its own.

mod inodes;
mod nested;
mod quota;
mod search;
mod write_back;

pub use inodes::{Inode, inodes, open_inode};
pub use nested::{NestedSubvolume, delete_subvolume_tree, nested_subvolumes};
pub use quota::{QuotaGroup, enable_simple_quotas, limit_referenced, quota_group, simple_quotas_enabled};
pub use write_back::{begin_write_back, write_back};

use crate::{SysError, SysResult};
use std::{
    fmt, io, mem,
    os::fd::{AsRawFd, BorrowedFd},
};

/// The inode number of every subvolume's own directory.
pub const SUBVOLUME_INODE: u64 = 256;

const MAGIC: u64 = 0x94;
const SUBVOL_RDONLY: u64 = 1 << 1;
const SEND_NO_FILE_DATA: u64 = 1;
const NAME_MAX_V1: usize = 4087;
const NAME_MAX_V2: usize = 4039;

/// The number of an ioctl, as `_IOC` in `include/uapi/asm-generic/ioctl.h` makes it.
const fn request(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | MAGIC << 8 | number
}
const WRITE: u64 = 1;
const READ: u64 = 2;

const SNAP_DESTROY: u64 = request(WRITE, 15, mem::size_of::<VolArgs>());
const WAIT_SYNC: u64 = request(WRITE, 22, 8);
const SNAP_CREATE_V2: u64 = request(WRITE, 23, mem::size_of::<VolArgsV2>());
const SUBVOL_CREATE_V2: u64 = request(WRITE, 24, mem::size_of::<VolArgsV2>());
const START_SYNC: u64 = request(READ, 24, 8);
const SUBVOL_GETFLAGS: u64 = request(READ, 25, 8);
const SUBVOL_SETFLAGS: u64 = request(WRITE, 26, 8);
const FS_INFO: u64 = request(READ, 31, mem::size_of::<FsInfoArgs>());
const SEND: u64 = request(WRITE, 38, mem::size_of::<SendArgs>());
const GET_SUBVOL_INFO: u64 = request(READ, 60, mem::size_of::<SubvolInfoArgs>());

#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; NAME_MAX_V1 + 1],
}

#[repr(C)]
struct VolArgsV2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_MAX_V2 + 1],
}

#[repr(C)]
struct SendArgs {
    send_fd: i64,
    clone_sources_count: u64,
    clone_sources: u64,
    parent_root: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

#[repr(C)]
#[derive(Default)]
struct TimeSpec {
    seconds: u64,
    nanoseconds: u32,
}

#[repr(C)]
struct SubvolInfoArgs {
    treeid: u64,
    name: [u8; 256],
    parent_id: u64,
    dirid: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    transids: [u64; 4],
    times: [TimeSpec; 4],
    reserved: [u64; 8],
}

#[repr(C)]
struct FsInfoArgs {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// A UUID as btrfs gives it to a file system or subvolume; prints as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// What btrfs knows about a subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubvolumeInfo {
    /// Its tree's number, as `send` names a parent.
    pub id: u64,
    /// The tree that holds its directory entry; 0 for the top level.
    pub parent_id: u64,
    /// The inode of the directory that holds it, in the tree `parent_id`.
    pub dir_id: u64,
    /// The transaction that changed it last.
    pub generation: u64,
    /// The transaction that last changed a file in it. Neither reading it, taking snapshots of it nor making it
    /// read-only or writable counts.
    pub changed_in: u64,
    /// The transaction that made it; what was changed in it afterwards has a later one.
    pub made_in: u64,
    /// Whether nothing in it can be changed.
    pub read_only: bool,
    /// Its own UUID, new with every subvolume and snapshot.
    pub uuid: Uuid,
    /// The UUID of what it is a snapshot of.
    pub parent_uuid: Option<Uuid>,
}

/// Runs an ioctl whose argument is `arg`, a structure of exactly the size that `number` tells.
fn call<T>(
    fd: BorrowedFd<'_>,
    number: u64,
    arg: &mut T,
    operation: &'static str,
    object: &dyn fmt::Display,
) -> SysResult<()> {
    debug_assert!(mem::size_of::<T>() as u64 == (number >> 16) & 0x3fff);
    // SAFETY: the kernel reads and writes at most the size encoded in the number, which is that of T, and every
    // T of this module is plain data that any bytes are valid for.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number as libc::Ioctl, std::ptr::from_mut(arg)) };
    if result < 0 { Err(SysError::new(operation, object, io::Error::last_os_error())) } else { Ok(()) }
}

/// A plain-data structure of zeros.
///
/// Only for the `repr(C)` structures of this module, which consist of integers and arrays of them.
fn zeroed<T>() -> T {
    // SAFETY: see above; all-zero bytes are a valid value of integers.
    unsafe { mem::zeroed() }
}

fn put_name(field: &mut [u8], name: &[u8], operation: &'static str) -> SysResult<()> {
    let shown = String::from_utf8_lossy(name);
    // the last byte stays the closing NUL
    if name.is_empty() || name.len() > 255 || name.contains(&0) || name.contains(&b'/') {
        return Err(SysError::new(operation, shown, io::Error::from_raw_os_error(libc::EINVAL)));
    }
    field[..name.len()].copy_from_slice(name);
    Ok(())
}

/// Makes an empty writable subvolume `name` in the directory `dir`.
///
/// # Errors
/// The kernel's, `EEXIST` among them.
pub fn create_subvolume(dir: BorrowedFd<'_>, name: &str) -> SysResult<()> {
    let mut args: VolArgsV2 = zeroed();
    put_name(&mut args.name, name.as_bytes(), "create subvolume")?;
    call(dir, SUBVOL_CREATE_V2, &mut args, "create subvolume", &name)
}

/// Makes `name` in the directory `dir` a snapshot of the subvolume `source`. Commits a transaction, so that the
/// snapshot and everything that went before it in the same file system's trees is durable on return.
///
/// # Errors
/// The kernel's: `EEXIST`, `EXDEV` across file systems, `EINVAL` when `source` is not a subvolume.
pub fn snapshot(source: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &str, read_only: bool) -> SysResult<()> {
    let mut args: VolArgsV2 = zeroed();
    put_name(&mut args.name, name.as_bytes(), "create snapshot")?;
    args.fd = i64::from(source.as_raw_fd());
    args.flags = if read_only { SUBVOL_RDONLY } else { 0 };
    call(dir, SNAP_CREATE_V2, &mut args, "create snapshot", &name)
}

/// Deletes the subvolume `name` in the directory `dir`; its space comes back in the background.
///
/// # Errors
/// The kernel's: `ENOTEMPTY` when another subvolume is nested in it, `EINVAL` when it is not a subvolume.
pub fn delete_subvolume(dir: BorrowedFd<'_>, name: &str) -> SysResult<()> {
    delete_by_bytes(dir, name.as_bytes())
}

fn delete_by_bytes(dir: BorrowedFd<'_>, name: &[u8]) -> SysResult<()> {
    let mut args: VolArgs = zeroed();
    put_name(&mut args.name, name, "delete subvolume")?;
    call(dir, SNAP_DESTROY, &mut args, "delete subvolume", &String::from_utf8_lossy(name))
}

/// What btrfs knows about the subvolume that `fd` lies in.
///
/// # Errors
/// The kernel's: `ENOTTY` when this is not btrfs.
pub fn subvolume_info(fd: BorrowedFd<'_>) -> SysResult<SubvolumeInfo> {
    let mut args: SubvolInfoArgs = zeroed();
    call(fd, GET_SUBVOL_INFO, &mut args, "read subvolume", &fd.as_raw_fd())?;
    Ok(SubvolumeInfo {
        id: args.treeid,
        parent_id: args.parent_id,
        dir_id: args.dirid,
        generation: args.generation,
        changed_in: args.transids[0],
        made_in: args.transids[1],
        // the flags of the root item (BTRFS_ROOT_SUBVOL_RDONLY), not those of the flags ioctl
        read_only: args.flags & 1 != 0,
        uuid: Uuid(args.uuid),
        parent_uuid: Some(Uuid(args.parent_uuid)).filter(|u| u.0 != [0; 16]),
    })
}

/// True when `fd` is a subvolume's own directory on btrfs.
///
/// # Errors
/// Those of `fstat` and `fstatfs`.
pub fn is_subvolume(fd: BorrowedFd<'_>) -> SysResult<bool> {
    let failed = |e: rustix::io::Errno| SysError::new("stat", fd.as_raw_fd(), e);
    if rustix::fs::fstat(fd).map_err(failed)?.st_ino != SUBVOLUME_INODE {
        return Ok(false);
    }
    is_btrfs(fd)
}

/// True when `fd` lies on btrfs.
///
/// # Errors
/// Those of `fstatfs`.
pub fn is_btrfs(fd: BorrowedFd<'_>) -> SysResult<bool> {
    let stats = rustix::fs::fstatfs(fd).map_err(|e| SysError::new("statfs", fd.as_raw_fd(), e))?;
    Ok(stats.f_type == libc::BTRFS_SUPER_MAGIC as _)
}

/// True when nothing in the subvolume `fd` can be changed.
///
/// # Errors
/// The kernel's.
pub fn is_read_only(fd: BorrowedFd<'_>) -> SysResult<bool> {
    let mut flags = 0u64;
    call(fd, SUBVOL_GETFLAGS, &mut flags, "read subvolume flags", &fd.as_raw_fd())?;
    Ok(flags & SUBVOL_RDONLY != 0)
}

/// Makes the subvolume `fd` unchangeable, or changeable again.
///
/// # Errors
/// The kernel's: `EINVAL` when `fd` is not the subvolume's own directory.
pub fn set_read_only(fd: BorrowedFd<'_>, read_only: bool) -> SysResult<()> {
    let mut flags = if read_only { SUBVOL_RDONLY } else { 0 };
    call(fd, SUBVOL_SETFLAGS, &mut flags, "set subvolume flags", &fd.as_raw_fd())
}

/// Begins a commit of the running transaction of the file system `fd` lies on and returns its number. May take up to half a minute;
/// [`crate::commit::commit`] does not. File data that no one has written back yet is not part of it.
///
/// # Errors
/// The kernel's: `ENOSPC`, `EROFS`, `EIO`.
pub fn start_sync(fd: BorrowedFd<'_>) -> SysResult<u64> {
    let mut transaction = 0u64;
    call(fd, START_SYNC, &mut transaction, "start commit", &fd.as_raw_fd())?;
    Ok(transaction)
}

/// Waits until a transaction is on disk.
///
/// # Errors
/// The kernel's.
pub fn wait_sync(fd: BorrowedFd<'_>, mut transaction: u64) -> SysResult<()> {
    call(fd, WAIT_SYNC, &mut transaction, "wait for commit", &fd.as_raw_fd())
}

/// Writes the send stream of the read-only subvolume `subvol` into `out`, without file data; as a difference to
/// the read-only subvolume number `parent_id`, or in full when that is 0. Blocks until it is written: a pipe must
/// be read by another thread.
///
/// # Errors
/// The kernel's: `EPIPE` when the reader left, `EROFS`-like refusals when either side is writable.
pub fn send_metadata(subvol: BorrowedFd<'_>, out: BorrowedFd<'_>, parent_id: u64) -> SysResult<()> {
    let mut args: SendArgs = zeroed();
    args.send_fd = i64::from(out.as_raw_fd());
    args.parent_root = parent_id;
    args.flags = SEND_NO_FILE_DATA;
    call(subvol, SEND, &mut args, "send subvolume", &subvol.as_raw_fd())
}

/// The UUID of the file system `fd` lies on.
///
/// # Errors
/// The kernel's.
pub fn filesystem_uuid(fd: BorrowedFd<'_>) -> SysResult<Uuid> {
    let mut args: FsInfoArgs = zeroed();
    call(fd, FS_INFO, &mut args, "read file system", &fd.as_raw_fd())?;
    Ok(Uuid(args.fsid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(mem::size_of::<VolArgs>(), 4096);
        assert_eq!(mem::size_of::<VolArgsV2>(), 4096);
        assert_eq!(mem::size_of::<SendArgs>(), 72);
        assert_eq!(mem::size_of::<SubvolInfoArgs>(), 504);
        assert_eq!(mem::size_of::<FsInfoArgs>(), 1024);
    }

    #[test]
    fn names_that_are_no_single_component_are_refused() {
        let mut field = [0u8; 4088];
        for bad in [&b""[..], b"a/b", b"a\0b", &[b'a'; 256]] {
            assert_eq!(put_name(&mut field, bad, "x").unwrap_err().errno(), libc::EINVAL);
        }
        assert!(put_name(&mut field, &[b'a'; 255], "x").is_ok());
    }
}
