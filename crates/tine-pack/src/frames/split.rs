//! Cuts a stored stream into its frames.
//!
//! A frame that says it holds little is handed on as it is, to be decompressed by whoever is free; another is
//! decompressed here, piece by piece.

use super::{
    FRAME_MAX,
    format::{BLOCK_HEADER, HEADER_MAX, Header, Start, block, cut_off, start},
};
use crate::error::{PackError, Result};
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// The most stored bytes of a frame that is handed on: its content as it is, and the headers of many small blocks.
pub(super) const STORED_MAX: usize = FRAME_MAX + (256 << 10);

/// The most stored bytes in a row that give no content; a table of frames is not longer.
const IDLE_MAX: u64 = 16 << 20;
/// Bytes asked of the input at once.
const BUFFER: usize = 256 << 10;
/// How much a piece holds at least, unless its frame ends.
const PIECE: usize = 1 << 20;
/// [`super::WINDOW_MAX`] as a power of two.
const WINDOW_LOG_MAX: u32 = 23;

/// What comes next in a stream.
pub(super) enum Part {
    /// A whole frame that holds so many bytes of content; its stored bytes are in the buffer.
    Frame(usize),
    /// The content of a part of a large frame is in the buffer.
    Piece,
    /// Nothing.
    End,
}

/// A stored stream and how far it has been cut.
pub(super) struct Splitter<R> {
    input: Input<R>,
    /// The decoder of the large frame that has begun.
    large: Option<DCtx<'static>>,
    begun: bool,
}

impl<R: Read> Splitter<R> {
    /// Cuts what comes from `input`; counts in `consumed` what has been read of it.
    pub fn new(input: R, consumed: Arc<AtomicU64>) -> Self {
        let buffer = vec![0; BUFFER];
        let input = Input { input, buffer, start: 0, end: 0, idle: 0, consumed };
        Self { input, large: None, begun: false }
    }

    /// The next part, put into `stored` or `content`, which are empty.
    pub fn next(&mut self, stored: &mut Vec<u8>, content: &mut Vec<u8>) -> Result<Part> {
        loop {
            if let Some(part) = self.piece(content)? {
                return Ok(part);
            }
            let head = self.input.peek(HEADER_MAX)?;
            if head.is_empty() {
                return if self.begun { Ok(Part::End) } else { Err(cut_off()) };
            }
            let start = start(head)?;
            self.begun = true;
            match (start, small(&start)) {
                (Start::Frame(header), Some(content)) => {
                    self.whole(&header, stored)?;
                    self.input.gave(content);
                    return Ok(Part::Frame(content));
                }
                (Start::Frame(_), None) => self.large = Some(decoder()?),
                (Start::Skippable(length), _) => self.input.skip(8 + u64::from(length))?,
            }
        }
    }

    /// Moves a whole frame, whose last block is found from block to block.
    fn whole(&mut self, header: &Header, stored: &mut Vec<u8>) -> Result<()> {
        self.input.append(header.length, stored)?;
        loop {
            let head = *self.input.peek(BLOCK_HEADER)?.first_chunk().ok_or_else(cut_off)?;
            let (length, last) = block(head)?;
            self.input.append(BLOCK_HEADER + length, stored)?;
            if last {
                break;
            }
        }
        let checksum = if header.checksum { 4 } else { 0 };
        self.input.append(checksum, stored)
    }

    /// The next piece of the large frame; none when there is none, or no more of it.
    fn piece(&mut self, content: &mut Vec<u8>) -> Result<Option<Part>> {
        let Some(decoder) = &mut self.large else { return Ok(None) };
        if decode(&mut self.input, decoder, content)? {
            self.large = None;
        }
        Ok((!content.is_empty()).then_some(Part::Piece))
    }
}

/// The size of a frame's content, where it says one that is handed on whole.
fn small(start: &Start) -> Option<usize> {
    let Start::Frame(header) = start else { return None };
    usize::try_from(header.content?).ok().filter(|content| *content <= FRAME_MAX)
}

fn decoder() -> Result<DCtx<'static>> {
    let mut decoder =
        DCtx::try_create().ok_or_else(|| PackError::malformed("no memory for a zstd decoder"))?;
    decoder.reset(ResetDirective::SessionOnly).map_err(damaged)?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
    Ok(decoder)
}

/// Decompresses up to [`PIECE`] bytes or a little more; true at the frame's end.
fn decode<R: Read>(input: &mut Input<R>, decoder: &mut DCtx<'_>, content: &mut Vec<u8>) -> Result<bool> {
    let mut output = OutBuffer::around(content);
    while output.pos() < PIECE {
        let before = output.pos();
        let available = input.peek(1)?;
        let ended = available.is_empty();
        let mut from = InBuffer::around(available);
        let hint = decoder.decompress_stream(&mut output, &mut from).map_err(damaged)?;
        let taken = from.pos;
        input.pass(taken)?;
        input.gave(output.pos() - before);
        if hint == 0 {
            return Ok(true);
        }
        if ended && output.pos() == before {
            return Err(cut_off());
        }
    }
    Ok(false)
}

/// The error for what zstd's code says.
pub(super) fn damaged(code: usize) -> PackError {
    PackError::malformed(format!("a zstd frame is damaged: {}", zstd::zstd_safe::get_error_name(code)))
}

/// Bytes of the input that have been read and not yet understood.
struct Input<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes taken since the last content.
    idle: u64,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Input<R> {
    /// The next bytes, `wanted` or more; fewer only at the end.
    fn peek(&mut self, wanted: usize) -> Result<&[u8]> {
        while self.end - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.input.read(room) {
                Ok(0) => break,
                Ok(read) => self.took(read)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(PackError::of_stream("read", "the pack", e)),
            }
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn took(&mut self, read: usize) -> Result<()> {
        self.end += read;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        if self.end <= self.buffer.len() {
            return Ok(());
        }
        self.end = self.start;
        Err(PackError::malformed("a stream says it has given more than was asked for"))
    }

    /// Passes over bytes that [`Self::peek`] gave.
    fn pass(&mut self, amount: usize) -> Result<()> {
        self.start = self.end.min(self.start + amount);
        self.idle += amount as u64;
        if self.idle > IDLE_MAX {
            return Err(PackError::TooLarge(format!("the zstd stream has {IDLE_MAX} bytes without content")));
        }
        Ok(())
    }

    /// Notes that content has come.
    fn gave(&mut self, content: usize) {
        if content > 0 {
            self.idle = 0;
        }
    }

    fn skip(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            let available = self.peek(1)?.len();
            if available == 0 {
                return Err(cut_off());
            }
            let part = available.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.pass(part)?;
            length -= part as u64;
        }
        Ok(())
    }

    /// Appends the next `length` bytes to those of a frame.
    fn append(&mut self, length: usize, stored: &mut Vec<u8>) -> Result<()> {
        if stored.len() + length > STORED_MAX {
            return Err(PackError::malformed("a zstd frame is much longer than its content"));
        }
        let end = stored.len() + length;
        while stored.len() < end {
            let missing = end - stored.len();
            let available = self.peek(1)?;
            let part = available.get(..missing).unwrap_or(available);
            stored.extend_from_slice(part);
            match part.len() {
                0 => return Err(cut_off()),
                taken => self.pass(taken)?,
            }
        }
        Ok(())
    }
}
