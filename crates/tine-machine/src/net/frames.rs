//! The part of the firewall that sees Ethernet frames: the table `bridge tine`, which lets a box send only as
//! itself.
//!
//! A box's programs may send any frame: those of a container by a raw socket, those of a vm box because the
//! kernel is theirs. The device that a frame comes in by, the hardware address and the IPv4 address belong
//! together, and the set `senders` holds the triples of running boxes. A device that looks like a box's and is
//! not in it may send nothing.

use super::{
    device::{self, NAME_PREFIXES},
    error::NetError,
    nftables_link::{Element, Ruleset, Table},
    subnet,
};
use std::{fmt::Write as _, net::Ipv4Addr};

/// The table; the family is `NFPROTO_BRIDGE`.
pub const TABLE: Table = Table { family: 7, name: "tine" };

const SENDERS: &str = "senders";

/// Bytes of a device's name in a key.
const DEVICE_SIZE: usize = 16;

/// The table without what names devices. `honest` lets IPv4 and ARP through; IPv6, tagged frames and everything
/// else are dropped, before the bridge has learned where an address is.
const RULES: &str = "
table bridge tine {
  set senders { type ifname . ether_addr . ipv4_addr; }
  chain honest {
    ether type ip iifname . ether saddr . ip saddr @senders accept
    ether type arp iifname . ether saddr . arp saddr ip @senders iifname . arp saddr ether . arp saddr ip @senders accept
    drop
  }
";

/// The table as a script for nft, with an empty chain of the name `version`.
pub fn rules(version: &str) -> String {
    let guard: String =
        NAME_PREFIXES.iter().map(|prefix| format!("    iifname \"{prefix}*\" jump honest\n")).collect();
    format!(
        "{RULES}  chain {version} {{ }}\n  chain guard {{\n    \
         type filter hook prerouting priority -300; policy accept;\n{guard}  }}\n}}\n"
    )
}

/// The line of a script by which a box may send as itself.
pub fn line(address: Ipv4Addr) -> String {
    let [a, b, c, d, e, f] = subnet::hardware(address);
    let (device, mut line) = (device::name(address), String::new());
    // Writing to a String does not fail.
    let _ = writeln!(
        line,
        "add element bridge {} {SENDERS} {{ {device} . {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} . {address} }}",
        TABLE.name
    );
    line
}

/// Lets a box send as itself.
pub fn admit(ruleset: &mut Ruleset, address: Ipv4Addr) -> Result<(), NetError> {
    ruleset.add_element(Element { table: TABLE, set: SENDERS, key: &key(address) })
}

/// Takes back what [`admit`] gave, if it is there.
pub fn dismiss(ruleset: &mut Ruleset, address: Ipv4Addr) -> Result<(), NetError> {
    ruleset.delete_element(Element { table: TABLE, set: SENDERS, key: &key(address) }).map(drop)
}

/// A member of the set as the kernel compares it.
fn key(address: Ipv4Addr) -> Vec<u8> {
    let mut key = device::name(address).into_bytes();
    key.resize(DEVICE_SIZE, 0);
    key.extend(subnet::hardware(address));
    key.extend([0; 2]);
    key.extend(address.octets());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_a_box_can_have_makes_a_name_the_rules_know() {
        for address in subnet::bounds() {
            let name = device::name(address);
            assert!(NAME_PREFIXES.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        }
    }

    #[test]
    fn a_sender_is_a_device_a_hardware_address_and_an_address() {
        let address = Ipv4Addr::new(10, 201, 0, 2);
        assert_eq!(key(address), b"tv0ac90002\0\0\0\0\0\0\x02\x54\x0a\xc9\0\x02\0\0\x0a\xc9\0\x02");
        assert_eq!(
            line(address),
            "add element bridge tine senders { tv0ac90002 . 02:54:0a:c9:00:02 . 10.201.0.2 }\n"
        );
    }
}
