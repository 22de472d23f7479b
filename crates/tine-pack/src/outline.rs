//! Where in a pack's file what lies, so that what is here already need not be read or fetched.
//!
//! Only for the third layout, by its manifest and its table of frames. Neither is believed beyond this: what is read by
//! them has to be what the manifest declares, by its digests, as if all had been read.

use crate::{
    frames::{FRAME_MAX, Frame, SeekTable},
    manifest::{FileEntry, Layout, Manifest},
    pages::STRETCHES_MAX,
    read::manifest_of,
};
use std::{
    collections::{BTreeSet, VecDeque},
    io::{self, Read, SeekFrom},
    ops::Range,
};
use tine_model::PackInput;

/// How many bytes at the beginning of a pack are looked at for its manifest. A longer one is not found.
const HEAD_MAX: u64 = 64 << 10;
/// How many bytes at the end are read at once for the table.
const TAIL: u64 = 64 << 10;
/// A block of a tar.
const BLOCK: u64 = 512;
/// The most blocks that say where the stretches of a sparse file lie, 21 in each.
const MAP_BLOCKS_MAX: u64 = STRETCHES_MAX as u64 / 21 + 1;

/// The manifest of a pack by the first 64 KiB of it; none when that does not hold it, or is no pack. Goes back to the
/// beginning.
///
/// # Errors
/// Those of the input.
pub fn manifest(input: &mut dyn PackInput) -> io::Result<Option<Manifest>> {
    let mut head = Vec::new();
    input.seek(SeekFrom::Start(0))?;
    input.take(HEAD_MAX).read_to_end(&mut head)?;
    input.seek(SeekFrom::Start(0))?;
    Ok(manifest_of(&mut head.as_slice()).ok().map(|(manifest, _)| manifest))
}

/// The parts of a pack's file that hold all but the links `left_out`, ascending: to be read through [`Parts`]. None when
/// they cannot be told: the pack is of an older layout, or has no table of frames that fits its manifest. Leaves the input
/// anywhere.
///
/// # Errors
/// Those of the input.
pub fn parts(
    input: &mut dyn PackInput,
    manifest: &Manifest,
    left_out: &BTreeSet<usize>,
) -> io::Result<Option<Vec<Range<u64>>>> {
    if manifest.layout != Layout::V3 {
        return Ok(None);
    }
    let length = input.seek(SeekFrom::End(0))?;
    let Some(table) = table(input, length)? else { return Ok(None) };
    Ok(links(manifest, table.frames()).map(|links| rest(&links, left_out, length)))
}

/// The table of frames at the end of the file; none when there is none that can be read.
fn table(input: &mut dyn PackInput, length: u64) -> io::Result<Option<SeekTable>> {
    let tail = last(input, length, TAIL)?;
    let footer = tail.last_chunk().map(|footer| SeekTable::length(*footer));
    let Some(Ok(needed)) = footer else { return Ok(None) };
    let tail = if needed > tail.len() { last(input, length, needed as u64)? } else { tail };
    Ok(SeekTable::parse(&tail, length).ok())
}

/// The last `wanted` bytes of a file, or all.
fn last(input: &mut dyn PackInput, length: u64, wanted: u64) -> io::Result<Vec<u8>> {
    let mut tail = Vec::new();
    input.seek(SeekFrom::Start(length.saturating_sub(wanted)))?;
    input.take(wanted).read_to_end(&mut tail)?;
    Ok(tail)
}

/// Where the files of each link lie.
///
/// Each member of the tar begins a frame, and so does the content of a memory or a disk after its header; all frames are
/// full but the last of such a part. One in some thousand parts fills its last too, and then nobody can tell where the
/// next begins without reading: the parts must be those of the manifest, each as long as it says.
fn links(manifest: &Manifest, frames: &[Frame]) -> Option<Vec<Range<u64>>> {
    let ends = |frame: &Frame| (frame.content as usize) < FRAME_MAX;
    if frames.last().is_some_and(|last| !ends(last)) {
        return None;
    }
    let parts: Vec<&[Frame]> = frames.split_inclusive(ends).collect();
    // the manifest comes first, and then its signature if there is one
    [1, 2].into_iter().find_map(|head| links_in(manifest, parts.get(head..)?))
}

/// Where the files of each link lie in these parts, after which only the end mark may come.
fn links_in(manifest: &Manifest, parts: &[&[Frame]]) -> Option<Vec<Range<u64>>> {
    let mut parts = parts.iter();
    let mut link = |files: &[FileEntry]| {
        let mut range: Option<Range<u64>> = None;
        for file in files {
            let found = member(file, &mut parts)?;
            range = Some(range.map_or(found.start, |range| range.start)..found.end);
        }
        range
    };
    let links = manifest.links.iter().map(|declared| link(&declared.files)).collect();
    parts.next().filter(|_| parts.next().is_none()).and(links)
}

/// Where the next parts lie that make this member, header and content.
fn member<'f>(file: &FileEntry, parts: &mut impl Iterator<Item = &'f &'f [Frame]>) -> Option<Range<u64>> {
    let (mut start, mut length) = (None, 0);
    loop {
        let part = parts.next()?;
        let (first, last) = (part.first()?, part.last()?);
        let start = *start.get_or_insert(first.offset);
        length += content(part);
        if length >= least(file)? {
            return fits(file, length).then(|| start..last.offset + u64::from(last.stored));
        }
    }
}

/// Bytes of content in frames.
fn content(frames: &[Frame]) -> u64 {
    frames.iter().map(|frame| u64::from(frame.content)).sum()
}

/// The least that a member of the tar takes: a header, what is stored, and zeros up to a block.
fn least(file: &FileEntry) -> Option<u64> {
    file.stored.checked_next_multiple_of(BLOCK).and_then(|all| all.checked_add(BLOCK))
}

/// Whether a member of the tar can be so long, with what says where a sparse file's stretches lie.
fn fits(file: &FileEntry, length: u64) -> bool {
    let most = if file.role.is_paged() { MAP_BLOCKS_MAX * BLOCK } else { 0 };
    let more = least(file).and_then(|least| length.checked_sub(least));
    more.is_some_and(|more| more <= most && more % BLOCK == 0)
}

/// All but the links left out; neighbours become one.
fn rest(links: &[Range<u64>], left_out: &BTreeSet<usize>, length: u64) -> Vec<Range<u64>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    for (_, gone) in links.iter().enumerate().filter(|(number, _)| left_out.contains(number)) {
        if at < gone.start {
            parts.push(at..gone.start);
        }
        at = gone.end;
    }
    parts.push(at..length);
    parts
}

/// Parts of a file, read one after the other as if they were all of it.
pub struct Parts<'a> {
    input: &'a mut dyn PackInput,
    to_come: VecDeque<Range<u64>>,
    /// What is left of the part that is being read.
    left: u64,
}

impl<'a> Parts<'a> {
    /// Those `parts` of `input`, in their order.
    pub fn new(input: &'a mut dyn PackInput, parts: Vec<Range<u64>>) -> Self {
        Self { input, to_come: parts.into(), left: 0 }
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some(part) = self.to_come.pop_front() else { return Ok(0) };
            self.input.seek(SeekFrom::Start(part.start))?;
            self.left = part.end.saturating_sub(part.start);
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.input.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}
