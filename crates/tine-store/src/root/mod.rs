//! What is done inside a root: mount points. The tree is hostile; every step is confined to it.
//!
//! Paths are resolved by the kernel as a program in the box would see them (openat2(2) with `RESOLVE_IN_ROOT`), so
//! that `/lib -> usr/lib` works and nothing leads out.

pub mod measure;

use crate::error::{Result, StoreError};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tine_model::MountPath;
use tine_sys::SysError;

/// Directories that Tine or the kernel mounts something on in every container box.
const MOUNT_DIRS: [&str; 7] = ["/proc", "/sys", "/dev", "/home", "/box/proj", "/box/all", "/box/bin"];
/// Files of `/etc` that are mounted over: the first three in every box, the last in those of kind vm.
const MOUNT_FILES: [&str; 4] = ["hosts", "hostname", "resolv.conf", "machine-id"];
/// Directories that the guest of a vm box mounts something on or needs before it can write, and their modes.
const GUEST_DIRS: [(&str, u32); 2] = [("/run", 0o755), ("/tmp", 0o1777)];

/// Makes the directory a volume is mounted on, with its parents, unless it is there.
///
/// # Errors
/// `InvalidPath` when something that is no directory is in the way.
pub fn prepare_mount_point(root: BorrowedFd<'_>, path: &MountPath) -> Result<()> {
    ensure_directory(root, path.as_str()).map(drop)
}

/// Makes what Tine mounts over in boxes, so that no start of a box changes its root: `/proc`, `/sys`, `/dev`, `/home`,
/// `/box/…` as directories, and `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`, `/etc/machine-id` as empty files
/// where nothing is. A link at `/etc/resolv.conf`, which leads into the host's or nobody's `/run`, becomes an
/// empty file.
///
/// # Errors
/// `InvalidPath` when something of another type is in the way.
pub fn standard_mount_points(root: BorrowedFd<'_>) -> Result<()> {
    for path in MOUNT_DIRS {
        ensure_directory(root, path)?;
    }
    let etc = ensure_directory(root, "/etc")?;
    MOUNT_FILES.iter().try_for_each(|name| ensure_file(etc.as_fd(), name))
}

/// As [`standard_mount_points`], with `/run` and `/tmp` too: what a guest finds on a disk made of this tree.
///
/// # Errors
/// As [`standard_mount_points`].
pub fn guest_mount_points(root: BorrowedFd<'_>) -> Result<()> {
    standard_mount_points(root)?;
    for (path, mode) in GUEST_DIRS {
        if !matches!(open_in_root(root, path), Err(Errno::NOENT)) {
            continue;
        }
        let dir = ensure_directory(root, path)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode)).map_err(|e| failed("set mode of", path, e))?;
    }
    Ok(())
}

fn ensure_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let mut dir = open_in_root(root, "/").map_err(|e| failed("open", "/", e))?;
    for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
        let prefix = &path[..end];
        let name = prefix.rsplit('/').next().unwrap_or(prefix);
        dir = open_or_make(root, dir.as_fd(), prefix, name)?;
    }
    Ok(dir)
}

fn open_or_make(root: BorrowedFd<'_>, parent: BorrowedFd<'_>, path: &str, name: &str) -> Result<OwnedFd> {
    match open_in_root(root, path) {
        Ok(dir) => return Ok(dir),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(in_the_way(path, e)),
    }
    let mode = Mode::from_raw_mode(0o755);
    match rustix::fs::mkdirat(parent, name, mode) {
        // a link that leads nowhere is there and yet cannot be opened
        Err(Errno::EXIST) => return Err(in_the_way(path, Errno::LOOP)),
        made => made.map_err(|e| failed("create", path, e))?,
    }
    let dir = open_in_root(root, path).map_err(|e| in_the_way(path, e))?;
    rustix::fs::fchmod(&dir, mode).map_err(|e| failed("set mode of", path, e))?;
    Ok(dir)
}

fn open_in_root(root: BorrowedFd<'_>, path: &str) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        // the kernel gives up with EAGAIN when something is renamed meanwhile
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
}

fn ensure_file(etc: BorrowedFd<'_>, name: &str) -> Result<()> {
    match rustix::fs::statat(etc, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Err(e) => return Err(failed("stat", name, e)),
        Ok(stat) if name == "resolv.conf" && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            rustix::fs::unlinkat(etc, name, AtFlags::empty()).map_err(|e| failed("delete", name, e))?;
        }
        Ok(_) => return Ok(()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = rustix::fs::openat(etc, name, flags, mode).map_err(|e| failed("create", name, e))?;
    rustix::fs::fchmod(&file, mode).map_err(|e| failed("set mode of", name, e))
}

fn in_the_way(path: &str, errno: Errno) -> StoreError {
    match errno {
        Errno::NOTDIR | Errno::LOOP | Errno::NOENT | Errno::XDEV => StoreError::InvalidPath {
            path: path.to_owned(),
            problem: "cannot be a mount point: something that is not a directory is there".to_owned(),
        },
        other => failed("open", path, other),
    }
}

fn failed(operation: &'static str, path: &str, errno: Errno) -> StoreError {
    SysError::new(operation, path, errno).into()
}
