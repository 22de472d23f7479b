//! The file that a download fills.
//!
//! Where it is only read while it comes and deleted then, it is written past the page cache: the pages would cost more than the
//! writing. On btrfs that needs a file without copy-on-write (`chattr +C`) and space reserved beforehand; then it takes a fifth
//! of the processor time. Such a file has no checksums, and needs none: whoever reads it checks digests.

use crate::ranges::RangeSet;
use rustix::{
    fs::{FallocateFlags, IFlags, OFlags, fallocate, ioctl_getflags, ioctl_setflags},
    io::Errno,
};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// What addresses in memory and in the file must be multiples of.
pub(super) const PAGE: usize = 4096;
/// How much is reserved at once, in bytes.
const RESERVED: u64 = 8 << 20;

/// The file, opened once or twice.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    direct: Option<Direct>,
    /// Held by who writes through the page cache: the kernel has one such write to a file at a time, and others spin meanwhile.
    turn: Mutex<()>,
}

/// The same file, opened past the page cache.
#[derive(Debug)]
struct Direct {
    file: File,
    reserved: Mutex<RangeSet>,
}

impl Partial {
    /// A file that is written through the page cache.
    pub(super) fn cached(file: File) -> Self {
        Self { file, direct: None, turn: Mutex::default() }
    }

    /// A file that is written past the page cache where that pays. It lies at `path`, and is empty or has been opened so before.
    pub(super) fn uncached(file: File, path: &Path) -> Self {
        let direct = without_copies(&file).then(|| Direct::open(path)).flatten();
        Self { direct, ..Self::cached(file) }
    }

    /// For reading, and for making it durable.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes what belongs at `at`, in a file that is to have `size` bytes, where that is known.
    pub(super) fn write(&self, at: u64, bytes: &[u8], size: Option<u64>) -> io::Result<()> {
        if let (Some(direct), Some(size)) = (&self.direct, size)
            && is_aligned(at, bytes)
            && direct.write(at, bytes, size)?
        {
            return Ok(());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(bytes, at)
    }
}

impl Direct {
    fn open(path: &Path) -> Option<Self> {
        let mut options = File::options();
        options.write(true).custom_flags((OFlags::DIRECT | OFlags::NOFOLLOW).bits().cast_signed());
        Some(Self { file: options.open(path).ok()?, reserved: Mutex::default() })
    }

    /// Whether it could be written so.
    fn write(&self, at: u64, bytes: &[u8], size: u64) -> io::Result<bool> {
        let written = self.reserve(at, at.saturating_add(bytes.len() as u64), size);
        match written.and_then(|()| self.file.write_all_at(bytes, at)) {
            Ok(()) => Ok(true),
            Err(e) if [Errno::INVAL, Errno::OPNOTSUPP].contains(&errno(&e)) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Has space for what is to be written, and for what comes after it.
    fn reserve(&self, from: u64, to: u64, size: u64) -> io::Result<()> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if reserved.reach(from) >= to {
            return Ok(());
        }
        let from = from / RESERVED * RESERVED;
        let to = to.next_multiple_of(RESERVED).min(size).max(to);
        fallocate(&self.file, FallocateFlags::empty(), from, to - from)?;
        reserved.add(from..to);
        Ok(())
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn is_aligned(at: u64, bytes: &[u8]) -> bool {
    let page = PAGE as u64;
    at.is_multiple_of(page) && bytes.len().is_multiple_of(PAGE) && bytes.as_ptr().addr().is_multiple_of(PAGE)
}

/// Whether the file is without copy-on-write; makes it so while it is empty.
fn without_copies(file: &File) -> bool {
    let Ok(flags) = ioctl_getflags(file) else { return false };
    if flags.contains(IFlags::NOCOW) {
        return true;
    }
    // the flag does nothing to data that is there
    let empty = file.metadata().is_ok_and(|meta| meta.len() == 0);
    empty && ioctl_setflags(file, flags | IFlags::NOCOW).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_is_read_aligned_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("partial");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let partial = Partial::uncached(file, &path);
        let data: Vec<u8> = (0..9 * PAGE + 100).map(|n| (n / 7) as u8).collect();
        let size = data.len() as u64;
        // aligned, in the middle of a page up to a page's end, at the very end
        for (from, to) in [(4 * PAGE, 9 * PAGE), (10, 4 * PAGE), (0, 10), (9 * PAGE, data.len())] {
            let mut store = vec![0; to - from + PAGE];
            let start = store.as_ptr().align_offset(PAGE).min(PAGE);
            store[start..][..to - from].copy_from_slice(&data[from..to]);
            partial.write(from as u64, &store[start..][..to - from], Some(size)).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), data);
        let mut again = vec![0; data.len()];
        partial.file().read_exact_at(&mut again, 0).unwrap();
        assert_eq!(again, data);
    }
}
