//! Digests of open files: sparse ones by their data, on all cores, and others by every byte.

use crate::chunks::{CHUNK, ChunkSum, ChunkSums, chunk_sum};
use rustix::{fs::SeekFrom, io::Errno};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};
use tine_model::Sha256Digest;

/// More threads than this are not faster than a disk.
const THREADS_MAX: usize = 8;

/// The digest of a sparse file, by its chunks.
///
/// # Errors
/// The kernel's.
pub fn of_data(file: &File) -> io::Result<Sha256Digest> {
    Ok(sums_of_data(file)?.digest())
}

/// The sums of a sparse file's chunks. Holes are passed over; the file is read by as many threads as there are cores.
///
/// # Errors
/// The kernel's.
pub fn sums_of_data(file: &File) -> io::Result<ChunkSums> {
    let ranges = data_ranges(file)?;
    let starts: Vec<u64> = ranges
        .iter()
        .scan(0, |sum, (first, end)| {
            let start = *sum;
            *sum += end - first;
            Some(start)
        })
        .collect();
    let total: u64 = ranges.iter().map(|(first, end)| end - first).sum();
    // the n-th chunk that may hold data
    let chunk_at = |n: u64| {
        let range = starts.partition_point(|start| *start <= n).checked_sub(1)?;
        Some(ranges.get(range)?.0 + (n - starts.get(range)?))
    };
    let work = Work { next: AtomicU64::new(0), total, failed: AtomicBool::new(false) };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let threads = u64::try_from(threads).unwrap_or(1).min(total.div_ceil(8)).max(1);
    let parts: Vec<io::Result<Part>> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work.run(file, &chunk_at))).collect();
        let own = work.run(file, &chunk_at);
        let died = |_| Err(io::Error::other("a thread that sums died"));
        others.into_iter().map(|t| t.join().unwrap_or_else(died)).chain([own]).collect()
    });
    let mut sums = ChunkSums::new();
    for part in parts {
        sums.extend(part?);
    }
    Ok(sums)
}

/// Chunks that one thread has summed.
type Part = Vec<(u64, Option<ChunkSum>)>;

/// Chunks that are still to be summed.
struct Work {
    next: AtomicU64,
    total: u64,
    failed: AtomicBool,
}

impl Work {
    fn run(&self, file: &File, chunk_at: &impl Fn(u64) -> Option<u64>) -> io::Result<Part> {
        let (mut part, mut buffer) = (Vec::new(), vec![0; CHUNK]);
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(number) = chunk_at(n).filter(|_| n < self.total && !self.failed.load(Ordering::Relaxed))
            else {
                return Ok(part);
            };
            let read = read_full(file, &mut buffer, number * CHUNK as u64)
                .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            part.push((number, chunk_sum(buffer.get(..read).unwrap_or_default())));
        }
    }
}

/// Stretches that may hold data, as ascending, disjoint ranges of chunk numbers.
fn data_ranges(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let (mut ranges, mut at): (Vec<(u64, u64)>, u64) = (Vec::new(), 0);
    let chunk = CHUNK as u64;
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(ranges),
            start => start?,
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        let (first, end) = (start / chunk, at.div_ceil(chunk));
        match ranges.last_mut() {
            Some(last) if last.1 >= first => last.1 = end,
            _ => ranges.push((first, end)),
        }
    }
}

/// SHA-256 of a file, every byte of it.
///
/// # Errors
/// The kernel's.
pub fn of_all(file: &File) -> io::Result<Sha256Digest> {
    let (mut hasher, mut buffer, mut at) = (Sha256::new(), vec![0; CHUNK], 0);
    loop {
        let read = read_full(file, &mut buffer, at)?;
        hasher.update(buffer.get(..read).unwrap_or_default());
        at += read as u64;
        if read < buffer.len() {
            return Ok(Sha256Digest(hasher.finalize().into()));
        }
    }
}

/// Fills `buffer`; less only at the end of the file.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(pieces: &[(usize, &[u8])], length: usize) -> (File, Vec<u8>) {
        let file = tempfile::tempfile().unwrap();
        let mut content = vec![0; length];
        for (at, bytes) in pieces {
            file.write_at(bytes, *at as u64).unwrap();
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        file.set_len(length as u64).unwrap();
        (file, content)
    }

    #[test]
    fn a_file_is_summed_as_its_bytes_are_and_holes_are_not_seen() {
        let long = vec![7u8; 3 * CHUNK];
        for (pieces, length) in [
            (vec![], 0),
            (vec![], 10 * CHUNK),
            (vec![(0, &b"x"[..])], 1),
            (vec![(CHUNK - 1, &b"ab"[..])], 2 * CHUNK),
            (vec![(5 * CHUNK + 17, &long[..]), (40 * CHUNK, &b"end"[..])], 40 * CHUNK + 3),
            (vec![(0, &long[..]), (3 * CHUNK, &long[..100])], 3 * CHUNK + 100),
        ] {
            let (file, content) = file_of(&pieces, length);
            let mut sums = ChunkSums::new();
            sums.extend((0..).zip(content.chunks(CHUNK)).map(|(n, c)| (n, chunk_sum(c))));
            assert_eq!(sums_of_data(&file).unwrap(), sums);
            let dense = tempfile::tempfile().unwrap();
            dense.write_all_at(&content, 0).unwrap();
            assert_eq!(of_data(&dense).unwrap(), sums.digest());
            assert_eq!(of_all(&file).unwrap(), Sha256Digest(Sha256::digest(&content).into()));
        }
    }
}
