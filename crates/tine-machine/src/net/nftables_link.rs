//! What is asked of the kernel's firewall without the nft program, because it is on the path of every box and
//! starting a program costs more than the answer: whether a table is there, taking it away, and the one element
//! that every box has.
//!
//! Wire format: nfnetlink, `linux/netfilter/nfnetlink.h` and `nf_tables.h`. Makes no tables, chains or rules.

use super::error::NetError;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;

const SUBSYSTEM: u16 = 10;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const VALUE: u16 = 1;
const HEADER: usize = 16;
const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();

/// A table of the firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// The kernel's number for its family (`NFPROTO_*` in `linux/netfilter.h`).
    pub family: u8,
    /// Its name.
    pub name: &'static str,
}

/// A member of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// The set's table.
    pub table: Table,
    /// The set.
    pub set: &'a str,
    /// The member as the kernel compares it: each part of it padded to four bytes.
    pub key: &'a [u8],
}

impl Element<'_> {
    fn attributes(&self) -> Vec<u8> {
        let key = nest(ELEMENT_KEY, &attribute(VALUE, self.key));
        let elements = nest(ELEMENTS, &nest(ELEMENT, &key));
        [text(ELEMENTS_TABLE, self.table.name), text(ELEMENTS_SET, self.set), elements].concat()
    }
}

/// A conversation with the kernel about the firewall of one network namespace: the one the calling thread was in
/// when it was opened.
///
/// Blocking, one request at a time. Closing it at once after a deletion waits until the kernel has freed what was
/// deleted, which takes it tens of milliseconds.
#[derive(Debug)]
pub struct Ruleset {
    socket: Socket,
    sequence: u32,
}

impl Ruleset {
    /// Opens a conversation about the calling thread's network namespace.
    pub fn open() -> Result<Self, NetError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self { socket, sequence: 0 })
        };
        open().map_err(NetError::io("open", "a netfilter socket"))
    }

    /// Whether a table is there.
    pub fn has_table(&mut self, table: Table) -> Result<bool, NetError> {
        let body = body(table.family, 0, &text(TABLE_NAME, table.name));
        found(self.talk(|s| message(GET_TABLE, REQUEST | ACK, s, &body)))
            .map_err(NetError::io("look up firewall table", table.name))
    }

    /// Whether a chain of a table is there.
    pub fn has_chain(&mut self, table: Table, chain: &str) -> Result<bool, NetError> {
        let attributes = [text(CHAIN_TABLE, table.name), text(CHAIN_NAME, chain)].concat();
        let body = body(table.family, 0, &attributes);
        found(self.talk(|s| message(GET_CHAIN, REQUEST | ACK, s, &body)))
            .map_err(NetError::io("look up firewall table", table.name))
    }

    /// Deletes a table with all it holds; false when there was none.
    pub fn delete_table(&mut self, table: Table) -> Result<bool, NetError> {
        let body = body(table.family, 0, &text(TABLE_NAME, table.name));
        found(self.change(DELETE_TABLE, 0, &body)).map_err(NetError::io("delete firewall table", table.name))
    }

    /// Makes something a member of a set; nothing when it is one already.
    pub fn add_element(&mut self, element: Element<'_>) -> Result<(), NetError> {
        let body = body(element.table.family, 0, &element.attributes());
        self.change(NEW_ELEMENT, CREATE, &body).map_err(NetError::io("add to firewall set", element.set))
    }

    /// Takes a member out of a set; false when it was none, or the set is gone.
    pub fn delete_element(&mut self, element: Element<'_>) -> Result<bool, NetError> {
        let body = body(element.table.family, 0, &element.attributes());
        found(self.change(DELETE_ELEMENT, 0, &body))
            .map_err(NetError::io("delete from firewall set", element.set))
    }

    /// Makes a change, which the kernel takes only as a transaction.
    fn change(&mut self, kind: u16, flags: u16, change: &[u8]) -> io::Result<()> {
        let edge = body(0, SUBSYSTEM, &[]);
        self.talk(|sequence| {
            [
                message(BATCH_BEGIN, REQUEST, sequence, &edge),
                message(kind, REQUEST | ACK | flags, sequence, change),
                message(BATCH_END, REQUEST, sequence, &edge),
            ]
            .concat()
        })
    }

    /// Sends a request and waits for its acknowledgement or refusal.
    fn talk(&mut self, request: impl FnOnce(u32) -> Vec<u8>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request(self.sequence), 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if let Some(code) = verdict(&datagram, self.sequence) {
                return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
        }
    }
}

fn found(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(e) if e.raw_os_error() == Some(ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// A netlink message.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// What every nfnetlink message holds: family, version 0, resource, attributes.
fn body(family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![family, 0];
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// A text attribute.
fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

/// An attribute that holds attributes.
fn nest(kind: u16, inner: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, inner)
}

/// An attribute, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The code of the acknowledgement of a request, if it is in a datagram.
fn verdict(mut rest: &[u8], sequence: u32) -> Option<i32> {
    while let Some(frame) = frame(rest) {
        if (frame.kind, frame.sequence) == (ERROR, sequence) {
            let code = rest.get(HEADER..HEADER + 4)?;
            return Some(i32::from_ne_bytes(code.try_into().ok()?));
        }
        rest = rest.get(frame.length.next_multiple_of(4)..)?;
    }
    None
}

/// The header of a message, as far as it matters here.
struct Frame {
    length: usize,
    kind: u16,
    sequence: u32,
}

/// The header of the message a buffer begins with.
fn frame(bytes: &[u8]) -> Option<Frame> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let length = usize::try_from(length).ok()?;
    (HEADER..=bytes.len()).contains(&length).then_some(Frame { length, kind, sequence })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, sequence: u32, code: i32) -> Vec<u8> {
        message(kind, 0, sequence, &code.to_ne_bytes())
    }

    #[test]
    fn the_verdict_is_found_behind_other_messages_and_never_in_a_broken_frame() {
        let others = [answer(GET_CHAIN, 2, 7), answer(ERROR, 1, -1)].concat();
        assert_eq!(verdict(&[others.clone(), answer(ERROR, 2, -2)].concat(), 2), Some(-2));
        assert_eq!(verdict(&answer(ERROR, 2, 0), 2), Some(0));
        assert_eq!(verdict(&others, 2), None);
        assert_eq!(verdict(&[0; 40], 0), None);
        assert_eq!(verdict(&[255; 40], u32::MAX), None);
    }

    #[test]
    fn an_element_is_four_levels_deep_and_padded() {
        let table = Table { family: 7, name: "tine" };
        let bytes = Element { table, set: "senders", key: &[9; 6] }.attributes();
        let length = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(
            [length(0), length(12), length(24), length(28), length(32), length(36)],
            [9, 12, 24, 20, 16, 10]
        );
        assert_eq!(bytes[40..], [9, 9, 9, 9, 9, 9, 0, 0]);
    }
}
