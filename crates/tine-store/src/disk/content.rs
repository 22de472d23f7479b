//! What a file or link holds, and where on the disk that lies.

use super::{Image, Inode, block_map::BlockMap, corrupt, extents::Extents};
use crate::Result;
use std::{ffi::OsString, os::unix::ffi::OsStringExt};
use tine_sys::tree::Kind;

/// The most that is read at once.
pub(crate) const PIECE: usize = 1 << 18;
/// A target shorter than this lies in the inode itself.
const SHORT_LINK: u64 = 60;
/// A link's target is less than a page.
const LINK_MAX: u64 = 4095;

/// Written blocks of a file that lie in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first one's number in the file.
    pub logical: u64,
    /// The first one's number on the disk; not checked.
    pub physical: u64,
    /// How many.
    pub blocks: u64,
}

/// Bytes of a file that lie in one piece on the disk; what lies between two of them reads as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Offset in the file.
    pub offset: u64,
    /// Offset on the disk.
    pub place: u64,
    /// Bytes.
    pub length: u64,
}

/// The stretches of a file, in order.
pub struct Stretches<'a> {
    image: &'a Image,
    runs: Runs<'a>,
    /// Bytes of the file.
    size: u64,
    /// Taken, but not yet known to be whole.
    pending: Option<Stretch>,
    ended: bool,
}

enum Runs<'a> {
    Extents(Extents<'a>),
    Map(BlockMap<'a>),
}

impl Image {
    /// Where the content of a regular file, directory or long link lies, in order of the offset in the file.
    ///
    /// # Errors
    /// `Corrupt`, also from the iterator, which ends after an error.
    pub fn stretches(&self, inode: &Inode) -> Result<Stretches<'_>> {
        if !matches!(inode.meta().kind, Kind::File | Kind::Dir | Kind::Symlink) {
            return Err(corrupt(format!("inode {} has no content", inode.number())));
        }
        let size = inode.meta().size;
        let runs = if inode.has_extents() {
            Runs::Extents(Extents::new(self, inode.block()?)?)
        } else {
            let end = size.div_ceil(u64::from(self.superblock.block_size));
            Runs::Map(BlockMap::new(self, inode.block()?, end))
        };
        Ok(Stretches { image: self, runs, size, pending: None, ended: false })
    }

    /// Fills the buffer with what the disk has at an offset; see [`Stretch::place`].
    ///
    /// # Errors
    /// `Corrupt` past the disk's end, and when the image has been read too often; the kernel's.
    pub fn read_at(&self, place: u64, buffer: &mut [u8]) -> Result<()> {
        self.source.read(place, buffer)
    }

    /// The whole content of a regular file; `None` when it has more than `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::stretches`] and [`Self::read_at`].
    pub fn read_file(&self, inode: &Inode, limit: u64) -> Result<Option<Vec<u8>>> {
        let size = inode.meta().size;
        let Some(size) = usize::try_from(size).ok().filter(|_| size <= limit) else { return Ok(None) };
        let mut content = vec![0; size];
        for stretch in self.stretches(inode)? {
            let Stretch { offset, place, length } = stretch?;
            let (start, end) = (offset as usize, offset.saturating_add(length) as usize);
            let into = content.get_mut(start..end).ok_or_else(|| corrupt("a file leaves its own size"))?;
            self.read_at(place, into)?;
        }
        Ok(Some(content))
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `Corrupt` for what is no link, or has a target that no link can have.
    pub fn read_link(&self, inode: &Inode) -> Result<OsString> {
        let odd = || corrupt(format!("inode {} is no link that can be", inode.number()));
        let size = inode.meta().size;
        if inode.meta().kind != Kind::Symlink || size == 0 || size > LINK_MAX {
            return Err(odd());
        }
        let target = if size < SHORT_LINK && !inode.has_extents() {
            inode.block()?.get(..size as usize).map(<[u8]>::to_vec)
        } else {
            self.read_file(inode, LINK_MAX)?
        };
        target.filter(|target| !target.contains(&0)).map(OsString::from_vec).ok_or_else(odd)
    }
}

impl Stretches<'_> {
    /// The next stretch that does not go on where the one before it ended.
    fn take(&mut self) -> Result<Option<Stretch>> {
        loop {
            let next = self.clipped()?;
            match (self.pending, next) {
                (Some(before), Some(next)) if continues(before, next) => {
                    self.pending = Some(Stretch { length: before.length + next.length, ..before });
                }
                (None, Some(next)) => self.pending = Some(next),
                (before, next) => {
                    self.pending = next;
                    return Ok(before);
                }
            }
        }
    }

    /// The next run as far as it lies within the file.
    fn clipped(&mut self) -> Result<Option<Stretch>> {
        let run = match &mut self.runs {
            Runs::Extents(extents) => extents.next()?,
            Runs::Map(map) => map.next()?,
        };
        let Some(run) = run else { return Ok(None) };
        let (block_size, blocks) =
            (u64::from(self.image.superblock.block_size), self.image.superblock.blocks);
        if run.physical == 0 || run.physical.checked_add(run.blocks).is_none_or(|end| end > blocks) {
            return Err(corrupt("a file has blocks past the end of the disk"));
        }
        // at most 2^32 blocks, each at most 2^12 bytes
        let offset = run.logical * block_size;
        let length = (run.blocks * block_size).min(self.size.saturating_sub(offset));
        // blocks past the end may be reserved for what is still to be written
        Ok((length > 0).then_some(Stretch { offset, place: run.physical * block_size, length }))
    }
}

fn continues(before: Stretch, next: Stretch) -> bool {
    before.offset + before.length == next.offset && before.place + before.length == next.place
}

impl Iterator for Stretches<'_> {
    type Item = Result<Stretch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.take();
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
