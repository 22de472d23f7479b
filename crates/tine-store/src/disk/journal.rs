//! The journal: which blocks have newer content there than in their places
//! (`Documentation/filesystems/ext4/journal.rst`; the kernel's `fs/jbd2/recovery.c`).
//!
//! Read from where it begins, round the end of its ring, transaction by transaction, until something is not what must
//! come next; that is where the machine was killed. Only whole transactions count, and a block that was given up in a
//! later one is left as it is.

use super::{
    Image,
    checksum::{crc32c, crc32c_without},
    corrupt,
    fields::Fields,
    source::{JOURNAL_MAGIC, Overlay, Replacement},
};
use crate::{Result, StoreError};
use std::collections::{BTreeMap, HashMap};

/// The largest journal that is read, in blocks; what mkfs makes at most, whatever the disk's size, with 4 KiB blocks.
const BLOCKS_MAX: u64 = 1 << 18;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
const SUPERBLOCKS: [u32; 2] = [3, 4];

const FEATURE_WIDE: u32 = 0x2;
const FEATURE_CHECKSUM_2: u32 = 0x8;
const FEATURE_CHECKSUM_3: u32 = 0x10;
/// Revocations, 64 bit, both kinds of checksums, commits that are found whole by those.
const FEATURES_KNOWN: u32 = 0x1 | FEATURE_WIDE | FEATURE_ASYNC | FEATURE_CHECKSUM_2 | FEATURE_CHECKSUM_3;
const FEATURE_ASYNC: u32 = 0x4;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

/// What is read of the journal, as blocks to be laid over the disk.
pub(super) fn replay(image: &Image, inode: u32) -> Result<Overlay> {
    let journal = Journal::open(image, inode)?;
    let mut log = Log::default();
    if journal.start != 0 {
        journal.scan(&mut log)?;
    }
    let blocks = journal.newest(&log)?;
    Ok(Overlay { block_size: image.superblock.block_size, blocks })
}

/// A journal and what its superblock says of it.
struct Journal<'a> {
    image: &'a Image,
    /// Where each of its blocks lies on the disk.
    places: Vec<u64>,
    /// First block of the ring, and the one behind its last.
    ring: (usize, usize),
    /// Where the first transaction begins; 0 when there is none.
    start: usize,
    /// That transaction's number.
    sequence: u32,
    features: u32,
    checksum_seed: u32,
}

/// What whole transactions say.
#[derive(Default)]
struct Log {
    written: Vec<Written>,
    /// The last transaction in which each block was given up.
    revoked: HashMap<u64, u32>,
}

struct Written {
    /// The block's number on the disk.
    block: u64,
    /// Its copy's number in the journal.
    copy: usize,
    sequence: u32,
    escaped: bool,
    /// Of the copy; the lower 16 bits only, where the journal keeps no more.
    checksum: u32,
}

impl<'a> Journal<'a> {
    fn open(image: &'a Image, inode: u32) -> Result<Self> {
        let places = places(image, inode)?;
        let first = places.first().ok_or_else(|| corrupt("its journal is empty"))?;
        let block = image.block(*first)?;
        let fields = Fields(&block);
        let features = features(fields)?;
        let number = |at| fields.be32(at).map(|n| n as usize);
        let (length, first, start) = (number(16)?, number(20)?, number(28)?);
        let in_ring = |block| (first..length).contains(&block);
        let fits = length <= places.len() && first > 0 && in_ring(first) && (start == 0 || in_ring(start));
        if !fits || fields.be32(12)? != image.superblock.block_size {
            return Err(corrupt("its journal has an impossible size"));
        }
        let checksum_seed = crc32c(!0, fields.bytes(0x30, 16)?);
        let sequence = fields.be32(24)?;
        Ok(Self { image, places, ring: (first, length), start, sequence, features, checksum_seed })
    }

