//! Gzip as files have it: several members one after another.

use super::damaged;
use std::io::{self, BufRead, Read};

/// Any number of gzip members; zeros may follow the last, as tapes and block devices have them, nothing else.
pub(super) struct Gzip<R> {
    state: GzipState<R>,
}

enum GzipState<R> {
    Member(Box<flate2::bufread::GzDecoder<R>>),
    Ended,
}

impl<R: BufRead> Gzip<R> {
    pub(super) fn new(input: R) -> Self {
        Self { state: GzipState::Member(Box::new(flate2::bufread::GzDecoder::new(input))) }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let GzipState::Member(decoder) = &mut self.state else { return Ok(0) };
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let GzipState::Member(decoder) = std::mem::replace(&mut self.state, GzipState::Ended) else {
                return Ok(0);
            };
            let mut input = decoder.into_inner();
            match input.fill_buf()?.first() {
                None => {}
                Some(0x1f) => *self = Self::new(input),
                Some(_) => only_zeros(input)?,
            }
        }
    }
}

fn only_zeros(mut input: impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.iter().any(|b| *b != 0) {
            return Err(damaged("there is other data after the compressed stream"));
        }
        match buffer.len() {
            0 => return Ok(()),
            n => input.consume(n),
        }
    }
}
