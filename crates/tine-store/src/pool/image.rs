//! The image file of a pool that is not on btrfs by itself: making, mounting, unmounting it.
//!
//! The file beside the pool's directory is all there is to remember: after a reboot its presence says that the pool
//! has to be mounted. Making and mounting happen under a lock on the directory that holds both.

use crate::{
    error::{Result, StoreError, at},
    layout::{image_beside, unfinished_image_beside},
    staging::open_dir,
};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tine_model::ByteSize;
use tine_sys::{
    SysError,
    lock::{FileLock, LockMode},
    loopdev::{self, LoopDevice},
    mountpoint,
};

/// Making an image takes well under a second; a minute means that something hangs.
const GUARD_WAIT: Duration = Duration::from_secs(60);
/// For how long a mount that was just used may stay busy.
const UNMOUNT_WAIT: Duration = Duration::from_secs(2);
/// Below this btrfs has no room for its own bookkeeping.
const MIN_SIZE: ByteSize = ByteSize::mib(128);
/// Bytes of a metadata block. A snapshot adds a reference to every child of its source's root block, and the more
/// snapshots there are, the more blocks those references lie in. With the default of 16 KiB the tree of an ordinary
/// root is one block over hundreds of leaves: the thousandth clone takes six times as long as the tenth. With 8 KiB it
/// has a level more and a handful of children, and every clone takes the same time (docs/performance.md). 4 KiB would
/// do as well, but is less than other file systems allow for extended attributes.
const NODE_SIZE: &str = "8192";
const MKFS: [&str; 3] = ["/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs", "/usr/bin/mkfs.btrfs"];

/// Keeps everyone else from making, mounting or unmounting the pool at `root`.
pub(super) fn guard(root: &Path) -> Result<FileLock> {
    let parent = root.parent().unwrap_or(root);
    FileLock::acquire_on_within(open_dir(parent)?, LockMode::Exclusive, GUARD_WAIT)?
        .ok_or_else(|| StoreError::Busy { what: format!("the directory {}", parent.display()) })
}

/// Mounts the pool at `root` if it has an image file and is not mounted.
pub(super) fn mount_again(root: &Path) -> Result<()> {
    let image = image_beside(root);
    if !image.exists() {
        return Err(StoreError::NoPool { root: root.to_owned() });
    }
    let _guard = guard(root)?;
    mount(&image, root)
}

/// Mounts `image` at `root`; both must exist. Does nothing when it is mounted there.
pub(super) fn mount(image: &Path, root: &Path) -> Result<()> {
    if mountpoint::mounted_at(root)?.is_some_and(|m| m.fs_type == "btrfs") {
        return Ok(());
    }
    let file = open_image(image)?;
    // another mount namespace, or a mount that is just going away, may hold the device: one file behind two devices
    // would be two file systems that do not know of each other
    if let Some(device) = loopdev::devices_backed_by(file.as_fd())?.first() {
        return mountpoint::mount_btrfs(device, root).map_err(|e| not_mounted(image, e));
    }
    let device = LoopDevice::attach(file.as_fd())?;
    mountpoint::mount_btrfs(device.path(), root).map_err(|e| not_mounted(image, e))
}

/// The kernel says of a truncated or overwritten image no more than that something is invalid.
fn not_mounted(image: &Path, error: SysError) -> StoreError {
    let damaged = [Errno::INVAL, Errno::IO, Errno::UCLEAN].map(Errno::raw_os_error);
    if !damaged.contains(&error.errno()) {
        return error.into();
    }
    StoreError::Corrupt {
        object: image.display().to_string(),
        problem: format!("is not a whole btrfs file system: {}", error.source),
    }
}

fn open_image(image: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(image, flags, Mode::empty()).map_err(at("open", image))
}

/// Unmounts the pool at `root`, waiting a moment for those who were about to let go of it.
pub(super) fn unmount(root: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        match mountpoint::unmount(root) {
            Err(e) if e.errno() == Errno::BUSY.raw_os_error() => {}
            done => return Ok(done?),
        }
        if begun.elapsed() > UNMOUNT_WAIT {
            return Err(StoreError::Busy { what: format!("the pool at {}", root.display()) });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes a sparse file of `size` bytes with an empty btrfs in it beside `root`. It gets its name when it is whole;
/// what a killed attempt left is replaced.
pub(super) fn make(root: &Path, size: ByteSize) -> Result<PathBuf> {
    if size < MIN_SIZE {
        return Err(StoreError::Usage {
            message: format!("a pool of {size} is too small: at least {MIN_SIZE}"),
        });
    }
    let (unfinished, image) = (unfinished_image_beside(root), image_beside(root));
    let made = format(&unfinished, size)
        .and_then(|()| std::fs::rename(&unfinished, &image).map_err(at("create", &image)))
        .and_then(|()| sync_parent(&image));
    made.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
    Ok(image)
}

fn format(path: &Path, size: ByteSize) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).map_err(at("create", path))?);
    file.set_len(size.bytes()).map_err(at("extend", path))?;
    run_mkfs(path)?;
    file.sync_all().map_err(at("write", path))
}

fn run_mkfs(path: &Path) -> Result<()> {
    let Some(program) = MKFS.iter().find(|p| Path::new(p).exists()) else {
        return Err(StoreError::Unsupported {
            message: "mkfs.btrfs is not installed (package btrfs-progs)".to_owned(),
        });
    };
    let output = Command::new(program)
        .args(["-q", "-f", "--nodesize", NODE_SIZE])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(at("run", Path::new(program)))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(StoreError::ToolFailed { program: "mkfs.btrfs", output: words })
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    rustix::fs::fsync(open_dir(parent)?).map_err(at("sync", parent))
}
