//! What the first bytes of a frame say (RFC 8878, sections 3.1.1 and 3.1.2). Reads nothing itself.

use super::WINDOW_MAX;
use crate::error::{PackError, Result};

/// The longest header of a frame, its magic number included.
pub(super) const HEADER_MAX: usize = 18;
/// Bytes in front of every block.
pub(super) const BLOCK_HEADER: usize = 3;
/// The most a block may hold.
const BLOCK_MAX: usize = 128 << 10;

const MAGIC: u32 = 0xfd2f_b528;
/// The first of the sixteen magic numbers of skippable frames.
const SKIPPABLE: u32 = 0x184d_2a50;

/// What begins here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A frame that holds content.
    Frame(Header),
    /// A frame to be passed over: 8 bytes and as many as said here.
    Skippable(u32),
}

/// The header of a frame that holds content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Its own length in bytes.
    pub length: usize,
    /// How much content the frame says it has.
    pub content: Option<u64>,
    /// Whether four bytes follow the last block.
    pub checksum: bool,
}

/// Understands the next bytes of a stream, of which `bytes` has [`HEADER_MAX`] or all there are.
pub(super) fn start(bytes: &[u8]) -> Result<Start> {
    let magic = u32::try_from(little(bytes, 0, 4)?).unwrap_or_default();
    if magic & !0xf == SKIPPABLE {
        return Ok(Start::Skippable(u32::try_from(little(bytes, 4, 4)?).unwrap_or_default()));
    }
    if magic != MAGIC {
        return Err(PackError::malformed("there are bytes that are no zstd frame"));
    }
    header(bytes).map(Start::Frame)
}

fn header(bytes: &[u8]) -> Result<Header> {
    let flags = little(bytes, 4, 1)?;
    if flags & 0b1000 != 0 {
        return Err(PackError::malformed("a zstd frame has a flag that has no meaning"));
    }
    let single = flags & 0b10_0000 != 0;
    let window_length = usize::from(!single);
    let dictionary_length = [0, 1, 2, 4][(flags & 0b11) as usize];
    let content_length = [usize::from(single), 2, 4, 8][(flags >> 6) as usize];
    let dictionary_at = 5 + window_length;
    let content_at = dictionary_at + dictionary_length;
    if little(bytes, dictionary_at, dictionary_length)? != 0 {
        return Err(PackError::malformed("a zstd frame needs a dictionary"));
    }
    let content = match content_length {
        0 => None,
        2 => Some(little(bytes, content_at, 2)? + 256),
        length => Some(little(bytes, content_at, length)?),
    };
    let window = if single { content.unwrap_or_default() } else { window(little(bytes, 5, 1)?) };
    check_window(window)?;
    Ok(Header { length: content_at + content_length, content, checksum: flags & 0b100 != 0 })
}

fn window(descriptor: u64) -> u64 {
    let base = 1 << (10 + (descriptor >> 3));
    base + base / 8 * (descriptor & 0b111)
}

fn check_window(window: u64) -> Result<()> {
    if window <= WINDOW_MAX {
        return Ok(());
    }
    Err(PackError::TooLarge(format!(
        "a zstd frame needs a window of {window} bytes; at most {WINDOW_MAX} are given"
    )))
}

/// How many bytes follow a block's header, and whether the block is its frame's last.
pub(super) fn block(header: [u8; BLOCK_HEADER]) -> Result<(usize, bool)> {
    let [low, middle, high] = header.map(usize::from);
    let bits = low | middle << 8 | high << 16;
    let size = bits >> 3;
    let stored = match bits >> 1 & 0b11 {
        0 | 2 if size <= BLOCK_MAX => size,
        1 => 1,
        _ => return Err(PackError::malformed("a zstd frame has a block that cannot be")),
    };
    Ok((stored, bits & 1 != 0))
}

/// The little-endian number of `length` ≤ 8 bytes at `at`.
fn little(bytes: &[u8], at: usize, length: usize) -> Result<u64> {
    let bytes = bytes.get(at..at + length).ok_or_else(cut_off)?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The error of a stream that ends too early.
pub(super) fn cut_off() -> PackError {
    PackError::malformed("the zstd stream is cut off")
}
