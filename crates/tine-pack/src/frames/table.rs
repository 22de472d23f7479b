//! The table of frames that closes a stream: written, found and checked.
//!
//! A skippable frame, all numbers little-endian: magic `0x184D2A5E` and the length of what follows, each of 32 bits;
//! for each frame its stored length and its content's length, each of 32 bits; the number of frames of 32 bits; a
//! byte of flags, here 0; the magic number `0x8F92EAB1`.

use super::FRAME_MAX;
use crate::error::{PackError, Result};

/// The most frames a table may have; 4 TiB of content in full frames.
pub const FRAMES_MAX: usize = 1 << 20;

const MAGIC: u32 = 0x184d_2a5e;
const CLOSING_MAGIC: u32 = 0x8f92_eab1;
const HEAD: usize = 8;
const ENTRY: usize = 8;
/// The most that a frame of ours can be longer than its content.
const GROWTH_MAX: usize = 64 << 10;

/// Where a frame lies and what of the content it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins in the file.
    pub offset: u64,
    /// How many bytes of the file it takes.
    pub stored: u32,
    /// Where its content begins in the whole content.
    pub content_offset: u64,
    /// How many bytes of content it holds.
    pub content: u32,
}

/// The frames of a stream in order, without a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeekTable(Vec<Frame>);

impl SeekTable {
    /// Bytes at the end of a file that say how long the table is.
    pub const FOOTER: usize = 9;

    /// How many bytes at the end of a file the table takes, by the last [`Self::FOOTER`] of them.
    ///
    /// # Errors
    /// There is no table, it has more than [`FRAMES_MAX`] frames, or it is of a kind that is not known.
    pub fn length(footer: [u8; Self::FOOTER]) -> Result<usize> {
        let [a, b, c, d, flags, magic @ ..] = footer;
        if u32::from_le_bytes(magic) != CLOSING_MAGIC {
            return Err(damaged("there is none"));
        }
        if flags != 0 {
            return Err(damaged("it has flags that are not known"));
        }
        match u32::from_le_bytes([a, b, c, d]) as usize {
            frames @ 0..=FRAMES_MAX => Ok(HEAD + frames * ENTRY + Self::FOOTER),
            frames => Err(PackError::TooLarge(format!(
                "the table of frames has {frames} entries; at most {FRAMES_MAX} are read"
            ))),
        }
    }

    /// Understands the table at the end of a file of `file_length` bytes, of which `tail` is the last: at least
    /// [`Self::length`] of them.
    ///
    /// # Errors
    /// As [`Self::length`]; the frames do not fill the file exactly, or one is larger than it may be.
    pub fn parse(tail: &[u8], file_length: u64) -> Result<Self> {
        let footer = *tail.last_chunk().ok_or_else(|| damaged("it is cut off"))?;
        let length = Self::length(footer)?;
        let at = tail.len().checked_sub(length).ok_or_else(|| damaged("it is cut off"))?;
        let table = tail.get(at..).unwrap_or_default();
        let (head, entries) = table.split_first_chunk::<HEAD>().ok_or_else(|| damaged("it is cut off"))?;
        if head[..] != opening(length)[..] {
            return Err(damaged("it begins where none can"));
        }
        let entries = entries.get(..length - HEAD - Self::FOOTER).unwrap_or_default();
        let (end, frames) = frames(entries)?;
        if end.checked_add(length as u64) != Some(file_length) {
            return Err(damaged("its frames are not as long as the file"));
        }
        Ok(Self(frames))
    }

    /// The frames, in order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.0
    }

    /// The frame that holds the byte of content at `offset`.
    #[must_use]
    pub fn find(&self, offset: u64) -> Option<&Frame> {
        let after = self.0.partition_point(|frame| frame.content_offset <= offset);
        let frame = self.0.get(after.checked_sub(1)?)?;
        (offset - frame.content_offset < u64::from(frame.content)).then_some(frame)
    }
}

fn frames(entries: &[u8]) -> Result<(u64, Vec<Frame>)> {
    let (mut offset, mut content_offset) = (0, 0);
    let mut frames = Vec::with_capacity(entries.len() / ENTRY);
    let (entries, _) = entries.as_chunks::<ENTRY>();
    for &[a, b, c, d, e, f, g, h] in entries {
        let (stored, content) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if stored == 0 || content == 0 || content as usize > FRAME_MAX {
            return Err(damaged("a frame has a size that cannot be"));
        }
        if stored as usize > content as usize + GROWTH_MAX {
            return Err(damaged("a frame is longer than its content"));
        }
        frames.push(Frame { offset, stored, content_offset, content });
        // no overflow: at most 2^20 frames of less than 2^32 bytes
        offset += u64::from(stored);
        content_offset += u64::from(content);
    }
    Ok((offset, frames))
}

