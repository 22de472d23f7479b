//! Headers of regular and sparse files in the GNU form, which every tar reads, and which needs no second header for
//! names of up to 100 bytes and sizes of any number.
//!
//! Makes headers only; their content is the caller's.

use crate::entry::{BLOCK, Header, NAME_MAX, SparseMap, gnu_number};

/// Stretches that fit in a member's own header, and in each block after it.
const PAIRS_IN_HEADER: usize = 4;
const PAIRS_IN_BLOCK: usize = 21;
/// Where a block of stretches says that another follows.
const MORE: usize = 504;

/// A regular file to be written: owned by root, readable by all, written by its owner.
#[derive(Debug, Clone, Copy)]
pub struct GnuFile<'a> {
    /// Its name; what is longer than 100 bytes is cut off.
    pub name: &'a str,
    /// When it was last changed, in seconds since 1970.
    pub mtime: u64,
}

impl GnuFile<'_> {
    /// The header of a file whose content, of `size` bytes and filled up with zeros to a whole block, follows.
    #[must_use]
    pub fn regular(&self, size: u64) -> [u8; BLOCK] {
        self.header(b'0', size).sealed()
    }

    /// The header of a sparse file and the blocks with the rest of its map. The stretches' bytes follow, one after the
    /// other, filled up with zeros to a whole block. The stretches ascend; all but the last are whole blocks long, as some
    /// readers want it.
    #[must_use]
    pub fn sparse(&self, map: &SparseMap) -> Vec<u8> {
        let pairs = closed(map);
        let stored = map.data.iter().map(|(_, length)| length).sum();
        let mut header = self.header(b'S', stored);
        let (first, rest) = pairs.split_at(pairs.len().min(PAIRS_IN_HEADER));
        header.put_gnu_sparse(first, !rest.is_empty(), map.size);
        let mut bytes = header.sealed().to_vec();
        let mut chunks = rest.chunks(PAIRS_IN_BLOCK).peekable();
        while let Some(chunk) = chunks.next() {
            bytes.extend_from_slice(&map_block(chunk, chunks.peek().is_some()));
        }
        bytes
    }

    fn header(&self, kind: u8, size: u64) -> Header {
        let name = self.name.as_bytes();
        let mut header = Header::gnu(kind, name.get(..NAME_MAX).unwrap_or(name), size);
        header.put_owner(0o644, 0, 0);
        header.put_mtime(self.mtime);
        header
    }
}

/// How many blocks [`GnuFile::sparse`] gives for a map.
#[must_use]
pub fn map_blocks(map: &SparseMap) -> u64 {
    let rest = closed_length(map).saturating_sub(PAIRS_IN_HEADER);
    1 + rest.div_ceil(PAIRS_IN_BLOCK) as u64
}

/// Whether the file ends in a hole: readers learn of its size by an empty stretch there.
fn ends_in_hole(map: &SparseMap) -> bool {
    map.data.last().map_or(map.size > 0, |(offset, length)| offset.saturating_add(*length) < map.size)
}

fn closed_length(map: &SparseMap) -> usize {
    map.data.len() + usize::from(ends_in_hole(map))
}

fn closed(map: &SparseMap) -> Vec<(u64, u64)> {
    let end = ends_in_hole(map).then_some((map.size, 0));
    map.data.iter().copied().chain(end).collect()
}

fn map_block(pairs: &[(u64, u64)], more: bool) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let fields = pairs.iter().flat_map(|(offset, length)| [gnu_number(*offset), gnu_number(*length)]);
    for (to, from) in block.iter_mut().zip(fields.flatten()) {
        *to = from;
    }
    if let Some(flag) = block.get_mut(MORE) {
        *flag = u8::from(more);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemberKind, TarReader};
    use std::io::Cursor;

    fn read_back(map: &SparseMap) -> SparseMap {
        let mut bytes = GnuFile { name: "dir/memory.bin", mtime: 1_700_000_000 }.sparse(map);
        assert_eq!(bytes.len() as u64, map_blocks(map) * BLOCK as u64);
        let stored: u64 = map.data.iter().map(|(_, length)| length).sum();
        if stored < 1 << 20 {
            bytes.extend(vec![7; (stored as usize).next_multiple_of(BLOCK)]);
            bytes.extend([0; 2 * BLOCK]);
        }
        let mut reader = TarReader::plain(Cursor::new(bytes));
        let member = reader.next().unwrap().unwrap();
        assert_eq!((member.name.as_slice(), member.kind), (&b"dir/memory.bin"[..], MemberKind::File));
        assert_eq!((member.stored, member.mode, member.mtime.seconds), (stored, 0o644, 1_700_000_000));
        if stored < 1 << 20 {
            assert!(reader.next().unwrap().is_none());
        }
        let mut found = member.sparse.unwrap();
        found.data.retain(|(_, length)| *length > 0);
        found
    }

    #[test]
    fn maps_of_every_length_read_back() {
        for stretches in [0, 1, 3, 4, 5, 24, 25, 26, 46, 47, 100] {
            for tail in [0, 4096] {
                let data: Vec<_> = (0..stretches).map(|n| (n * 8192, 4096)).collect();
                let end = data.last().map_or(0, |(offset, length)| offset + length);
                let map = SparseMap { size: (end + tail).max(1), data };
                assert_eq!(read_back(&map), map);
            }
        }
    }

    #[test]
    fn sizes_beyond_eight_gigabytes_read_back() {
        let map = SparseMap { size: 1 << 40, data: vec![(1 << 36, 1 << 35), ((1 << 40) - 4096, 4096)] };
        assert_eq!(read_back(&map), map);
        let header = GnuFile { name: "m", mtime: 0 }.regular(1 << 35);
        let member = TarReader::plain(&header[..]).next().unwrap().unwrap();
        assert_eq!(member.stored, 1 << 35);
    }
}
