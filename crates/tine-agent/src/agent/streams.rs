//! One stream of a channel: between a message and a pipe or terminal, within the window, never blocking.

use super::link::Link;
use crate::{
    message::{Credit, Data, Eof, GuestMessage, MAX_DATA, stream},
    window::{Intake, Window},
};
use rustix::{fs::OFlags, io::Errno};
use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// End of file, typed.
const END_OF_FILE: u8 = 4;
/// A terminal hands over what was written to it a moment later; so long it may be quiet before it counts as empty.
const QUIET: Duration = Duration::from_millis(20);
/// As much as a pipe or terminal holds at most: what comes after that was written after the program's end.
const HELD: usize = 1 << 20;
/// What a read counts at least, so that somebody who goes on writing a little is not listened to for ever.
const LEAST: usize = 2 << 10;

/// What one end of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pipe,
    Terminal,
}

/// What goes into a program.
#[derive(Debug)]
pub(super) struct Input {
    fd: OwnedFd,
    kind: Kind,
    held: VecDeque<u8>,
    intake: Intake,
    ended: bool,
}

impl Input {
    pub(super) fn new(fd: OwnedFd, kind: Kind) -> rustix::io::Result<Self> {
        unblock(&fd)?;
        Ok(Self { fd, kind, held: VecDeque::new(), intake: Intake::default(), ended: false })
    }

    /// What to wait for, when there is something to pass on.
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        (!self.held.is_empty()).then(|| self.fd.as_fd())
    }

    /// Takes what the host has sent; false when it had no credit for it or had ended the stream.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        let allowed = !self.ended && self.intake.came(bytes.len()).is_ok();
        if allowed {
            self.held.extend(bytes);
        }
        allowed
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) && self.kind == Kind::Terminal {
            self.held.push_back(END_OF_FILE);
        }
    }

    /// Passes on what it can; true when the stream is over.
    pub(super) fn pass(&mut self, channel: Option<u32>, link: &mut Link) -> bool {
        let mut passed = 0;
        let reader_gone = loop {
            let (front, _) = self.held.as_slices();
            if front.is_empty() {
                break false;
            }
            match rustix::io::write(&self.fd, front) {
                Ok(n) => {
                    self.held.drain(..n);
                    passed += n;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break false,
                Err(_) => break true,
            }
        };
        let bytes = self.intake.passed_on(passed);
        if let (Some(channel), 1..) = (channel, bytes) {
            link.say(&GuestMessage::Credit(Credit { channel, stream: stream::INPUT, bytes }));
        }
        if let (Some(channel), true) = (channel, reader_gone) {
            link.say(&GuestMessage::Eof(Eof { channel, stream: stream::INPUT }));
        }
        reader_gone || (self.ended && self.held.is_empty())
    }
}

/// What comes out of a program.
#[derive(Debug)]
pub(super) struct Output {
    fd: OwnedFd,
    kind: Kind,
    stream: u8,
    window: Window,
    /// Once the program has ended: how much more is taken.
    left: Option<usize>,
    /// When a terminal that was empty counts as that.
    quiet_at: Option<Instant>,
}

/// How a stream stands after something was passed on.
#[derive(Debug, PartialEq, Eq)]
enum Passed {
    Some(usize),
    /// Nothing is there now.
    Nothing,
    /// The host has to take something first.
    Blocked,
    /// It is over.
    Ended,
}

impl Output {
    pub(super) fn new(fd: OwnedFd, kind: Kind, stream: u8) -> rustix::io::Result<Self> {
        unblock(&fd)?;
        Ok(Self { fd, kind, stream, window: Window::default(), left: None, quiet_at: None })
    }

    /// What to wait for. Nothing while the host takes nothing: a closed pipe would be reported for ever. Nobody's
    /// output is taken all the same.
    pub(super) fn interest(&self, channel: Option<u32>, link: &Link) -> Option<BorrowedFd<'_>> {
        (self.room(channel, link) > 0).then(|| self.fd.as_fd())
    }

    pub(super) fn stream(&self) -> u8 {
        self.stream
    }

    /// When a drained terminal is to be looked at again; not while nothing of it could be passed on.
    pub(super) fn deadline(&self, channel: Option<u32>, link: &Link) -> Option<Instant> {
        self.quiet_at.filter(|_| self.room(channel, link) > 0)
    }

    /// The host has taken in so many bytes; a host that cannot count does itself no good.
    pub(super) fn returned(&mut self, stream: u8, bytes: u32) {
        if self.stream == stream {
            let _ = self.window.returned(bytes);
        }
    }

    fn room(&self, channel: Option<u32>, link: &Link) -> usize {
        match channel {
            None => MAX_DATA,
            Some(_) if !link.has_room() => 0,
            Some(_) => self.window.available().min(MAX_DATA),
        }
    }

    /// Passes on one piece; true when the stream is over.
    pub(super) fn pass(&mut self, channel: Option<u32>, link: &mut Link, buffer: &mut [u8]) -> bool {
        self.step(channel, link, buffer) == Passed::Ended
    }

    /// The program has ended: passes on what it had written. True when that is done.
    pub(super) fn drain(&mut self, channel: Option<u32>, link: &mut Link, buffer: &mut [u8]) -> bool {
        let mut left = self.left.unwrap_or(HELD);
        loop {
            match self.step(channel, link, buffer) {
                Passed::Some(n) => left = left.saturating_sub(n.max(LEAST)),
                Passed::Nothing if self.is_empty_for_good() => left = 0,
                Passed::Ended => return true,
                Passed::Nothing | Passed::Blocked => break,
            }
            if left == 0 {
                self.say_end(channel, link);
                return true;
            }
        }
        self.left = Some(left);
        false
    }

    /// Nothing was there: the truth for a pipe, for a terminal only after a while.
    fn is_empty_for_good(&mut self) -> bool {
        let now = Instant::now();
        self.kind == Kind::Pipe || *self.quiet_at.get_or_insert(now + QUIET) <= now
    }

    fn step(&mut self, channel: Option<u32>, link: &mut Link, buffer: &mut [u8]) -> Passed {
        let room = self.room(channel, link).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            return Passed::Blocked;
        };
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(n @ 1..) => {
                self.quiet_at = None;
                if let (Some(channel), Some(bytes)) = (channel, buffer.get(..n)) {
                    self.window.sent(n);
                    link.say(&GuestMessage::Data(Data { channel, stream: self.stream, bytes }));
                }
                Passed::Some(n)
            }
            Err(Errno::AGAIN | Errno::INTR) => Passed::Nothing,
            // A terminal that no program holds open any more is an error, not an end.
            Ok(0) | Err(_) => {
                self.say_end(channel, link);
                Passed::Ended
            }
        }
    }

    fn say_end(&self, channel: Option<u32>, link: &mut Link) {
        if let Some(channel) = channel {
            link.say(&GuestMessage::Eof(Eof { channel, stream: self.stream }));
        }
    }
}

/// Makes this side's end of a pipe or terminal one that never blocks; the program's end is another.
pub(super) fn unblock(fd: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
