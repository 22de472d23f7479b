//! A file that is written from front to back and reaches the disk meanwhile, so that making it durable at the end is short.

use rustix::fs::{Advice, fadvise};
use std::{
    fs::File,
    io::{self, Write},
    num::NonZeroU64,
};

/// How much is sent to the disk at once.
const STEP: u64 = 8 << 20;

/// Writes to a file from where it stands.
pub(crate) struct Flowing<'f> {
    file: &'f File,
    /// Where what is not on its way yet begins, and how long it is.
    from: u64,
    waiting: u64,
}

impl<'f> Flowing<'f> {
    /// Begins at `from`, which is where the file stands.
    pub fn new(file: &'f File, from: u64) -> Self {
        Self { file, from, waiting: 0 }
    }
}

impl Write for Flowing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.waiting += written as u64;
        if self.waiting >= STEP {
            // begins to write back what is dirty there and waits for nothing (posix_fadvise(2), Linux's mm/fadvise.c);
            // only advice, so that what comes of it does not matter
            let _ = fadvise(self.file, self.from, NonZeroU64::new(self.waiting), Advice::DontNeed);
            self.from += self.waiting;
            self.waiting = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
