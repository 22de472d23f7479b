//! What is asked of the kernel's firewall without the nft program, because it is on the path of every box and
//! starting a program costs more than the answer: whether our table is there, and taking it away.
//!
//! Wire format: nfnetlink, `linux/netfilter/nfnetlink.h` and `nf_tables.h`. Asks and deletes; never adds.

use super::error::NetError;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;

const SUBSYSTEM: u16 = 10;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const FAMILY_INET: u8 = 1;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const HEADER: usize = 16;
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

/// Whether a table of the family `inet` is there.
pub fn has_table(table: &str) -> Result<bool, NetError> {
    let request = message(GET_TABLE, REQUEST | ACK, (FAMILY_INET, 0), &attribute(TABLE_NAME, table));
    found(talk(&request)).map_err(NetError::io("look up firewall table", table))
}

/// Whether a chain is there, in a table of the family `inet`.
pub fn has_chain(table: &str, chain: &str) -> Result<bool, NetError> {
    let attributes = [attribute(CHAIN_TABLE, table), attribute(CHAIN_NAME, chain)].concat();
    let request = message(GET_CHAIN, REQUEST | ACK, (FAMILY_INET, 0), &attributes);
    found(talk(&request)).map_err(NetError::io("look up firewall table", table))
}

/// Deletes a table of the family `inet` with all it holds; false when there was none.
pub fn delete_table(table: &str) -> Result<bool, NetError> {
    let request = [
        message(BATCH_BEGIN, REQUEST, (0, SUBSYSTEM), &[]),
        message(DELETE_TABLE, REQUEST | ACK, (FAMILY_INET, 0), &attribute(TABLE_NAME, table)),
        message(BATCH_END, REQUEST, (0, SUBSYSTEM), &[]),
    ]
    .concat();
    found(talk(&request)).map_err(NetError::io("delete firewall table", table))
}

fn found(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// A netlink message with the header every nfnetlink message has: family, version 0, resource.
fn message(kind: u16, flags: u16, (family, resource): (u8, u16), attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + 4 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// A text attribute, padded to four bytes.
fn attribute(kind: u16, text: &str) -> Vec<u8> {
    let length = u16::try_from(4 + text.len() + 1).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends a request and waits for its acknowledgement or refusal.
fn talk(request: &[u8]) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(request, 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if let Some(code) = verdict(&datagram) {
            return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
        }
    }
}

/// The code of the first acknowledgement in a datagram.
fn verdict(mut rest: &[u8]) -> Option<i32> {
    while let Some((length, kind)) = frame(rest) {
        if kind == ERROR {
            let code = rest.get(HEADER..HEADER + 4)?;
            return Some(i32::from_ne_bytes(code.try_into().ok()?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The length and kind of the message a buffer begins with.
fn frame(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (HEADER..=bytes.len()).contains(&length).then_some((length, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, code: i32) -> Vec<u8> {
        let mut bytes = message(kind, 0, (0, 0), &[]);
        bytes[HEADER..].copy_from_slice(&code.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_verdict_is_found_behind_other_messages_and_never_in_a_broken_frame() {
        let other = answer(GET_CHAIN, 7);
        assert_eq!(verdict(&[other.clone(), answer(ERROR, -2)].concat()), Some(-2));
        assert_eq!(verdict(&answer(ERROR, 0)), Some(0));
        assert_eq!(verdict(&other), None);
        assert_eq!(verdict(&[0; 40]), None);
        assert_eq!(verdict(&[255; 40]), None);
    }
}
