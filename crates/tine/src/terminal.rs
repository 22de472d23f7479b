//! The user's own terminal and standard streams: raw mode that is always undone, the window's size, copies of the
//! streams for a program in a box, and a reader that hears when it should stop.

use crate::{failure::local_error, interrupt::Interrupt};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{self, OptionalActions, Termios},
};
use std::{
    io::{self, IsTerminal as _, Read, Seek, SeekFrom},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tine_model::{Result, WindowSize};

/// How often a waiting reader looks whether it should stop.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The terminal in raw mode; given back as it was when dropped.
///
/// Clones share the terminal: whichever goes first gives it back, so that the thread that hears a signal can.
#[derive(Debug, Clone)]
pub struct RawMode(Arc<Mutex<Option<Termios>>>);

impl RawMode {
    /// Puts the terminal on stdin into raw mode: each key goes to the program inside at once, Ctrl-C included.
    pub fn enter() -> Result<Self> {
        let failed = |e: rustix::io::Errno| local_error("setting up", Path::new("the terminal"), &e.into());
        let before = termios::tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        let mode = Self(Arc::new(Mutex::new(Some(before))));
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(mode)
    }

    /// Gives the terminal back; later calls do nothing.
    pub fn leave(&self) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            // a terminal that has hung up cannot be given back
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }
}

/// Leaves raw mode at the end of a scope, also when that is a panic.
#[derive(Debug)]
pub struct LeaveOnDrop(pub RawMode);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Whether stdin is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// The size of the window behind stdin; 24 by 80 when it does not say.
pub fn window_size() -> WindowSize {
    match termios::tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            WindowSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => WindowSize { rows: 24, columns: 80 },
    }
}

/// A second descriptor of one of this process's streams.
pub fn copy_of(stream: impl AsFd, name: &str) -> Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned().map_err(|e| local_error("copying", Path::new(name), &e))
}

/// A reader that never waits longer than a moment without looking whether it should stop.
#[derive(Debug)]
pub struct Patient<R> {
    inner: R,
    interrupt: Interrupt,
}

impl<R: Read + AsFd> Patient<R> {
    /// Reads `inner`, which must not buffer, until `interrupt` is set.
    pub fn new(inner: R, interrupt: Interrupt) -> Self {
        Self { inner, interrupt }
    }

    fn wait(&self) -> io::Result<()> {
        loop {
            if self.interrupt.is_set() {
                return Err(io::Error::other("stopped by the user"));
            }
            let mut fds = [PollFd::new(&self.inner, PollFlags::IN)];
            match poll(&mut fds, Some(&PATIENCE)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        self.inner.read(buffer)
    }
}

impl<R: Seek> Seek for Patient<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_patient_reader_reads_to_the_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let thread = std::thread::spawn(move || writer.write_all(&[7; 100_000]).unwrap());
        let mut bytes = Vec::new();
        Patient::new(reader, Interrupt::default()).read_to_end(&mut bytes).unwrap();
        thread.join().unwrap();
        assert_eq!(bytes.len(), 100_000);
    }

    #[test]
    fn a_patient_reader_stops_waiting_when_asked() {
        let (reader, _writer) = io::pipe().unwrap();
        let interrupt = Interrupt::default();
        let setter = interrupt.clone();
        let thread = std::thread::spawn(move || setter.set());
        let error = Patient::new(reader, interrupt).read(&mut [0; 8]).unwrap_err();
        thread.join().unwrap();
        assert_ne!(error.kind(), io::ErrorKind::Interrupted, "a reader would try again");
    }
}
