//! What only the first process of a machine does: freezing its file systems, feeding its random numbers, running before
//! everything else.
//!
//! Knows nothing of why.

use crate::error::{SysError, SysResult};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// `_IOWR('X', 119, int)`, `linux/fs.h`.
const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
/// `_IOWR('X', 120, int)`, `linux/fs.h`.
const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;
/// `_IOW('R', 0x03, int [2])`, `linux/random.h`.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
/// `_IO('R', 0x07)`, `linux/random.h`.
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
/// The most random bytes given at a time.
const MAX_ENTROPY: usize = 512;

/// `struct rand_pool_info` of `linux/random.h`, with room for what it is followed by.
#[repr(C)]
struct PoolInfo {
    entropy_bits: libc::c_int,
    bytes: libc::c_int,
    content: [u8; MAX_ENTROPY],
}

/// Flushes the file system in which `inside` lies, and lets nobody write to it until it is thawed.
///
/// # Errors
/// The kernel's: EBUSY when it is frozen already, EOPNOTSUPP when it cannot be.
pub fn freeze_filesystem(inside: BorrowedFd<'_>) -> SysResult<()> {
    request(inside, FIFREEZE, "freeze")
}

/// Lets the file system in which `inside` lies be written to again.
///
/// # Errors
/// The kernel's: EINVAL when it is not frozen.
pub fn thaw_filesystem(inside: BorrowedFd<'_>) -> SysResult<()> {
    request(inside, FITHAW, "thaw")
}

fn request(inside: BorrowedFd<'_>, request: libc::Ioctl, operation: &'static str) -> SysResult<()> {
    // SAFETY: both requests take no argument into account; the descriptor is open.
    let done = unsafe { libc::ioctl(inside.as_raw_fd(), request, 0) };
    checked(done).map_err(|e| SysError::new(operation, "file system", e))
}

/// Gives the kernel random bytes, at most 512, that count in full, and makes it take up its random numbers anew from
/// them. `device` is `/dev/urandom`.
///
/// # Errors
/// The kernel's; EINVAL for too many bytes.
pub fn add_entropy(device: BorrowedFd<'_>, random: &[u8]) -> SysResult<()> {
    let err = |e: io::Error| SysError::new("add to", "random numbers", e);
    let mut info = PoolInfo { entropy_bits: 0, bytes: 0, content: [0; MAX_ENTROPY] };
    let room = info.content.get_mut(..random.len()).ok_or_else(|| err(io::ErrorKind::InvalidInput.into()))?;
    room.copy_from_slice(random);
    info.bytes = libc::c_int::try_from(random.len()).unwrap_or(0);
    info.entropy_bits = info.bytes * 8;
    // SAFETY: the kernel reads as many bytes of `content` as `bytes` says, which are there.
    let added = unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const info) };
    checked(added).map_err(err)?;
    // SAFETY: takes no argument.
    let taken_up = unsafe { libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG, 0) };
    checked(taken_up).map_err(err)
}

/// Makes the calling thread run before every ordinary one; what it starts is ordinary again.
///
/// # Errors
/// The kernel's: EPERM without CAP_SYS_NICE.
pub fn run_before_others() -> SysResult<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameter lives until the call returns.
    let done = unsafe { libc::sched_setscheduler(0, policy, &raw const lowest) };
    checked(done).map_err(|e| SysError::new("schedule", "this thread", e))
}

fn checked(done: libc::c_int) -> io::Result<()> {
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::fd::AsFd};

    #[test]
    fn what_cannot_be_frozen_says_so() {
        let file = File::open("/proc/self/stat").unwrap();
        assert!(freeze_filesystem(file.as_fd()).is_err() && thaw_filesystem(file.as_fd()).is_err());
    }

    #[test]
    fn random_numbers_take_what_they_are_given_and_no_more() {
        let device = File::open("/dev/urandom").unwrap();
        assert!(add_entropy(device.as_fd(), &[1; MAX_ENTROPY + 1]).is_err());
        match add_entropy(device.as_fd(), &[1; 32]) {
            Err(e) if e.errno() == libc::EPERM => eprintln!("SKIPPED: needs the host's CAP_SYS_ADMIN"),
            given => given.unwrap(),
        }
        assert!(add_entropy(File::open("/dev/null").unwrap().as_fd(), &[1; 32]).is_err());
    }
}
