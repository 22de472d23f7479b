//! Copying one stream between the caller and the box without ever waiting for the box.

use crate::error::{MachineError, MachineResult};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use std::os::fd::OwnedFd;

/// Bytes copied at a time: what a pipe holds.
const CHUNK: usize = 64 << 10;
/// A terminal hands over what was written to it a moment later; so long it may be quiet before it counts as empty.
const TERMINAL_QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// End of file, typed.
const END_OF_FILE: u8 = 4;
/// As much as a pipe or terminal holds at most: what comes after that was written after the program's end.
const HELD: usize = 1 << 20;
/// What a chunk counts at least, so that somebody who goes on writing a little is not listened to for ever.
const LEAST_CHUNK: usize = 2 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// From the caller into a pipe of ours.
    In,
    /// From a pipe of ours to the caller.
    Out,
    /// From the caller into the master of a terminal.
    Typed,
    /// From the master of a terminal to the caller.
    Shown,
}

impl Kind {
    fn is_from_box(self) -> bool {
        matches!(self, Self::Out | Self::Shown)
    }
}

/// One direction of copying.
#[derive(Debug)]
pub(super) struct Pump {
    kind: Kind,
    ends: Option<(OwnedFd, OwnedFd)>,
    buffer: Vec<u8>,
    written: usize,
    at_end: bool,
    failure: Option<Errno>,
}

impl Pump {
    /// Copies what the caller gives into a pipe's writing end.
    pub(super) fn into_box(from: OwnedFd, to: OwnedFd) -> MachineResult<Self> {
        unblock(&to)?;
        Ok(Self::new(Kind::In, from, to))
    }

    /// Copies what comes out of a pipe's reading end to the caller.
    pub(super) fn out_of_box(from: OwnedFd, to: OwnedFd) -> MachineResult<Self> {
        unblock(&from)?;
        Ok(Self::new(Kind::Out, from, to))
    }

    /// Types what the caller gives into a terminal.
    pub(super) fn into_terminal(from: OwnedFd, master: OwnedFd) -> MachineResult<Self> {
        unblock(&master)?;
        Ok(Self::new(Kind::Typed, from, master))
    }

    /// Shows the caller what a terminal shows.
    pub(super) fn out_of_terminal(master: OwnedFd, to: OwnedFd) -> MachineResult<Self> {
        unblock(&master)?;
        Ok(Self::new(Kind::Shown, master, to))
    }

    fn new(kind: Kind, from: OwnedFd, to: OwnedFd) -> Self {
        Self { kind, ends: Some((from, to)), buffer: Vec::new(), written: 0, at_end: false, failure: None }
    }

    /// False when there is nothing more to copy.
    pub(super) fn is_open(&self) -> bool {
        self.ends.is_some()
    }

    /// Why the caller could not be given what the program wrote. One who no longer listens is none.
    pub(super) fn failure(&self) -> Option<Errno> {
        self.failure.filter(|reason| self.kind.is_from_box() && *reason != Errno::PIPE)
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Option<PollFd<'_>> {
        let (from, to) = self.ends.as_ref()?;
        Some(if self.is_empty() { PollFd::new(from, PollFlags::IN) } else { PollFd::new(to, PollFlags::OUT) })
    }

    fn is_empty(&self) -> bool {
        self.written == self.buffer.len()
    }

