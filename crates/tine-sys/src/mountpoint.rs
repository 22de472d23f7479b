//! Mounts: mounting btrfs, unmounting, what is mounted where, how full it is.
//!
//! Reads `/proc/self/mountinfo`, so it sees the mounts of the calling process's own namespace.

use crate::{SysError, SysResult};
use rustix::mount::{MountFlags, UnmountFlags};
use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The device number, `major:minor`.
    pub device: String,
    /// The directory of the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// `btrfs`, `ext4`, …
    pub fs_type: String,
    /// The device or word it was mounted from.
    pub source: PathBuf,
}

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Not in use.
    pub free: u64,
    /// That an ordinary writer can still get.
    pub available: u64,
}

/// Mounts the btrfs on `device` at `target`, without access times.
///
/// # Errors
/// The kernel's: `EBUSY` when it is mounted there already, `EINVAL` when it is no btrfs.
pub fn mount_btrfs(device: &Path, target: &Path) -> SysResult<()> {
    rustix::mount::mount(device, target, "btrfs", MountFlags::NOATIME, None)
        .map_err(|e| SysError::new("mount", target.display(), e))
}

/// Unmounts what is mounted at `target`.
///
/// # Errors
/// The kernel's: `EBUSY` when something is in use.
pub fn unmount(target: &Path) -> SysResult<()> {
    unmount_with(target, UnmountFlags::NOFOLLOW)
}

/// Takes what is mounted at `target` out of sight at once; it goes when its last user does.
///
/// # Errors
/// The kernel's.
pub fn unmount_lazily(target: &Path) -> SysResult<()> {
    unmount_with(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
}

fn unmount_with(target: &Path, flags: UnmountFlags) -> SysResult<()> {
    rustix::mount::unmount(target, flags).map_err(|e| SysError::new("unmount", target.display(), e))
}

/// Every mount, in the order they were made.
///
/// # Errors
/// The kernel's, when `/proc` is not there.
pub fn mounts() -> SysResult<Vec<MountEntry>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read(path).map_err(|e| SysError::new("read", path, e))?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_line).collect())
}

/// What is mounted at exactly `path` (an absolute path without links), the topmost if there are several.
///
/// # Errors
/// As for [`mounts`].
pub fn mounted_at(path: &Path) -> SysResult<Option<MountEntry>> {
    Ok(mounts()?.into_iter().rev().find(|m| m.mount_point == path))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let device = fields.nth(2)?;
    let (root, mount_point) = (fields.next()?, fields.next()?);
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    Some(MountEntry {
        device: String::from_utf8_lossy(device).into_owned(),
        root: unescape(root),
        mount_point: unescape(mount_point),
        fs_type: String::from_utf8_lossy(rest.next()?).into_owned(),
        source: unescape(rest.next()?),
    })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| after.first_chunk::<3>().and_then(octal)).flatten();
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    digits
        .iter()
        .try_fold(0u32, |n, d| d.is_ascii_digit().then(|| n * 8 + u32::from(d - b'0')))?
        .try_into()
        .ok()
}

/// How full the file system is that `path` lies on.
///
/// # Errors
/// Those of `statfs`.
pub fn space(path: &Path) -> SysResult<Space> {
    let s = rustix::fs::statfs(path).map_err(|e| SysError::new("statfs", path.display(), e))?;
    let bytes = |blocks: u64| blocks.saturating_mul(u64::try_from(s.f_bsize).unwrap_or(0));
    Ok(Space { total: bytes(s.f_blocks), free: bytes(s.f_bfree), available: bytes(s.f_bavail) })
}

/// True when `path` lies on btrfs.
///
/// # Errors
/// Those of `statfs`.
pub fn is_on_btrfs(path: &Path) -> SysResult<bool> {
    let stats = rustix::fs::statfs(path).map_err(|e| SysError::new("statfs", path.display(), e))?;
    Ok(stats.f_type == libc::BTRFS_SUPER_MAGIC as _)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_read() {
        let line = br"36 35 98:0 /a\040b /mnt\134x\011y rw,noatime master:1 shared:2 - btrfs /dev/loop0 rw";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.root, Path::new("/a b"));
        assert_eq!(entry.mount_point, Path::new("/mnt\\x\ty"));
        assert_eq!(
            (&*entry.fs_type, entry.source.as_path(), &*entry.device),
            ("btrfs", Path::new("/dev/loop0"), "98:0")
        );
        assert_eq!(unescape(br"\9\40"), Path::new(r"\9\40"));
        assert!(parse_line(b"").is_none() && parse_line(b"1 2 3:4 / /x rw").is_none());
    }

    #[test]
    fn the_root_is_mounted_and_has_space() {
        assert!(mounted_at(Path::new("/")).unwrap().is_some());
        let space = space(Path::new("/")).unwrap();
        assert!(space.total >= space.free && space.total > 0);
    }
}
