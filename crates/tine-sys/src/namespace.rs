//! Mount namespaces and the attributes of mounts.
//!
//! Knows nothing of what is mounted for whom.

use crate::error::{SysError, SysResult};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// A mount namespace to come back to.
#[derive(Debug)]
pub struct MountNamespace(OwnedFd);

impl MountNamespace {
    /// The one the process is in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn current() -> SysResult<Self> {
        std::fs::File::open("/proc/self/ns/mnt")
            .map(|file| Self(file.into()))
            .map_err(|e| SysError::new("open", "/proc/self/ns/mnt", e))
    }

    /// Brings the (single-threaded) process back; its root and working directory become the namespace's root.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&self) -> SysResult<()> {
        nix::sched::setns(&self.0, nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(|e| SysError::new("enter", "mount namespace", e))
    }
}

/// Gives the (single-threaded) process a mount namespace of its own: what is mounted and unmounted in it from here
/// on concerns nobody else.
///
/// # Errors
/// The kernel's.
pub fn enter_private_mounts() -> SysResult<()> {
    let err = |e: io::Error| SysError::new("make", "mount namespace", e);
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|e| err(e.into()))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|e| err(e.into()))
}

/// Detaches the mount at `path` and everything below it from the process's mount namespace; what is open there stays
/// usable. Nothing when nothing is mounted there.
///
/// # Errors
/// The kernel's.
pub fn detach_mount(path: &Path) -> SysResult<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(SysError::new("unmount", path.display(), error)),
    }
}

/// Mounts an empty tmpfs of at most `size_bytes` at `path`, closed to everyone but root.
///
/// # Errors
/// The kernel's.
pub fn mount_tmpfs(path: &Path, size_bytes: u64) -> SysResult<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = std::ffi::CString::new(format!("size={size_bytes},mode=0700")).unwrap_or_default();
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(|e| SysError::new("mount tmpfs at", path.display(), e))
}

/// Mounts the directory `source` at `target` so that no device node in it can be opened.
///
/// # Errors
/// The kernel's.
pub fn bind_without_devices(source: &Path, target: &Path) -> SysResult<()> {
    let err = |e: io::Error| SysError::new("bind mount", source.display(), e);
    rustix::mount::mount_bind(source, target).map_err(|e| err(e.into()))?;
    let target = std::fs::File::open(target).map_err(err)?;
    set_mount_attributes(target.as_fd(), libc::MOUNT_ATTR_NODEV).map_err(err)
}

/// Mounts the file at `path` onto itself, so that it keeps the flags of its file system's mount when those of the
/// surrounding mount change.
///
/// # Errors
/// The kernel's.
pub fn pin_flags(path: &Path) -> SysResult<()> {
    rustix::mount::mount_bind(path, path).map_err(|e| SysError::new("bind mount", path.display(), e))
}

/// Adds "no device node can be opened" to the mount at `path`.
///
/// # Errors
/// The kernel's.
pub fn forbid_devices(path: &Path) -> SysResult<()> {
    let err = |e: io::Error| SysError::new("set nodev on", path.display(), e);
    let mount = std::fs::File::open(path).map_err(err)?;
    set_mount_attributes(mount.as_fd(), libc::MOUNT_ATTR_NODEV).map_err(err)
}

/// Adds attributes (`MOUNT_ATTR_*`) to one mount (mount_setattr(2)).
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    // SAFETY: mount_attr is plain data, for which all zeroes are valid.
    let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
    attr.attr_set = attributes;
    // SAFETY: the descriptor is open, the path an empty C string, and attr lives until the call returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
