//! The device by which a box is plugged into its project's bridge: its kinds and its name, which says whose it
//! is, and what the guest of a vm box has to set up at the other end.
//!
//! Pure: names and addresses, no devices.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// How the name of a box's device on the host begins; the address in hexadecimal digits follows.
const PREFIX: &str = "tv";

/// How the names of boxes' devices begin, as narrow as [`super::subnet`] allows: bridges of others are not to
/// have such ports.
pub const NAME_PREFIXES: [&str; 3] = ["tv0a", "tvac", "tvc0"];

/// What a box is plugged in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// A veth pair with one end in the box's network namespace, for a container.
    #[default]
    Veth,
    /// A tap device whose descriptor a virtual machine gets. What runs the machine is in an empty namespace.
    Tap,
}

/// What the guest of a vm box gives its network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// The hardware address, which the machine's network card has to have; frames from any other are dropped.
    pub mac: [u8; 6],
    /// The address; IPv4 packets and ARP from any other are dropped.
    pub address: Ipv4Addr,
    /// Leading bits that name the subnet.
    pub prefix: u8,
    /// Where everything outside the subnet goes.
    pub gateway: Ipv4Addr,
}

/// The name on the host of the device of the box that has an address.
pub fn name(address: Ipv4Addr) -> String {
    format!("{PREFIX}{:08x}", u32::from(address))
}

/// The address of the box whose device has a name; none when it is no box's.
pub fn address_of(device: &str) -> Option<Ipv4Addr> {
    let digits = device.strip_prefix(PREFIX).filter(|digits| digits.len() == 8)?;
    let address = Ipv4Addr::from(u32::from_str_radix(digits, 16).ok()?);
    (name(address) == device).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        let address = Ipv4Addr::new(10, 201, 0, 2);
        assert_eq!(name(address), "tv0ac90002");
        assert_eq!(address_of("tv0ac90002"), Some(address));
        for other in ["tv0AC90002", "tv+ac90002", "tv0ac9002", "tv0ac900020", "veth0", "tv"] {
            assert_eq!(address_of(other), None, "{other}");
        }
    }
}
