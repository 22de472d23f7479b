//! Loop devices: a file as a block device (loop(4)).
//!
//! Numbers and structures are those of `include/uapi/linux/loop.h`. Every device is attached with autoclear, so that
//! it goes by itself when its last user (the mount) goes. Never makes or deletes the file behind it.

use crate::{SysError, SysResult};
use rustix::fs::{Mode, OFlags};
use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

const CLEAR_FD: u64 = 0x4c01;
const GET_STATUS64: u64 = 0x4c05;
const CONFIGURE: u64 = 0x4c0a;
const CONTROL_GET_FREE: u64 = 0x4c82;
const FLAG_AUTOCLEAR: u32 = 4;
const FLAG_DIRECT_IO: u32 = 16;
/// How often another process may take the free device from under us before this gives up.
const ATTEMPTS: u32 = 100;

#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// An attached loop device. It stays as long as this value or a mount uses it.
#[derive(Debug)]
pub struct LoopDevice {
    device: OwnedFd,
    path: PathBuf,
}

impl LoopDevice {
    /// Makes `file`, which must be open for reading and writing, a block device. Uses direct I/O where the file
    /// system below can, so that data is not cached twice.
    ///
    /// # Errors
    /// The kernel's: `ENOENT` without a loop driver, `EBUSY` when others took every free device first.
    pub fn attach(file: BorrowedFd<'_>) -> SysResult<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let device = open_free()?;
            match device.configure(file) {
                Ok(()) => return Ok(device),
                Err(e) if e.errno() == libc::EBUSY => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(|| {
            SysError::new("attach", "loop device", io::Error::from_raw_os_error(libc::EBUSY))
        }))
    }

    /// The device's path, as `mount` wants it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches the device at once if nothing else uses it, else when its last user goes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn detach(self) -> SysResult<()> {
        call(self.device.as_fd(), CLEAR_FD, 0)
            .map_err(|e| SysError::new("detach", self.path.display(), e))?;
        Ok(())
    }

    fn configure(&self, file: BorrowedFd<'_>) -> SysResult<()> {
        // SAFETY: a structure of integers, for which zeros are valid.
        let mut config: LoopConfig = unsafe { mem::zeroed() };
        config.fd = file.as_raw_fd() as u32;
        config.info.flags = FLAG_AUTOCLEAR | FLAG_DIRECT_IO;
        call(self.device.as_fd(), CONFIGURE, std::ptr::from_mut(&mut config) as usize)
            .map_err(|e| SysError::new("attach", self.path.display(), e))?;
        Ok(())
    }
}

/// The loop devices whose file is `file`.
///
/// # Errors
/// The kernel's, when `/sys/block` cannot be read or `file` has no status.
pub fn devices_backed_by(file: BorrowedFd<'_>) -> SysResult<Vec<PathBuf>> {
    let stat = rustix::fs::fstat(file).map_err(|e| SysError::new("stat", file.as_raw_fd(), e))?;
    let blocks = Path::new("/sys/block");
    let entries = std::fs::read_dir(blocks).map_err(|e| SysError::new("read", blocks.display(), e))?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let attached = blocks.join(&name).join("loop/backing_file").exists();
        let path = Path::new("/dev").join(&name);
        // devices come and go meanwhile: one that cannot be asked is not ours
        if attached && status(&path).is_ok_and(|s| (s.device, s.inode) == (stat.st_dev, stat.st_ino)) {
            found.push(path);
        }
    }
    Ok(found)
}

fn status(path: &Path) -> SysResult<LoopInfo> {
    let device = open(path, OFlags::RDONLY)?;
    // SAFETY: a structure of integers, for which zeros are valid.
    let mut info: LoopInfo = unsafe { mem::zeroed() };
    call(device.as_fd(), GET_STATUS64, std::ptr::from_mut(&mut info) as usize)
        .map_err(|e| SysError::new("read status", path.display(), e))?;
    Ok(info)
}

fn open_free() -> SysResult<LoopDevice> {
    let control = open(Path::new("/dev/loop-control"), OFlags::RDWR)?;
    let number = call(control.as_fd(), CONTROL_GET_FREE, 0)
        .map_err(|e| SysError::new("find free", "loop device", e))?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    Ok(LoopDevice { device: open(&path, OFlags::RDWR)?, path })
}

fn open(path: &Path, access: OFlags) -> SysResult<OwnedFd> {
    rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SysError::new("open", path.display(), e))
}

fn call(fd: BorrowedFd<'_>, number: u64, argument: usize) -> io::Result<i32> {
    // SAFETY: callers pass 0 or the address of the structure that the number stands for, alive during the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), number as libc::Ioctl, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!((mem::size_of::<LoopInfo>(), mem::size_of::<LoopConfig>()), (232, 304));
    }
}
