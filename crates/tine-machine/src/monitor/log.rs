//! The log of a box's background programs: `log`, and `log.1` before it.
//!
//! What comes is the box's and goes into the file as it is. A log that cannot be written loses lines, never the box.

use super::unblocked;
use crate::{
    error::{MachineError, MachineResult},
    rundir::open_dir,
};
use rustix::fs::{Mode, OFlags};
use std::{os::fd::OwnedFd, path::Path};

/// A log larger than this becomes `log.1`, in bytes.
const MAX_LOG: u64 = 10 << 20;
/// Read at a time, so that a box that floods its log does not keep the monitor from its other work.
const CHUNK: usize = 16 << 10;

/// An open log.
pub(crate) struct Log {
    dir: OwnedFd,
    name: &'static str,
    pipe: Option<OwnedFd>,
    file: Option<OwnedFd>,
    size: u64,
}

impl Log {
    /// The log of this name in the directory `dir`; its file is made with the first line.
    pub(crate) fn open(dir: &Path, name: &'static str) -> MachineResult<Self> {
        Ok(Self { dir: open_dir(dir)?, name, pipe: None, file: None, size: 0 })
    }

    /// The same log, with the pipe whose bytes go into it.
    pub(crate) fn fed_by(mut self, pipe: OwnedFd) -> MachineResult<Self> {
        self.pipe = Some(unblocked(pipe)?);
        Ok(self)
    }

    /// What to poll for bytes to come.
    pub(crate) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// Moves one chunk from the pipe to the file; false when there was none.
    pub(crate) fn take_chunk(&mut self) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut buffer = [0; CHUNK];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(n) => {
                let _ = self.append(&buffer[..n]);
                return true;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
        false
    }

    /// Moves what is left in the pipe, at most what it can hold.
    pub(crate) fn drain(&mut self) {
        for _ in 0..(1 << 20) / CHUNK {
            if !self.take_chunk() {
                return;
            }
        }
    }

    /// Writes at its end; a full log becomes the former one first.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> MachineResult<()> {
        if self.size + bytes.len() as u64 > MAX_LOG {
            self.file = None;
            rustix::fs::renameat(&self.dir, self.name, &self.dir, format!("{}.1", self.name))
                .map_err(|e| MachineError::io("rotate", "log", e))?;
        }
        let file = self.file()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = rustix::io::write(file, rest).map_err(|e| MachineError::io("write", "log", e))?;
            rest = &rest[n..];
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn file(&mut self) -> MachineResult<&OwnedFd> {
        if self.file.is_none() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(&self.dir, self.name, flags, Mode::from_raw_mode(0o600))
                .map_err(|e| MachineError::io("open", "log", e))?;
            let stat = rustix::fs::fstat(&file).map_err(|e| MachineError::io("look at", "log", e))?;
            self.size = u64::try_from(stat.st_size).unwrap_or(0);
            self.file = Some(file);
        }
        self.file.as_ref().ok_or(MachineError::NotRunning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_becomes_the_former_one_and_nothing_between_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path(), "log").unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..25 {
            log.append(&line).unwrap();
        }
        let size = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().len();
        assert_eq!((size("log"), size("log.1")), (5 << 20, 10 << 20));
    }

    #[test]
    fn a_log_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for word in ["one\n", "two\n"] {
            Log::open(dir.path(), "log").unwrap().append(word.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "one\ntwo\n");
    }
}
