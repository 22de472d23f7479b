//! Which private subnet a bridge gets, and which addresses lie in it.
//!
//! Pure arithmetic over what is in use.

use super::fields::Used;
use std::net::Ipv4Addr;

/// Leading bits of a bridge's subnet. 1,021 boxes fit, and a bridge takes at most 1,024 ports.
pub const PREFIX: u8 = 22;

const SIZE: u32 = 1 << (32 - PREFIX as u32);

/// Where subnets are taken from, in order: first and last address of each range.
const RANGES: [(Ipv4Addr, Ipv4Addr); 3] = [
    (Ipv4Addr::new(10, 201, 0, 0), Ipv4Addr::new(10, 231, 255, 255)),
    (Ipv4Addr::new(172, 24, 0, 0), Ipv4Addr::new(172, 31, 255, 255)),
    (Ipv4Addr::new(192, 168, 128, 0), Ipv4Addr::new(192, 168, 255, 255)),
];

/// A bridge's subnet, named by the bridge's own address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Leading bits that name the subnet.
    pub prefix: u8,
}

impl Subnet {
    /// The first subnet that overlaps with nothing in use.
    pub fn first_free(used: &[Used]) -> Option<Self> {
        RANGES
            .iter()
            .flat_map(|(first, last)| (u32::from(*first)..=u32::from(*last)).step_by(SIZE as usize))
            .find(|start| !used.iter().any(|u| overlaps(u, *start)))
            .map(|start| Self { gateway: Ipv4Addr::from(start + 1), prefix: PREFIX })
    }

    /// The lowest address for a box that is not among `taken`.
    pub fn first_address(&self, taken: &[Ipv4Addr]) -> Option<Ipv4Addr> {
        let mask = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        let broadcast = u32::from(self.gateway) | mask;
        (u32::from(self.gateway) + 1..broadcast).map(Ipv4Addr::from).find(|a| !taken.contains(a))
    }
}

/// The hardware address that goes with an address: locally administered, and of one address always the same, so
/// that neighbours need not forget a former holder of it. Addresses are unique on a host.
pub fn hardware(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x54, a, b, c, d]
}

/// The first and the last address of each range that subnets are taken from.
#[cfg(test)]
pub fn bounds() -> Vec<Ipv4Addr> {
    RANGES.iter().flat_map(|(first, last)| [*first, *last]).collect()
}

fn overlaps(used: &Used, start: u32) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(used.prefix.min(32))).unwrap_or(0);
    let first = u32::from(used.address) & mask;
    first <= start + (SIZE - 1) && start <= first | !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(text: &str, prefix: u8) -> Used {
        Used { address: text.parse().unwrap(), prefix, index: None }
    }

    fn gateway(used: &[Used]) -> Option<String> {
        Subnet::first_free(used).map(|s| s.gateway.to_string())
    }

    #[test]
    fn the_first_subnet_that_overlaps_with_nothing_is_taken() {
        assert_eq!(gateway(&[]).unwrap(), "10.201.0.1");
        assert_eq!(gateway(&[used("10.201.0.1", 22)]).unwrap(), "10.201.4.1");
        assert_eq!(gateway(&[used("10.201.3.9", 32)]).unwrap(), "10.201.4.1");
        assert_eq!(gateway(&[used("10.201.4.0", 24)]).unwrap(), "10.201.0.1");
        assert_eq!(gateway(&[used("10.0.0.0", 8)]).unwrap(), "172.24.0.1");
        let private = [used("10.0.0.0", 8), used("172.16.0.0", 12)];
        assert_eq!(gateway(&private).unwrap(), "192.168.128.1");
        assert_eq!(gateway(&[used("0.0.0.0", 0)]), None);
    }

    #[test]
    fn boxes_get_the_lowest_address_that_is_free_and_never_the_broadcast_one() {
        let subnet = Subnet { gateway: "10.201.0.1".parse().unwrap(), prefix: 30 };
        let two = "10.201.0.2".parse().unwrap();
        assert_eq!(subnet.first_address(&[]), Some(two));
        assert_eq!(subnet.first_address(&[two]), None);
    }
}