    fn scan(&self, log: &mut Log) -> Result<()> {
        let (mut at, mut sequence, mut open) = (self.start, self.sequence, Log::default());
        let mut left = self.ring.1 - self.ring.0;
        while left > 0 {
            let block = self.block(at)?;
            let Some(kind) = self.kind(&block, sequence)? else { return Ok(()) };
            let before = open.written.len();
            match kind {
                DESCRIPTOR => self.descriptor(&block, at, sequence, &mut open)?,
                REVOKE => self.revocations(&block, sequence, &mut open)?,
                COMMIT => {
                    log.add(std::mem::take(&mut open));
                    sequence = sequence.wrapping_add(1);
                }
                _ => return Ok(()),
            }
            let read = 1 + open.written.len().saturating_sub(before);
            at = self.after(at, read);
            left = left.saturating_sub(read);
        }
        Ok(())
    }

    /// What a block of the journal itself is; `None` when it is not one of the transaction that is being read.
    fn kind(&self, block: &[u8], sequence: u32) -> Result<Option<u32>> {
        let fields = Fields(block);
        let kind = fields.be32(4)?;
        let whole = fields.array(0)? == JOURNAL_MAGIC
            && fields.be32(8)? == sequence
            && (!self.has_checksums() || self.checksum_is_right(kind, block)?);
        Ok(whole.then_some(kind))
    }

    /// Commit blocks hold their checksum in the header, the others at their end.
    fn checksum_is_right(&self, kind: u32, block: &[u8]) -> Result<bool> {
        let at = if kind == COMMIT { 16 } else { block.len().saturating_sub(4) };
        Ok(Fields(block).be32(at)? == crc32c_without::<4>(self.checksum_seed, block, at))
    }

    /// Notes the blocks whose copies follow.
    fn descriptor(&self, block: &[u8], at: usize, sequence: u32, open: &mut Log) -> Result<()> {
        let end = block.len().saturating_sub(self.tail());
        let (mut offset, mut copies) = (12, 0);
        while offset + self.tag_size() <= end {
            let (tag, flags) = self.tag(Fields(block), offset)?;
            copies += 1;
            open.written.push(Written {
                copy: self.after(at, copies),
                sequence,
                escaped: flags & TAG_ESCAPED != 0,
                ..tag
            });
            if flags & TAG_LAST != 0 {
                break;
            }
            offset += self.tag_size() + if flags & TAG_SAME_UUID == 0 { 16 } else { 0 };
        }
        Ok(())
    }

    /// A tag and its flags, in the form that the features call for.
    fn tag(&self, fields: Fields<'_>, at: usize) -> Result<(Written, u32)> {
        let third = self.features & FEATURE_CHECKSUM_3 != 0;
        let wide = self.features & FEATURE_WIDE != 0;
        let flags = if third { fields.be32(at + 4)? } else { u32::from(fields.be16(at + 6)?) };
        let checksum = if third { fields.be32(at + 12)? } else { u32::from(fields.be16(at + 4)?) };
        let high = if wide { fields.be32(at + 8)? } else { 0 };
        let block = u64::from(fields.be32(at)?) | u64::from(high) << 32;
        Ok((Written { block, copy: 0, sequence: 0, escaped: false, checksum }, flags))
    }

    /// Bytes of a tag without a UUID.
    fn tag_size(&self) -> usize {
        if self.features & FEATURE_CHECKSUM_3 != 0 {
            return 16;
        }
        let wide = if self.features & FEATURE_WIDE != 0 { 4 } else { 0 };
        8 + wide + if self.features & FEATURE_CHECKSUM_2 != 0 { 2 } else { 0 }
    }

    /// Notes the blocks that were given up.
    fn revocations(&self, block: &[u8], sequence: u32, open: &mut Log) -> Result<()> {
        let fields = Fields(block);
        let end = fields.be32(12)? as usize;
        if end > block.len().saturating_sub(self.tail()) {
            return Err(corrupt("its journal has a damaged list of revoked blocks"));
        }
        let wide = self.features & FEATURE_WIDE != 0;
        let step = if wide { 8 } else { 4 };
        let mut at = 16;
        while at + step <= end {
            let block = if wide { fields.be64(at)? } else { u64::from(fields.be32(at)?) };
            open.revoked.insert(block, sequence);
            at += step;
        }
        Ok(())
    }

