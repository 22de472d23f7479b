//! The guest's end of the link: what waits to be sent, and whether anybody is there.
//!
//! Never blocks. What waits is bounded: when the host does not read, whatever would add to it is not begun.

use crate::message::{GuestControl, GuestMessage};
use rustix::{fs::OFlags, io::Errno};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// Output of programs is taken up to here, in bytes.
const ENOUGH: usize = 256 << 10;
/// Beyond this the host's messages, which may call for answers, are not taken either.
const TOO_MUCH: usize = 1 << 20;
/// How often a host that is gone is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How a read from the link went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// So many bytes.
    Bytes(usize),
    /// Nothing at the moment.
    Nothing,
    /// Nobody holds the other end at the moment.
    Nobody,
}

/// The link.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
    waiting: Vec<u8>,
    /// How much of `waiting` has been sent.
    sent: usize,
    /// When a host that is gone is looked for again.
    absent_until: Option<Instant>,
}

impl Link {
    pub(super) fn new(fd: OwnedFd) -> rustix::io::Result<Self> {
        rustix::fs::fcntl_setfl(&fd, rustix::fs::fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Self { fd, waiting: Vec::new(), sent: 0, absent_until: None })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Puts a message behind what waits. One that does not fit a frame is none this side makes.
    pub(super) fn say(&mut self, message: &GuestMessage<'_>) {
        let _ = message.append(&mut self.waiting);
    }

    pub(super) fn tell(&mut self, control: GuestControl) {
        self.say(&GuestMessage::Control(control));
    }

    /// Forgets what waits. What was sent of it may end within a frame, and is made a broken one.
    pub(super) fn restart(&mut self) {
        self.waiting.clear();
        self.sent = 0;
        self.waiting.push(crate::frame::END);
    }

    /// True while output of programs may be added.
    pub(super) fn has_room(&self) -> bool {
        self.left() < ENOUGH
    }

    /// True while the host may ask for something.
    pub(super) fn may_listen(&self) -> bool {
        self.left() < TOO_MUCH
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.left() > 0
    }

    fn left(&self) -> usize {
        self.waiting.len() - self.sent
    }

    /// When to look again for a host that is gone.
    pub(super) fn absent_until(&self) -> Option<Instant> {
        self.absent_until
    }

    /// Once it is time, a host that was gone may be there again.
    pub(super) fn look_again(&mut self) {
        let _ = self.absent_until.take_if(|then| *then <= Instant::now());
    }

    /// Nobody holds the other end; always true.
    pub(super) fn hang_up(&mut self) -> bool {
        self.absent_until = Some(Instant::now() + LOOK_AGAIN);
        true
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Came {
        match rustix::io::read(&self.fd, buffer) {
            Ok(n @ 1..) => Came::Bytes(n),
            Err(Errno::AGAIN | Errno::INTR) => Came::Nothing,
            Ok(0) | Err(_) => {
                self.hang_up();
                Came::Nobody
            }
        }
    }

    /// Sends as much of what waits as there is room for.
    pub(super) fn flush(&mut self) {
        while let Some(rest) = self.waiting.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match rustix::io::write(&self.fd, rest) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if self.left() == 0 {
            self.waiting.clear();
            self.sent = 0;
        } else if self.sent > ENOUGH {
            self.waiting.drain(..self.sent);
            self.sent = 0;
        }
    }
}