    /// Copies as much as there is room for now.
    pub(super) fn step(&mut self) {
        let done = if self.is_empty() { self.read() } else { Ok(true) };
        match done.and_then(|some| if some { self.write() } else { Ok(()) }) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.ends = None,
        }
    }

    /// Fills the buffer; false when nothing is there.
    fn read(&mut self) -> Result<bool, Errno> {
        let Some((from, _)) = &self.ends else { return Ok(false) };
        self.buffer.resize(CHUNK, 0);
        self.written = 0;
        let read = rustix::io::read(from, &mut self.buffer);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        if read? > 0 {
            return Ok(true);
        }
        if self.kind == Kind::Typed && !self.at_end {
            self.at_end = true;
            self.buffer.push(END_OF_FILE);
            return Ok(true);
        }
        self.ends = None;
        Ok(false)
    }

    /// Writes once, so that a caller who reads slowly holds up nothing else for long.
    fn write(&mut self) -> Result<(), Errno> {
        let Some((_, to)) = &self.ends else { return Ok(()) };
        let wrote = rustix::io::write(to, &self.buffer[self.written..]);
        self.failure = wrote.err().filter(|reason| !matches!(*reason, Errno::AGAIN | Errno::INTR));
        self.written += wrote?;
        if self.is_empty() && self.at_end {
            self.ends = None;
        }
        Ok(())
    }

    /// The program has ended: passes on what it had written and closes. Input that is left has no reader.
    pub(super) fn finish(&mut self) {
        let mut left = if self.kind.is_from_box() { HELD } else { 0 };
        while left > 0 && self.is_open() && (!self.is_empty() || self.has_more()) {
            let fetches = self.is_empty();
            self.step();
            if fetches {
                left = left.saturating_sub(self.buffer.len().max(LEAST_CHUNK));
            }
        }
        self.flush();
        self.ends = None;
    }

    fn flush(&mut self) {
        while self.is_open() && !self.is_empty() && self.kind.is_from_box() {
            self.step();
        }
    }

    fn has_more(&self) -> bool {
        let Some((from, _)) = &self.ends else { return false };
        let quiet =
            if self.kind == Kind::Shown { TERMINAL_QUIET } else { Timespec { tv_sec: 0, tv_nsec: 0 } };
        rustix::event::poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&quiet)).is_ok_and(|n| n > 0)
    }
}

fn unblock(fd: &OwnedFd) -> MachineResult<()> {
    rustix::io::ioctl_fionbio(fd, true).map_err(|e| MachineError::io("set up", "stream", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        io::{Read, Write},
    };

    #[test]
    fn what_was_written_arrives_though_the_pipe_stays_open() {
        let (from, mut program) = std::io::pipe().unwrap();
        let (mut caller, to) = std::io::pipe().unwrap();
        let mut pump = Pump::out_of_box(from.into(), to.into()).unwrap();
        program.write_all(&[7; 60_000]).unwrap();
        pump.finish();
        assert!(!pump.is_open());
        let mut got = Vec::new();
        caller.read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), 60_000);
        drop(program);
    }

    #[test]
    fn output_that_cannot_be_written_is_not_lost_silently() {
        let (from, mut program) = std::io::pipe().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut pump = Pump::out_of_box(from.into(), full.into()).unwrap();
        program.write_all(b"lost").unwrap();
        pump.finish();
        assert_eq!(pump.failure(), Some(Errno::NOSPC));
        let (from, mut program) = std::io::pipe().unwrap();
        let (caller, to) = std::io::pipe().unwrap();
        let mut pump = Pump::out_of_box(from.into(), to.into()).unwrap();
        drop(caller);
        program.write_all(b"nobody listens").unwrap();
        pump.finish();
        assert_eq!(pump.failure(), None);
    }

    #[test]
    fn somebody_who_goes_on_writing_is_not_listened_to_for_ever() {
        let (from, mut program) = std::io::pipe().unwrap();
        let (mut caller, to) = std::io::pipe().unwrap();
        let writer = std::thread::spawn(move || while program.write_all(&[7; 4096]).is_ok() {});
        let reader = std::thread::spawn(move || std::io::copy(&mut caller, &mut std::io::sink()));
        let mut pump = Pump::out_of_box(from.into(), to.into()).unwrap();
        pump.finish();
        assert!(!pump.is_open());
        writer.join().unwrap();
        assert!(reader.join().unwrap().unwrap() <= 2 << 20);
    }

    #[test]
    fn input_ends_when_the_callers_does_and_waits_for_no_reader() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 200_000]).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let (mut program, to) = std::io::pipe().unwrap();
        let mut pump = Pump::into_box(File::into(file), to.into()).unwrap();
        for _ in 0..10 {
            pump.step();
        }
        assert!(pump.is_open());
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            program.read_to_end(&mut got).map(|_| got.len())
        });
        while pump.is_open() {
            pump.step();
        }
        assert_eq!(reader.join().unwrap().unwrap(), 200_000);
    }
}
