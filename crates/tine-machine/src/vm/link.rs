//! The host's end of the link to a guest's agent: frames out and in, without ever waiting for the guest.
//!
//! What comes in is an attacker's: frames that do not decode are dropped, and what a session sends is bounded by who
//! reads it. Decides nothing.

use crate::error::{MachineError, MachineResult};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tine_agent::{
    frame::{Decoder, END},
    message::{
        Credit, Data, Eof, GuestControl, GuestMessage, HostControl, HostMessage, Order, PROTOCOL, Phase,
    },
};

/// Bytes that wait for the guest before nothing more is read from those who have something for it.
const ROOMY: usize = 256 << 10;
/// Bytes that wait for the guest at most; a guest that takes nothing is not listened to for more.
const MAX_WAITING: usize = 16 << 20;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// The link.
pub(super) struct Link {
    socket: OwnedFd,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    nonce: u64,
    /// What the agent said when the session began; none before.
    greeting: Option<Greeting>,
    closed: bool,
    /// Nothing is sent yet.
    held: bool,
}

/// What an agent says when a session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Its version of the protocol.
    pub(super) protocol: u32,
    /// In which state the machine is.
    pub(super) phase: Phase,
}

impl Link {
    /// Begins a session, whose greeting is sent when the link is released: a device whose state is being loaded may
    /// take bytes in and raise an interrupt that the state loaded after it wipes out.
    pub(super) fn new(socket: OwnedFd, nonce: u64) -> MachineResult<Self> {
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|e| MachineError::io("set up", "agent's link", e))?;
        let mut link = Self {
            socket,
            decoder: Decoder::new(),
            out: Vec::new(),
            sent: 0,
            nonce,
            greeting: None,
            closed: false,
            held: true,
        };
        link.greet()?;
        Ok(link)
    }

    /// Says the greeting, once more if need be: a guest that has heard it already begins anew.
    pub(super) fn greet(&mut self) -> MachineResult<()> {
        // whatever the guest was in the middle of taking in is over
        self.out.push(END);
        self.tell(&HostControl::Hello { nonce: self.nonce, protocol: PROTOCOL })
    }

    /// From now on what waits is sent.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    pub(super) fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// True while something waits for the guest.
    pub(super) fn has_output(&self) -> bool {
        !self.closed && !self.held && self.sent < self.out.len()
    }

    /// Whether QEMU has the other end still.
    pub(super) fn is_open(&self) -> bool {
        !self.closed
    }

    /// False when those who have much to say should wait.
    pub(super) fn is_roomy(&self) -> bool {
        self.out.len() - self.sent < ROOMY
    }

    pub(super) fn tell(&mut self, control: &HostControl) -> MachineResult<()> {
        self.put(&HostMessage::Control(control.clone()))
    }

    pub(super) fn open(&mut self, channel: u32, order: &Order) -> MachineResult<()> {
        self.check_room()?;
        order.append(channel, &mut self.out).map_err(|e| MachineError::Invalid(e.to_string()))
    }

    pub(super) fn data(&mut self, channel: u32, stream: u8, bytes: &[u8]) -> MachineResult<()> {
        self.put(&HostMessage::Data(Data { channel, stream, bytes }))
    }

    pub(super) fn eof(&mut self, channel: u32, stream: u8) -> MachineResult<()> {
        self.put(&HostMessage::Eof(Eof { channel, stream }))
    }

    pub(super) fn credit(&mut self, channel: u32, stream: u8, bytes: u32) -> MachineResult<()> {
        self.put(&HostMessage::Credit(Credit { channel, stream, bytes }))
    }

    fn put(&mut self, message: &HostMessage<'_>) -> MachineResult<()> {
        self.check_room()?;
        message.append(&mut self.out).map_err(|e| MachineError::Invalid(e.to_string()))
    }

    fn check_room(&self) -> MachineResult<()> {
        if self.out.len() - self.sent > MAX_WAITING {
            return Err(MachineError::Protocol {
                peer: "the guest's agent",
                reason: "it takes nothing in".to_owned(),
            });
        }
        Ok(())
    }

    /// Sends what the guest takes now.
    pub(super) fn flush(&mut self) {
        while self.has_output() {
            match rustix::io::write(&self.socket, &self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.closed = true,
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent > ROOMY {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Reads once, and hands over what belongs to this session.
    pub(super) fn receive(&mut self, mut take: impl FnMut(GuestMessage<'_>)) {
        let mut buffer = [0; CHUNK];
        let mut input = match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) => {
                self.closed = true;
                return;
            }
            Ok(n) => &buffer[..n],
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => {
                self.closed = true;
                return;
            }
        };
        while let Some(payload) = self.decoder.next(&mut input) {
            let Ok(message) = GuestMessage::parse(payload) else { continue };
            match message {
                GuestMessage::Control(GuestControl::HelloAck { nonce, protocol, phase, .. }) => {
                    let ours = Some(Greeting { protocol, phase }).filter(|_| nonce == self.nonce);
                    self.greeting = self.greeting.take().or(ours);
                }
                // a machine that cannot come up says so before anything else
                boot @ GuestMessage::Control(GuestControl::Boot { .. }) => take(boot),
                other if self.greeting.is_some() => take(other),
                _ => {}
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    fn frame(message: &GuestMessage<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        message.append(&mut out).unwrap();
        out
    }

    fn greeting(nonce: u64) -> GuestMessage<'static> {
        GuestMessage::Control(GuestControl::HelloAck {
            nonce,
            protocol: 1,
            agent_version: "1".into(),
            phase: Phase::Booted,
        })
    }

    #[test]
    fn nothing_of_another_session_is_taken() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let mut link = Link::new(ours.into(), 7).unwrap();
        let mut taken = 0;
        let thawed = GuestMessage::Control(GuestControl::Thawed);
        guest.write_all(&[frame(&greeting(6)), frame(&thawed), b"garbage\0".to_vec()].concat()).unwrap();
        link.receive(|_| taken += 1);
        assert_eq!((taken, link.greeting()), (0, None));
        let rest = [frame(&greeting(7)), frame(&thawed), vec![1; 300_000], vec![0], frame(&thawed)].concat();
        // more than the socket holds
        let writer = std::thread::spawn(move || guest.write_all(&rest).unwrap());
        while link.is_open() {
            link.receive(|_| taken += 1);
        }
        writer.join().unwrap();
        assert_eq!((taken, link.greeting().map(|g| g.phase)), (2, Some(Phase::Booted)));
    }

    #[test]
    fn a_guest_that_takes_nothing_in_is_not_written_to_without_end() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let mut link = Link::new(ours.into(), 7).unwrap();
        link.release();
        let fed = (0..1000).take_while(|_| link.data(1, 0, &[5; 32 << 10]).is_ok()).count();
        assert!((400..600).contains(&fed), "{fed}");
        assert!(!link.is_roomy());
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            guest.read_to_end(&mut all).unwrap();
            all.len()
        });
        while link.has_output() {
            link.flush();
        }
        drop(link);
        assert!(reader.join().unwrap() > MAX_WAITING);
    }
}
