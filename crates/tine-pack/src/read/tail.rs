//! The last bytes of a stream, by which a pack of the third layout is known to be whole: its table of frames ends it.

use crate::{
    error::{PackError, Result},
    frames::SeekTable,
};
use std::{
    io::{self, Read},
    sync::{Mutex, PoisonError},
};

/// The last bytes that were read, oldest first.
pub(super) type Last = Mutex<[u8; SeekTable::FOOTER]>;

/// Reads a stream and remembers its last bytes.
pub(super) struct Tail<'a> {
    input: &'a mut (dyn Read + Send),
    last: &'a Last,
}

impl<'a> Tail<'a> {
    pub fn new(input: &'a mut (dyn Read + Send), last: &'a Last) -> Self {
        Self { input, last }
    }
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        let fresh = bytes.get(read.saturating_sub(SeekTable::FOOTER)..).unwrap_or_default();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.rotate_left(fresh.len());
        last.iter_mut().rev().zip(fresh.iter().rev()).for_each(|(to, from)| *to = *from);
        Ok(read)
    }
}

/// Whether the stream, which has been read to its end, ends in a table of frames.
pub(super) fn check(last: &Last) -> Result<()> {
    let footer = *last.lock().unwrap_or_else(PoisonError::into_inner);
    SeekTable::length(footer).map(|_| ()).map_err(|_| {
        PackError::malformed("the pack is cut off or damaged: it does not end in its table of frames")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives as many bytes at a time as told.
    struct Steps<'a>(&'a [u8], usize);

    impl Read for Steps<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let step = self.1.min(buffer.len());
            self.0.read(&mut buffer[..step])
        }
    }

    #[test]
    fn the_last_bytes_are_kept_however_they_come() {
        let content: Vec<u8> = (0..100).collect();
        for step in [1, 2, 8, 9, 10, 64] {
            let last = Mutex::default();
            let mut input = Steps(&content, step);
            io::copy(&mut Tail::new(&mut input, &last), &mut io::sink()).unwrap();
            assert_eq!(last.lock().unwrap()[..], content[91..], "{step}");
        }
    }
}
