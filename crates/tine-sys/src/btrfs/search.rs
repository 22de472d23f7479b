//! `BTRFS_IOC_TREE_SEARCH`: reading items of a btrfs tree. Bounded; knows no item's meaning.

use super::{MAGIC, READ, WRITE};
use crate::{SysError, SysResult};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// The number of `BTRFS_IOC_TREE_SEARCH_V2`, whose argument is 112 bytes and a buffer of the length it tells.
const TREE_SEARCH_V2: u64 = (READ | WRITE) << 30 | 112 << 16 | MAGIC << 8 | 17;
const HEADER: usize = 32;
/// Larger than the largest item (a tree block is at most 64 KiB), so that one always fits.
const BUFFER: usize = 80 << 10;

/// Which items to read: those of `tree` whose key lies between `min` and `max`, each `(objectid, type, offset)`.
pub(super) struct Range {
    pub tree: u64,
    pub min: Key,
    pub max: Key,
}

/// The key of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub object: u64,
    pub kind: u32,
    pub offset: u64,
}

impl Key {
    /// The next key in the tree's order, unless this is the last.
    fn next(self) -> Option<Self> {
        match self {
            Self { offset, .. } if offset < u64::MAX => Some(Self { offset: offset + 1, ..self }),
            Self { kind, .. } if kind < 255 => Some(Self { kind: kind + 1, offset: 0, ..self }),
            Self { object, .. } if object < u64::MAX => Some(Self { object: object + 1, kind: 0, offset: 0 }),
            _ => None,
        }
    }
}

#[repr(C)]
struct SearchArgs {
    tree: u64,
    min_object: u64,
    max_object: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_kind: u32,
    max_kind: u32,
    items: u32,
    unused: u32,
    unused_too: [u64; 4],
    buffer_size: u64,
    buffer: [u8; BUFFER],
}

/// Calls `each` with every item of the range, in key order. The kernel compares keys as a whole, so `each` sees
/// items of other types and offsets too and has to look at the key.
pub(super) fn search(fd: BorrowedFd<'_>, range: &Range, mut each: impl FnMut(Key, &[u8])) -> SysResult<()> {
    let mut from = Some(range.min);
    let mut args = arguments(range);
    while let Some(min) = from.filter(|k| *k <= range.max) {
        read_page(fd, &mut args, min)?;
        let mut last = None;
        for (key, data) in items(&args) {
            each(key, data);
            last = Some(key);
        }
        from = last.and_then(Key::next);
    }
    Ok(())
}

fn arguments(range: &Range) -> Box<SearchArgs> {
    Box::new(SearchArgs {
        tree: range.tree,
        min_object: range.min.object,
        max_object: range.max.object,
        min_offset: range.min.offset,
        max_offset: range.max.offset,
        min_transid: 0,
        max_transid: u64::MAX,
        min_kind: range.min.kind,
        max_kind: range.max.kind,
        items: 0,
        unused: 0,
        unused_too: [0; 4],
        buffer_size: 0,
        buffer: [0; BUFFER],
    })
}

fn read_page(fd: BorrowedFd<'_>, args: &mut SearchArgs, min: Key) -> SysResult<()> {
    (args.min_object, args.min_kind, args.min_offset) = (min.object, min.kind, min.offset);
    (args.items, args.buffer_size) = (u32::MAX, BUFFER as u64);
    // SAFETY: the kernel writes the 112 bytes before the buffer and at most `buffer_size` bytes into it, which is
    // its length; any bytes are valid for these integers.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), TREE_SEARCH_V2 as libc::Ioctl, std::ptr::from_mut(args)) };
    if result < 0 {
        return Err(SysError::new("search tree", args.tree, io::Error::last_os_error()));
    }
    Ok(())
}

fn items(args: &SearchArgs) -> impl Iterator<Item = (Key, &[u8])> {
    let mut rest = &args.buffer[..];
    (0..args.items).map_while(move |_| {
        let (header, body) = rest.split_at_checked(HEADER)?;
        let key = Key { object: le64(header, 8)?, offset: le64(header, 16)?, kind: native32(header, 24)? };
        let (data, after) = body.split_at_checked(native32(header, 28)? as usize)?;
        rest = after;
        Some((key, data))
    })
}

fn native32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The little-endian number at `at`, as on-disk items hold it (headers are in the machine's own order, which is
/// the same on every machine Tine runs on).
pub(super) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// The little-endian 32-bit number at `at`.
pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// The little-endian 16-bit number at `at`.
pub(super) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_at_its_place_and_keys_step_over_their_ends() {
        assert_eq!(std::mem::offset_of!(SearchArgs, buffer), 112);
        let key = |object, kind, offset| Key { object, kind, offset };
        assert_eq!(key(1, 2, 3).next(), Some(key(1, 2, 4)));
        assert_eq!(key(1, 2, u64::MAX).next(), Some(key(1, 3, 0)));
        assert_eq!(key(1, 255, u64::MAX).next(), Some(key(2, 0, 0)));
        assert_eq!(key(u64::MAX, 255, u64::MAX).next(), None);
    }
}
