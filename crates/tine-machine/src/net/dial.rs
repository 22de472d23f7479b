//! A conversation with the kernel about devices, addresses and routes (rtnetlink(7)) of one network namespace:
//! the one the calling thread was in when the conversation was opened.
//!
//! Blocking, one request at a time. Decides nothing.

use super::{
    error::NetError,
    fields::{self, Link, Used},
};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{RouteNetlinkMessage as Message, link::LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd},
    time::{Duration, Instant},
};

/// How long a device may take to become operational, and how often it is looked at.
const OPERATIONAL_WAIT: Duration = Duration::from_millis(250);
const OPERATIONAL_STEP: Duration = Duration::from_micros(200);

const CREATE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;

/// An open conversation.
#[derive(Debug)]
pub struct Dial {
    socket: Socket,
    sequence: u32,
}

/// The two ends of a veth pair and where they go.
#[derive(Debug, Clone, Copy)]
pub struct VethPlan<'a> {
    /// The name of the end in this namespace.
    pub name: &'a str,
    /// The index of the bridge that this end becomes a port of.
    pub master: u32,
    /// The name of the other end.
    pub peer_name: &'a str,
    /// The hardware address of the other end.
    pub peer_hardware: [u8; 6],
    /// The network namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
}

impl Dial {
    /// Opens a conversation about the calling thread's network namespace.
    pub fn open() -> Result<Self, NetError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self { socket, sequence: 0 })
        };
        open().map_err(NetError::io("open", "an rtnetlink socket"))
    }

    /// Every device.
    pub fn links(&mut self) -> Result<Vec<Link>, NetError> {
        let answers = self.dump(Message::GetLink(LinkMessage::default()), "devices")?;
        Ok(answers.into_iter().filter_map(fields::link_of).collect())
    }

    /// The device of that name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetError> {
        match self.ask(Message::GetLink(fields::link_named(name)), NLM_F_ACK) {
            Ok(answers) => Ok(answers.into_iter().find_map(fields::link_of)),
            Err(e) if e.raw_os_error() == Some(ENODEV) => Ok(None),
            Err(e) => Err(NetError::io("look up device", name)(e)),
        }
    }

    /// The device of that name; an error when there is none.
    pub fn existing_link(&mut self, name: &str) -> Result<Link, NetError> {
        let missing = || NetError::io("look up device", name)(io::ErrorKind::NotFound.into());
        self.link(name)?.ok_or_else(missing)
    }

    /// Waits until a device that is up sends what it is given. The kernel gets it there in its own time, and
    /// drops packets until then; newer kernels hurry when asked. Gives up silently: it is only late.
    pub fn wait_until_operational(&mut self, name: &str) -> Result<(), NetError> {
        let end = Instant::now() + OPERATIONAL_WAIT;
        while !self.existing_link(name)?.is_operational && Instant::now() < end {
            std::thread::sleep(OPERATIONAL_STEP);
        }
        Ok(())
    }

    /// Every IPv4 address of every device.
    pub fn addresses(&mut self) -> Result<Vec<Used>, NetError> {
        let answers = self.dump(Message::GetAddress(fields::address_query()), "addresses")?;
        Ok(answers.iter().filter_map(fields::used_of).collect())
    }

    /// The destination of every IPv4 route of every table, default routes left out.
    pub fn routes(&mut self) -> Result<Vec<Used>, NetError> {
        let answers = self.dump(Message::GetRoute(fields::route_query()), "routes")?;
        Ok(answers.iter().filter_map(fields::used_of).collect())
    }

    /// Makes a bridge, down and without address.
    pub fn add_bridge(&mut self, name: &str, hardware: [u8; 6]) -> Result<(), NetError> {
        self.tell(Message::NewLink(fields::bridge(name, hardware)), CREATE)
            .map_err(NetError::io("create bridge", name))
    }

    /// Gives a device its free text.
    pub fn set_alias(&mut self, link: &Link, alias: &str) -> Result<(), NetError> {
        let mut message = fields::link_indexed(link.index);
        message.attributes.push(netlink_packet_route::link::LinkAttribute::IfAlias(alias.to_owned()));
        self.tell(Message::SetLink(message), NLM_F_ACK)
            .map_err(NetError::io("set the alias of device", &link.name))
    }

    /// Makes a veth pair. A pair whose near end has the same name is replaced: it is what a box has left that
    /// was killed and whose namespace the kernel has not taken apart yet.
    pub fn add_veth(&mut self, plan: &VethPlan<'_>) -> Result<(), NetError> {
        let namespace = plan.peer_namespace.as_raw_fd();
        let message = fields::veth(plan.name, plan.master, plan.peer_name, plan.peer_hardware, namespace);
        let request = Message::NewLink(message);
        match self.tell(request.clone(), CREATE) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.delete_link(plan.name)?;
                self.tell(request, CREATE)
            }
            other => other,
        }
        .map_err(NetError::io("create device", plan.name))
    }

    /// Makes a device a port of the bridge whose index is `master`, and brings it up.
    pub fn plug_in(&mut self, name: &str, master: u32) -> Result<(), NetError> {
        self.tell(Message::SetLink(fields::port(name, master)), NLM_F_ACK)
            .map_err(NetError::io("plug in device", name))
    }

    /// Deletes the device of that name; nothing when there is none.
    pub fn delete_link(&mut self, name: &str) -> Result<(), NetError> {
        self.delete_if_there(fields::link_named(name), name)
    }

    /// Deletes this very device, whatever has its name by now; nothing when it is gone.
    pub fn delete(&mut self, link: &Link) -> Result<(), NetError> {
        self.delete_if_there(fields::link_indexed(link.index), &link.name)
    }

    fn delete_if_there(&mut self, device: LinkMessage, name: &str) -> Result<(), NetError> {
        match self.tell(Message::DelLink(device), NLM_F_ACK) {
            Err(e) if e.raw_os_error() == Some(ENODEV) => Ok(()),
            other => other.map_err(NetError::io("delete device", name)),
        }
    }

    /// Gives a device an address.
    pub fn add_address(&mut self, link: &Link, address: Ipv4Addr, prefix: u8) -> Result<(), NetError> {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(address) | host_bits);
        let message = fields::address(link.index, address, prefix, broadcast);
        self.tell(Message::NewAddress(message), CREATE)
            .map_err(NetError::io("give an address to device", &link.name))
    }

    /// Brings a device up.
    pub fn set_up(&mut self, link: &Link) -> Result<(), NetError> {
        self.tell(Message::SetLink(fields::up(fields::link_indexed(link.index))), NLM_F_ACK)
            .map_err(NetError::io("bring up device", &link.name))
    }

    /// Brings the loopback device up, which gives it its addresses.
    pub fn set_up_loopback(&mut self) -> Result<(), NetError> {
        self.tell(Message::SetLink(fields::up(fields::link_named("lo"))), NLM_F_ACK)
            .map_err(NetError::io("bring up device", "lo"))
    }

    /// Sends everything without a route of its own to `gateway`.
    pub fn add_default_route(&mut self, gateway: Ipv4Addr) -> Result<(), NetError> {
        self.tell(Message::NewRoute(fields::default_route(gateway)), CREATE)
            .map_err(NetError::io("add the default route by way of", gateway))
    }

    fn dump(&mut self, request: Message, what: &'static str) -> Result<Vec<Message>, NetError> {
        self.ask(request, NLM_F_DUMP).map_err(NetError::io("list", what))
    }

    fn tell(&mut self, request: Message, flags: u16) -> io::Result<()> {
        self.ask(request, flags).map(drop)
    }

    /// Sends one request and collects its answers up to the acknowledgement.
    fn ask(&mut self, request: Message, flags: u16) -> io::Result<Vec<Message>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if collect(&datagram, self.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();

/// Reads the messages of one datagram; true when the last was the end of the answer. What cannot be decoded is
/// about something newer than this program knows, and left out.
fn collect(mut rest: &[u8], sequence: u32, answers: &mut Vec<Message>) -> io::Result<bool> {
    while let Ok(frame) = NetlinkBuffer::new_checked(rest) {
        let length = usize::try_from(frame.length()).unwrap_or(rest.len());
        let ours = frame.sequence_number() == sequence;
        if ours && let Ok(message) = NetlinkMessage::<Message>::deserialize(rest) {
            match message.payload {
                NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                NetlinkPayload::Error(_) => return Ok(true),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}
