//! The tar inside a pack: headers, padding, the end mark. Knows nothing of compression.

use crate::error::{PackError, Result};
use std::io::Write;
use tine_archive::{BLOCK, GnuFile, SparseMap};

/// Zeros for padding and the end mark.
static ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Writes members, their content in between, to a stream.
pub(super) struct TarFile<W> {
    pub out: W,
    mtime: u64,
}

impl<W: Write> TarFile<W> {
    /// Every member gets the time `mtime`.
    pub fn new(out: W, mtime: u64) -> Self {
        Self { out, mtime }
    }

    /// Begins a regular file of `size` bytes.
    pub fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        self.put(&GnuFile { name, mtime: self.mtime }.regular(size))
    }

    /// Begins a sparse file.
    pub fn begin_sparse(&mut self, name: &str, map: &SparseMap) -> Result<()> {
        self.put(&GnuFile { name, mtime: self.mtime }.sparse(map))
    }

    /// Content of the file that was begun.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| PackError::of_stream("write", "the pack", e))
    }

    /// Ends a file with `stored` bytes in the tar.
    pub fn end(&mut self, stored: u64) -> Result<()> {
        self.put(ZEROS.get(..padding(stored)).unwrap_or_default())
    }

    /// A file with its whole content.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.begin(name, content.len() as u64)?;
        self.put(content)?;
        self.end(content.len() as u64)
    }

    /// The end mark; gives the stream.
    pub fn close(mut self) -> Result<W> {
        self.put(&ZEROS)?;
        Ok(self.out)
    }
}

/// Zeros after content of `stored` bytes.
pub(super) fn padding(stored: u64) -> usize {
    let block = BLOCK as u64;
    // less than a block
    ((block - stored % block) % block) as usize
}

/// The time of every member: that of the pack, as a tar can say it.
pub(super) fn mtime(created_at: tine_model::Timestamp) -> u64 {
    u64::try_from(created_at.as_second()).unwrap_or(0)
}
