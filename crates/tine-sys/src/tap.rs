//! Tap devices: Ethernet devices whose other end is a descriptor.
//!
//! Numbers are those of the kernel's `include/uapi/linux/if_tun.h`; behaviour as in `networking/tuntap.rst`.
//! Decides nothing: no name of its own, no address, not up.

use crate::error::{SysError, SysResult};
use rustix::io::Errno;
use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// The device by which taps are made.
pub const TUN: &str = "/dev/net/tun";

const NAME_SIZE: usize = 16;

/// A tap whose frames come without the packet information header and with a `virtio_net_hdr`, refused where a
/// device has the name.
const FLAGS: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;

/// `struct ifreq`, as far as `TUNSETIFF` reads it.
#[repr(C)]
struct Request {
    name: [u8; NAME_SIZE],
    flags: u16,
    unused: [u8; 22],
}

/// Makes a tap device in the calling thread's network namespace. It vanishes with the last copy of the
/// descriptor, which is close-on-exec, works in every namespace, and reads and writes one frame at a time, each
/// behind a `virtio_net_hdr` of 10 bytes.
///
/// # Errors
/// EBUSY when a device has the name, EINVAL for a name that can't be one, ENOENT or ENODEV where the kernel has
/// no tap devices, else the kernel's.
pub fn open_tap(name: &str) -> SysResult<OwnedFd> {
    let file =
        OpenOptions::new().read(true).write(true).open(TUN).map_err(|e| SysError::new("open", TUN, e))?;
    let failed = |e: io::Error| SysError::new("create tap device", name, e);
    let mut request = request(name).map_err(|e| failed(e.into()))?;
    set_interface(&file, &mut request).map_err(failed)?;
    Ok(file.into())
}

fn request(name: &str) -> Result<Request, Errno> {
    // The kernel would put a number in the place of a percent sign.
    if name.is_empty() || name.len() >= NAME_SIZE || name.contains(['%', '\0']) {
        return Err(Errno::INVAL);
    }
    let flags = u16::try_from(FLAGS).map_err(|_| Errno::INVAL)?;
    let mut request = Request { name: [0; NAME_SIZE], flags, unused: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    Ok(request)
}

fn set_interface(file: &File, request: &mut Request) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one ifreq, of at most 40 bytes, which `request` has, and keeps no
    // pointer to it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_large_as_the_kernels() {
        assert!(size_of::<Request>() >= size_of::<libc::ifreq>());
    }

    #[test]
    fn only_what_can_be_a_name_is_asked_for() {
        for name in ["", "tap%d", "sixteen-is-large", "nul\0"] {
            assert_eq!(request(name).map(drop), Err(Errno::INVAL), "{name:?}");
        }
        let made = request("tv0ac90002").unwrap();
        assert_eq!(&made.name, b"tv0ac90002\0\0\0\0\0\0");
        assert_eq!(made.flags, 0xd002);
    }
}
