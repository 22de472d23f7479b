//! Reservation of published ports: a socket bound in the host's network namespace for as long as the box runs,
//! so that the kernel decides who has a port and no other program can take it.
//!
//! Packets to a published port are led away before they reach the socket; it never accepts.

use super::error::NetError;
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};
use tine_model::{Protocol, PublishedPort};

/// The sockets of one box's published ports, all or none.
pub fn reserve(ports: &[PublishedPort]) -> Result<Vec<OwnedFd>, NetError> {
    ports.iter().map(reserve_one).collect()
}

fn reserve_one(port: &PublishedPort) -> Result<OwnedFd, NetError> {
    let address = SocketAddrV4::new(port.address.unwrap_or(Ipv4Addr::UNSPECIFIED), port.host_port);
    let bound = match port.protocol {
        Protocol::Tcp => TcpListener::bind(address).map(OwnedFd::from),
        Protocol::Udp => UdpSocket::bind(address).map(OwnedFd::from),
    };
    bound.map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => NetError::PortTaken { port: *port },
        io::ErrorKind::AddrNotAvailable => NetError::NoSuchAddress { port: *port },
        _ => NetError::io("reserve port", port)(e),
    })
}