/// The first bytes of a table that is `length` bytes long.
fn opening(length: usize) -> [u8; HEAD] {
    let rest = u32::try_from(length - HEAD).unwrap_or(u32::MAX);
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&MAGIC.to_le_bytes());
    head[4..].copy_from_slice(&rest.to_le_bytes());
    head
}

/// The table of frames given as stored length and content's length.
pub(super) fn encode(frames: &[(u32, u32)]) -> Result<Vec<u8>> {
    if frames.len() > FRAMES_MAX {
        return Err(PackError::TooLarge(format!("the content makes more than {FRAMES_MAX} frames")));
    }
    let length = HEAD + frames.len() * ENTRY + SeekTable::FOOTER;
    let mut table = Vec::with_capacity(length);
    table.extend(opening(length));
    for (stored, content) in frames {
        table.extend(stored.to_le_bytes());
        table.extend(content.to_le_bytes());
    }
    table.extend(u32::try_from(frames.len()).unwrap_or_default().to_le_bytes());
    table.push(0);
    table.extend(CLOSING_MAGIC.to_le_bytes());
    Ok(table)
}

fn damaged(why: &str) -> PackError {
    PackError::malformed(format!("the table of frames cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<u8> {
        encode(&[(10, 100), (20, 4 << 20), (4100, 4096)]).unwrap()
    }

    fn read(table: &[u8]) -> Result<SeekTable> {
        SeekTable::parse(table, 4130 + table.len() as u64)
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let read = read(&table()).unwrap();
        let second = Frame { offset: 10, stored: 20, content_offset: 100, content: 4 << 20 };
        assert_eq!(read.frames()[1], second);
        assert_eq!((read.frames().len(), read.frames()[2].offset), (3, 30));
        assert_eq!(read.find(99), Some(&read.frames()[0]));
        assert_eq!(read.find(100), Some(&second));
        assert_eq!(read.find(100 + (4 << 20) + 4096), None);
        let none = SeekTable::parse(&encode(&[]).unwrap(), 17).unwrap();
        assert_eq!((none.frames().len(), none.find(0)), (0, None));
    }

    #[test]
    fn more_of_the_file_in_front_of_the_table_does_no_harm() {
        let tail = [&[7; 50], &table()[..]].concat();
        assert_eq!(SeekTable::parse(&tail, 4130 + table().len() as u64).unwrap(), read(&table()).unwrap());
    }

    #[test]
    fn no_byte_of_a_table_can_change_unseen() {
        let good = read(&table()).unwrap();
        for at in 0..table().len() {
            for flip in [1, 0x80] {
                let mut bad = table();
                bad[at] ^= flip;
                // only how the content is divided can change without a contradiction
                let content = (8..32).contains(&at) && at % 8 >= 4;
                assert!(read(&bad).is_err() || content && read(&bad).unwrap() != good, "byte {at}");
            }
        }
    }

    #[test]
    fn a_table_cut_off_or_of_another_file_is_refused() {
        for length in 0..table().len() {
            assert!(read(&table()[table().len() - length..]).is_err(), "{length}");
        }
        for length in [0, 4129 + table().len() as u64, 4131 + table().len() as u64, u64::MAX] {
            assert!(SeekTable::parse(&table(), length).is_err(), "{length}");
        }
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        for bad in [(0, 1), (1, 0), (1, (4 << 20) + 1), ((64 << 10) + 2, 1)] {
            let table = encode(&[bad]).unwrap();
            assert!(SeekTable::parse(&table, u64::from(bad.0) + table.len() as u64).is_err(), "{bad:?}");
        }
        assert!(matches!(encode(&vec![(1, 1); FRAMES_MAX + 1]), Err(PackError::TooLarge(_))));
        let mut footer = [0; SeekTable::FOOTER];
        footer[..4].copy_from_slice(&(FRAMES_MAX as u32 + 1).to_le_bytes());
        footer[5..].copy_from_slice(&CLOSING_MAGIC.to_le_bytes());
        assert!(matches!(SeekTable::length(footer), Err(PackError::TooLarge(_))));
    }
}
