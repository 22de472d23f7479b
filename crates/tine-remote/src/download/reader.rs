//! Reading a file that is still coming. Waits, checks the digest on the way, never reads what is not here.

use super::state::{Readable, Shared};
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    sync::Arc,
};
use tine_model::Sha256Digest;

/// A reader of a [`super::Download`] from its beginning, or of the parts that are wanted of it, one after the other.
///
/// Blocks until bytes are here. Fails when the download failed, when the file changed at the server after some of it was
/// read, and, where a digest is expected, at the last bytes instead of giving them when it is another one.
#[derive(Debug)]
pub struct GrowingReader {
    shared: Arc<Shared>,
    at: u64,
    generation: Option<u64>,
    hasher: Option<Sha256>,
    /// The parts that are not wholly read; none where all is wanted.
    parts: Option<VecDeque<Range<u64>>>,
}

impl GrowingReader {
    pub(super) fn new(shared: Arc<Shared>, parts: Option<Vec<Range<u64>>>) -> Self {
        let hasher = parts.is_none().then(Sha256::new);
        let parts = parts.map(VecDeque::from);
        let at = parts.as_ref().and_then(|parts| parts.front()).map_or(0, |part| part.start);
        shared.begin_reading();
        Self { shared, at, generation: None, hasher, parts }
    }

    /// Where what is wanted here ends, once the reader is in it; none after the last part.
    fn end(&mut self) -> Option<u64> {
        let Some(parts) = &mut self.parts else { return Some(u64::MAX) };
        while parts.front().is_some_and(|part| part.end <= self.at) {
            parts.pop_front();
            self.at = parts.front().map_or(self.at, |part| part.start);
        }
        parts.front().map(|part| part.end)
    }

    /// The file is one file: what was read before must be of it.
    fn same(&mut self, generation: u64) -> io::Result<()> {
        if self.at == 0 {
            self.generation = Some(generation);
        }
        if *self.generation.get_or_insert(generation) == generation {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the file changed at the server while it was read"))
    }

    /// Compares the digest once all is read.
    fn check(&mut self, expected: Option<Sha256Digest>) -> io::Result<()> {
        let (Some(expected), Some(hasher)) = (expected, self.hasher.take()) else { return Ok(()) };
        if Sha256Digest(hasher.finalize().into()) == expected {
            return Ok(());
        }
        self.shared.spoil();
        Err(io::Error::new(io::ErrorKind::InvalidData, "the SHA-256 of what was fetched is another one"))
    }

    fn take(&mut self, buffer: &mut [u8], readable: &Readable) -> io::Result<usize> {
        let left = usize::try_from(readable.upto.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let got = match &readable.piece {
            Some(piece) => piece.bytes_from(self.at).read(part)?,
            None => readable.file.file().read_at(part, self.at)?,
        };
        // nothing of an older file is given out as of the newer
        self.same(self.shared.generation())?;
        let part = part.get(..got).unwrap_or_default();
        match (&mut self.hasher, readable.digest) {
            (Some(hasher), Some(_)) => hasher.update(part),
            // the digest was known before the first byte was, or never will be
            _ => self.hasher = None,
        }
        self.at += got as u64;
        Ok(got)
    }
}

impl Drop for GrowingReader {
    fn drop(&mut self) {
        self.shared.end_reading();
    }
}

impl Read for GrowingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(end) = self.end() else { return Ok(0) };
        let mut readable = self.shared.wait_readable(self.at)?;
        readable.upto = readable.upto.min(end);
        self.same(readable.generation)?;
        let got = if readable.upto > self.at { self.take(buffer, &readable)? } else { 0 };
        if got == 0 && self.parts.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file ends before a part that is wanted",
            ));
        }
        if got == 0 || readable.size == Some(self.at) {
            self.check(readable.digest)?;
        }
        Ok(got)
    }
}
