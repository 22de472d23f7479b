//! Typed access to the attributes of rtnetlink messages that the network needs, and the messages it sends.
//!
//! Pure: builds and reads values, never talks to the kernel.

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressMessage},
    link::{
        BridgeBooleanOptionFlags, BridgeBooleanOptions, InfoBridge, InfoData, InfoKind, InfoVeth,
        LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
    },
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::RawFd,
};

/// A network device, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its free text.
    pub alias: String,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// Whether it sends what it is given (RFC 2863: up).
    pub is_operational: bool,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: String::new(),
            master: None,
            is_bridge: false,
            is_operational: false,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::OperState(state) => link.is_operational = state == State::Up,
                LinkAttribute::LinkInfo(info) => {
                    link.is_bridge = info.contains(&LinkInfo::Kind(InfoKind::Bridge));
                }
                _ => {}
            }
        }
        link
    }
}

/// An IPv4 network in use: an address with its prefix length, or a route's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Any address in it.
    pub address: Ipv4Addr,
    /// How many leading bits name the network.
    pub prefix: u8,
    /// The device that has it, for an address.
    pub index: Option<u32>,
}

impl Used {
    /// Reads an address of a device; none when it is not an IPv4 one.
    pub fn from_address(message: &AddressMessage) -> Option<Self> {
        let local = |a: &AddressAttribute| match a {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        };
        let address = message.attributes.iter().find_map(local)?;
        Some(Self { address, prefix: message.header.prefix_len, index: Some(message.header.index) })
    }

    /// Reads a route; none for a default route, which overlaps with everything and reserves nothing.
    pub fn from_route(message: &RouteMessage) -> Option<Self> {
        let destination = |a: &RouteAttribute| match a {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        };
        let prefix = message.header.destination_prefix_length;
        let address = message.attributes.iter().find_map(destination)?;
        (prefix > 1).then_some(Self { address, prefix, index: None })
    }
}

/// A device named by its name.
pub fn link_named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// A device named by its index.
pub fn link_indexed(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// The same device, to be up.
pub fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message
}

/// A bridge. Its hardware address is given, because a bridge without one takes on that of its ports and changes
/// it as they come and go. It learns nothing from the frames that a bridge keeps for itself (LLDP and the like),
/// because the firewall does not see them.
pub fn bridge(name: &str, hardware: [u8; 6]) -> LinkMessage {
    let mut message = link_named(name);
    message.attributes.push(LinkAttribute::Address(hardware.to_vec()));
    let no_learning = BridgeBooleanOptionFlags::NoLinkLocalLearn;
    let options = BridgeBooleanOptions { value: no_learning, mask: no_learning };
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MultiBoolOpt(options)])),
    ]));
    message
}

/// A device that is up and a port of `master`.
pub fn port(name: &str, master: u32) -> LinkMessage {
    let mut message = up(link_named(name));
    message.attributes.push(LinkAttribute::Controller(master));
    message
}

/// A veth pair: `name` here, as a port of `master`, and `peer_name` in the namespace `peer_namespace`.
pub fn veth(
    name: &str,
    master: u32,
    peer_name: &str,
    hardware: [u8; 6],
    peer_namespace: RawFd,
) -> LinkMessage {
    let mut peer = link_named(peer_name);
    peer.attributes.push(LinkAttribute::Address(hardware.to_vec()));
    peer.attributes.push(LinkAttribute::NetNsFd(peer_namespace));
    let mut message = port(name, master);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    message
}

/// An address for a device.
pub fn address(index: u32, address: Ipv4Addr, prefix: u8, broadcast: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
        AddressAttribute::Broadcast(broadcast),
    ];
    message
}

/// The default route, by way of `gateway`.
pub fn default_route(gateway: Ipv4Addr) -> RouteMessage {
    let mut message = route_query();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    message
}

/// Asks for every IPv4 route of every table.
pub fn route_query() -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message
}

/// Asks for every IPv4 address.
pub fn address_query() -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message
}

/// The device in an answer, if it is one.
pub fn link_of(message: Message) -> Option<Link> {
    match message {
        Message::NewLink(link) => Some(link.into()),
        _ => None,
    }
}

/// The IPv4 network in an answer, if it is one.
pub fn used_of(message: &Message) -> Option<Used> {
    match message {
        Message::NewAddress(address) => Used::from_address(address),
        Message::NewRoute(route) => Used::from_route(route),
        _ => None,
    }
}
