//! A file that is written from front to back and reaches the disk meanwhile, so that making it durable at the end is short.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};
use tine_sys::btrfs::begin_write_back;

/// How much is sent to the disk at once.
const STEP: u64 = 8 << 20;

/// Writes to a file from where it stands.
pub(crate) struct Flowing<'f> {
    file: &'f File,
    /// How much is not on its way yet.
    waiting: u64,
}

impl<'f> Flowing<'f> {
    pub fn new(file: &'f File) -> Self {
        Self { file, waiting: 0 }
    }
}

impl Write for Flowing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.waiting += written as u64;
        if self.waiting >= STEP {
            begin_write_back(self.file.as_fd());
            self.waiting = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
