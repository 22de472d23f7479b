//! Bytes of an image file as a guest sees them once it has mounted it: what lies on the disk, with the blocks of a
//! journal that is still to be replayed in their places.
//!
//! Every read is within the file and is paid for: an honest disk is read about once, so one that sends its reader
//! round in circles, or that uses the same blocks over and over, runs out of what its size allows.

use super::corrupt;
use crate::{Result, error::at as failed};
use std::{
    collections::BTreeMap,
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// How many times its length an image may be read: twice is honest (names and contents), the rest is for extended
/// attributes that files share.
const READS_PER_BYTE: u64 = 4;
/// What small images get on top.
const READS_AT_LEAST: u64 = 256 << 20;

/// An image file.
pub(super) struct Source {
    file: File,
    length: u64,
    overlay: Overlay,
    /// Bytes that may still be read.
    left: AtomicU64,
}

/// Blocks whose content lies elsewhere: in the journal.
#[derive(Default)]
pub(super) struct Overlay {
    /// Bytes of a block.
    pub block_size: u32,
    pub blocks: BTreeMap<u64, Replacement>,
}

/// Where a block's content really lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replacement {
    /// Offset in the file.
    pub place: u64,
    /// The journal's magic number at its begin was replaced by zeros, lest it is taken for a block of the journal.
    pub escaped: bool,
}

/// First bytes of the journal's own blocks (`JBD2_MAGIC_NUMBER`).
pub(super) const JOURNAL_MAGIC: [u8; 4] = 0xc03b_3998u32.to_be_bytes();

impl Source {
    pub fn new(file: File) -> Result<Self> {
        let meta = file.metadata().map_err(failed("stat", shown()))?;
        if !meta.is_file() {
            return Err(corrupt("is not a regular file"));
        }
        let left = meta.len().saturating_mul(READS_PER_BYTE).saturating_add(READS_AT_LEAST);
        Ok(Self { file, length: meta.len(), overlay: Overlay::default(), left: AtomicU64::new(left) })
    }

    /// From here on, these blocks are read from where they really lie.
    pub fn lay_over(&mut self, overlay: Overlay) {
        self.overlay = overlay;
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether a stretch has blocks that are read from elsewhere.
    pub fn is_overlaid(&self, at: u64, length: u64) -> bool {
        self.replaced(at, length).next().is_some()
    }

    /// Fills the buffer from an offset.
    ///
    /// # Errors
    /// `Corrupt` past the file's end and when more has been read than the file's length accounts for.
    pub fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.pay(buffer.len() as u64)?;
        self.read_file(at, buffer)?;
        for (block, replacement) in self.replaced(at, buffer.len() as u64) {
            self.replace(at, buffer, block, replacement)?;
        }
        Ok(())
    }

    fn pay(&self, bytes: u64) -> Result<()> {
        let paid =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        paid.map(drop).map_err(|_| corrupt("its structures claim far more than its size can hold"))
    }

    fn read_file(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(corrupt("a structure points past its end"));
        }
        self.file.read_exact_at(buffer, at).map_err(failed("read", shown()))
    }

    fn replaced(&self, at: u64, length: u64) -> impl Iterator<Item = (u64, Replacement)> {
        let size = u64::from(self.overlay.block_size.max(1));
        let range = at / size..at.saturating_add(length).div_ceil(size);
        // a map without entries has no use for the range, which may be of any length
        self.overlay.blocks.range(range).map(|(block, replacement)| (*block, *replacement))
    }

    /// Puts one block's real content over the part of it that lies in the buffer.
    fn replace(&self, at: u64, buffer: &mut [u8], block: u64, replacement: Replacement) -> Result<()> {
        let mut content = vec![0; self.overlay.block_size as usize];
        self.read_file(replacement.place, &mut content)?;
        if replacement.escaped {
            content.iter_mut().zip(JOURNAL_MAGIC).for_each(|(byte, magic)| *byte = magic);
        }
        let start = block.saturating_mul(u64::from(self.overlay.block_size));
        // one of the two is 0: the block begins inside the buffer, or the buffer inside the block
        let (skip, offset) = (at.saturating_sub(start) as usize, start.saturating_sub(at) as usize);
        let into = buffer.get_mut(offset..).unwrap_or_default().iter_mut();
        into.zip(content.get(skip..).unwrap_or_default()).for_each(|(byte, real)| *byte = *real);
        Ok(())
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What errors call the file: whoever opened it knows its path.
fn shown() -> &'static Path {
    Path::new("a disk image")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaid_blocks_show_in_any_part_of_a_read() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..8u8).flat_map(|n| [b'0' + n; 1024]).collect();
        std::io::Write::write_all(&mut file, &content).unwrap();
        let mut source = Source::new(file).unwrap();
        let blocks = BTreeMap::from([
            (1, Replacement { place: 6 * 1024, escaped: false }),
            (3, Replacement { place: 7 * 1024, escaped: true }),
        ]);
        source.lay_over(Overlay { block_size: 1024, blocks });
        let mut expected = content.clone();
        expected[1024..2048].fill(b'6');
        expected[3072..4096].fill(b'7');
        expected[3072..3076].copy_from_slice(&JOURNAL_MAGIC);
        for (at, length) in
            [(0, 8192), (1000, 100), (1500, 10), (3073, 2), (2047, 1026), (4095, 2), (5000, 0)]
        {
            let mut read = vec![0; length];
            source.read(at as u64, &mut read).unwrap();
            assert_eq!(read, expected[at..at + length], "{at} {length}");
        }
        assert!(source.is_overlaid(2000, 10) && !source.is_overlaid(2048, 1024));
        assert!(source.read(8192, &mut [0]).is_err() && source.read(u64::MAX, &mut [0]).is_err());
    }

    #[test]
    fn nobody_reads_for_ever() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let source = Source::new(file).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let reads = (0..10_000).take_while(|_| source.read(0, &mut buffer).is_ok()).count();
        assert_eq!(reads, 256 + 4);
    }
}