    /// The last copy of each block that was not given up since it was written.
    fn newest(&self, log: &Log) -> Result<BTreeMap<u64, Replacement>> {
        let mut blocks = BTreeMap::new();
        for written in &log.written {
            let revoked = log.revoked.get(&written.block);
            if revoked.is_some_and(|revoked| !is_after(written.sequence, *revoked)) {
                continue;
            }
            self.check_copy(written)?;
            // the disk need not have such a block, but then nothing reads it either
            let place = self.image.block_place(self.place(written.copy)?)?;
            blocks.insert(written.block, Replacement { place, escaped: written.escaped });
        }
        Ok(blocks)
    }

    fn check_copy(&self, written: &Written) -> Result<()> {
        if !self.has_checksums() {
            return Ok(());
        }
        let seed = crc32c(self.checksum_seed, &written.sequence.to_be_bytes());
        let sum = crc32c(seed, &self.block(written.copy)?);
        let kept = if self.features & FEATURE_CHECKSUM_3 != 0 { sum } else { sum & 0xffff };
        if kept == written.checksum { Ok(()) } else { Err(corrupt("its journal has a damaged block")) }
    }

    fn has_checksums(&self) -> bool {
        self.features & (FEATURE_CHECKSUM_2 | FEATURE_CHECKSUM_3) != 0
    }

    /// Bytes at the end of a block that hold its checksum.
    fn tail(&self) -> usize {
        if self.has_checksums() { 4 } else { 0 }
    }

    /// The block of the ring `steps` after another.
    fn after(&self, at: usize, steps: usize) -> usize {
        let (first, end) = self.ring;
        first + at.saturating_sub(first).saturating_add(steps) % (end - first).max(1)
    }

    fn place(&self, at: usize) -> Result<u64> {
        self.places.get(at).copied().ok_or_else(|| corrupt("its journal is cut short"))
    }

    fn block(&self, at: usize) -> Result<Vec<u8>> {
        self.image.block(self.place(at)?)
    }
}

impl Log {
    /// Adds a transaction that is whole.
    fn add(&mut self, transaction: Self) {
        self.written.extend(transaction.written);
        self.revoked.extend(transaction.revoked);
    }
}

/// Whether a transaction came later; the numbers wrap.
fn is_after(sequence: u32, other: u32) -> bool {
    sequence.wrapping_sub(other).cast_signed() > 0
}

/// Where the journal's blocks lie on the disk.
fn places(image: &Image, inode: u32) -> Result<Vec<u64>> {
    let journal = image.any_inode(inode)?;
    let block_size = u64::from(image.superblock.block_size);
    let blocks = journal.meta().size / block_size;
    if blocks > BLOCKS_MAX {
        return Err(StoreError::TooLarge {
            message: "the disk image has a journal of over 1 GiB".to_owned(),
        });
    }
    let mut places = Vec::new();
    for stretch in image.stretches(&journal)? {
        let stretch = stretch?;
        if stretch.offset / block_size != places.len() as u64 {
            return Err(corrupt("its journal has holes"));
        }
        let first = stretch.place / block_size;
        places.extend(first..first.saturating_add(stretch.length / block_size));
    }
    Ok(places)
}

/// The features that change how the journal is read.
fn features(fields: Fields<'_>) -> Result<u32> {
    let kind = fields.be32(4)?;
    if fields.array(0)? != JOURNAL_MAGIC || !SUPERBLOCKS.contains(&kind) {
        return Err(corrupt("its journal has no superblock"));
    }
    // the first version has no features
    let features = if kind == 4 { fields.be32(0x28)? } else { 0 };
    let checksums = features & (FEATURE_CHECKSUM_2 | FEATURE_CHECKSUM_3) != 0;
    let unknown = features & !FEATURES_KNOWN;
    let unsafe_async = features & FEATURE_ASYNC != 0 && !checksums;
    if unknown != 0 || unsafe_async {
        let features = vec![format!("journal feature bits {:#x}", unknown | features & FEATURE_ASYNC)];
        return Err(StoreError::Incompatible { object: "the disk image".to_owned(), features });
    }
    if checksums && fields.be32(0xfc)? != crc32c_without::<4>(!0, fields.bytes(0, 1024)?, 0xfc) {
        return Err(corrupt("its journal's superblock has a wrong checksum"));
    }
    Ok(features)
}
