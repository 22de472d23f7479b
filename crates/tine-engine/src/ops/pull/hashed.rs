//! The digest of a stream, taken as it passes.

use sha2::{Digest as _, Sha256};
use std::io::{self, Read};
use tine_model::Sha256Digest;

/// A stream that is read from its beginning, and the plain SHA-256 of what came.
pub(super) struct Hashed<R> {
    input: R,
    hasher: Sha256,
    ended: bool,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, hasher: Sha256::new(), ended: false }
    }

    /// The digest of the whole stream.
    ///
    /// # Errors
    /// The stream was not read to its end.
    pub(super) fn digest(self) -> io::Result<Sha256Digest> {
        match self.ended {
            true => Ok(Sha256Digest(self.hasher.finalize().into())),
            false => Err(io::Error::other("it was not read to its end")),
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_that_was_read_to_its_end_has_a_digest() {
        let mut input = Hashed::new(&b"abc"[..]);
        let mut buffer = [0; 3];
        assert_eq!((input.read(&mut buffer).unwrap(), input.read(&mut []).unwrap()), (3, 0));
        assert!(input.digest().is_err());
        let mut input = Hashed::new(&b"abc"[..]);
        io::copy(&mut input, &mut io::sink()).unwrap();
        let wanted = Sha256Digest(Sha256::digest(b"abc").into());
        assert_eq!(input.digest().unwrap(), wanted);
    }
}
