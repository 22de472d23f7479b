//! Whether two regular files hold the same bytes.
//!
//! Stretches that both files share on the disk are not read, nor are holes that both have.

use rustix::{fs::SeekFrom, io::Errno};
use std::{fs::File, io, os::fd::AsFd, os::unix::fs::FileExt};
use tine_sys::{
    SysError, SysResult,
    extents::{Extent, extents_from},
    tree::Node,
};

/// How much of what is not shared is read before two files of the same size count as different. A box can make a
/// file of petabytes of a few shared blocks; nobody can wait for an answer on those.
const READ_MAX: u64 = 64 << 30;
const BUFFER: usize = 1 << 18;

/// Compares the content of two regular files.
pub(super) fn same(older: &Node, newer: &Node) -> SysResult<bool> {
    let size = older.meta().size;
    if size != newer.meta().size {
        return Ok(false);
    }
    if size == 0 {
        return Ok(true);
    }
    let (older, newer) = (older.open_file()?, newer.open_file()?);
    let shared = shared_prefix(&older, &newer);
    if shared >= size {
        return Ok(true);
    }
    same_bytes(&older, &newer, shared, size).map_err(|e| SysError::new("read", "a file to be compared", e))
}

/// Up to where both files are known to be made of the same blocks; the end of the file counts as `u64::MAX`.
fn shared_prefix(older: &File, newer: &File) -> u64 {
    let mut at = 0;
    loop {
        let (Ok(a), Ok(b)) = (extents_from(older.as_fd(), at), extents_from(newer.as_fd(), at)) else {
            return at;
        };
        let same = a.iter().zip(&b).take_while(|(a, b)| same_extent(a, b)).count();
        let ended = a.is_empty() && b.is_empty();
        if ended || (same == a.len() && same == b.len() && a.last().is_some_and(|e| e.last)) {
            return u64::MAX;
        }
        let end = a.get(..same).and_then(<[Extent]>::last).map(|e| e.offset.saturating_add(e.length));
        match end {
            Some(end) if end > at && same == a.len() && same == b.len() => at = end,
            Some(end) => return end.max(at),
            None => return at,
        }
    }
}

fn same_extent(a: &Extent, b: &Extent) -> bool {
    let place = |e: &Extent| (e.offset, e.place, e.length, e.unwritten);
    a.comparable && b.comparable && place(a) == place(b)
}

fn same_bytes(older: &File, newer: &File, mut at: u64, size: u64) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut left = READ_MAX;
    while at < size {
        let Some(data) = next_data(older, at)?.into_iter().chain(next_data(newer, at)?).min() else {
            return Ok(true);
        };
        at = data;
        let wanted = BUFFER.min(usize::try_from(size.saturating_sub(at)).unwrap_or(BUFFER));
        let (a, b) = (a.get_mut(..wanted).unwrap_or_default(), b.get_mut(..wanted).unwrap_or_default());
        older.read_exact_at(a, at)?;
        newer.read_exact_at(b, at)?;
        if a != b {
            return Ok(false);
        }
        at += wanted as u64;
        left = left.saturating_sub(wanted as u64);
        if left == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The next offset that is not in a hole; `None` when only a hole follows.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
