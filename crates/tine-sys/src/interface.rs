//! Setting up a network device by the old requests (netdevice(7)): little code, and all that one device with one IPv4
//! address needs.
//!
//! Decides nothing.

use crate::error::{SysError, SysResult};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

/// `ARPHRD_ETHER`, `linux/if_arp.h`.
const ETHERNET: libc::sa_family_t = 1;

/// A network device of the calling process's network namespace.
#[derive(Debug)]
pub struct Interface {
    socket: OwnedFd,
    name: String,
}

impl Interface {
    /// The device of this name; whether there is one shows at the first use.
    ///
    /// # Errors
    /// The kernel's; EINVAL for a name that no device can have.
    pub fn named(name: &str) -> SysResult<Self> {
        let err = |e: io::Error| SysError::new("use device", name, e);
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(err(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        Ok(Self { socket: socket.map_err(|e| err(e.into()))?, name: name.to_owned() })
    }

    /// Brings it up.
    ///
    /// # Errors
    /// The kernel's: ENODEV when there is no such device.
    pub fn set_up(&self) -> SysResult<()> {
        self.change_flags(|flags| flags | libc::IFF_UP as libc::c_short)
    }

    /// Takes it down, which also takes away its routes.
    ///
    /// # Errors
    /// The kernel's: ENODEV when there is no such device.
    pub fn set_down(&self) -> SysResult<()> {
        self.change_flags(|flags| flags & !(libc::IFF_UP as libc::c_short))
    }

    /// Gives it another hardware address; most devices want to be down for that.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_hardware(&self, address: [u8; 6]) -> SysResult<()> {
        let mut data = [0; 14];
        for (to, from) in data.iter_mut().zip(address) {
            *to = from.cast_signed();
        }
        let mut request = self.request();
        request.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: ETHERNET, sa_data: data };
        self.ask(libc::SIOCSIFHWADDR, &mut request, "set the hardware address of")
    }

    /// Gives it this IPv4 address in place of the one it has. Prefixes above 32 are 32.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_address(&self, address: Ipv4Addr, prefix: u8) -> SysResult<()> {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.ask(libc::SIOCSIFADDR, &mut request, "set the address of")?;
        let mut request = self.request();
        request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from(!host_bits));
        self.ask(libc::SIOCSIFNETMASK, &mut request, "set the network of")
    }

    /// Takes its IPv4 address away; nothing when it has none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn clear_address(&self) -> SysResult<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = socket_address(Ipv4Addr::UNSPECIFIED);
        self.ask(libc::SIOCSIFADDR, &mut request, "take the address of")
    }

    /// Sends everything without a route of its own to `gateway`, which must be reachable already.
    ///
    /// # Errors
    /// The kernel's: ENETUNREACH when it is not.
    pub fn add_default_route(&self, gateway: Ipv4Addr) -> SysResult<()> {
        // SAFETY: rtentry is plain data, for which all zeroes are valid; a null device means any.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = socket_address(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        // SAFETY: the route lives until the call returns, and the kernel only reads it.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) };
        self.checked(done, "add a route by way of")
    }

    fn change_flags(&self, change: impl FnOnce(libc::c_short) -> libc::c_short) -> SysResult<()> {
        let mut request = self.request();
        self.ask(libc::SIOCGIFFLAGS, &mut request, "look at")?;
        // SAFETY: the kernel has just filled in the flags, and every value is valid.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = change(flags);
        self.ask(libc::SIOCSIFFLAGS, &mut request, "bring up or down")
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: ifreq is plain data, for which all zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from.cast_signed();
        }
        request
    }

    fn ask(&self, number: libc::Ioctl, request: &mut libc::ifreq, operation: &'static str) -> SysResult<()> {
        // SAFETY: every request of this kind reads and writes one ifreq, which lives until the call returns.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), number, &raw mut *request) };
        self.checked(done, operation)
    }

    fn checked(&self, done: libc::c_int, operation: &'static str) -> SysResult<()> {
        if done < 0 {
            Err(SysError::new(operation, format_args!("device {}", self.name), io::Error::last_os_error()))
        } else {
            Ok(())
        }
    }
}

/// An IPv4 address without a port, as `struct sockaddr` (ip(7)).
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data.iter_mut().skip(2).zip(address.octets()) {
        *to = from.cast_signed();
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_device_has_are_errors() {
        for bad in ["", "0123456789abcdef", "a\0b"] {
            assert_eq!(Interface::named(bad).unwrap_err().errno(), libc::EINVAL);
        }
        let missing = Interface::named("none-such").unwrap();
        assert_eq!(missing.set_up().unwrap_err().errno(), libc::ENODEV);
    }

    #[test]
    fn an_address_lies_behind_the_port() {
        let [a, b, rest @ ..] = socket_address([10, 1, 2, 255].into()).sa_data;
        assert_eq!((a, b, &rest[..5]), (0, 0, &[10, 1, 2, -1, 0][..]));
    }
}
