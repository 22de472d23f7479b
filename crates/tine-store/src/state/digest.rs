//! Digests of memory, disks and device states.
//!
//! Memory and disks are sparse, so only what is not zero is read and counts: SHA-256 over each 64 KiB piece that is
//! not all zero, led by its number as a 64-bit little-endian integer. Holes are passed over, and a hole and zeros give
//! the same digest.

use super::StateFiles;
use crate::error::{Result, at};
use rustix::{fs::SeekFrom, io::Errno};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    thread,
};
use tine_model::{ByteSize, Sha256Digest};

const PIECE: usize = 64 << 10;
/// Whole pieces; large enough that a call costs nothing beside the hashing, small enough for the second-level cache.
const BUFFER: usize = 8 * PIECE;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// What is recorded of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Its digest.
    pub digest: Sha256Digest,
    /// Its length.
    pub bytes: ByteSize,
    /// Bytes it holds, without holes.
    pub stored_bytes: ByteSize,
}

impl FileSum {
    /// What must be equal for two files to be the same. Where holes are does not count.
    pub(super) fn content(&self) -> (Sha256Digest, ByteSize) {
        (self.digest, self.bytes)
    }

    fn new(file: &File, digest: Sha256Digest) -> io::Result<Self> {
        let stat = file.metadata()?;
        let stored = stat.blocks().saturating_mul(512).min(stat.len());
        Ok(Self { digest, bytes: ByteSize(stat.len()), stored_bytes: ByteSize(stored) })
    }
}

/// The sums of a machine's files.
pub(super) struct Sums {
    pub memory: FileSum,
    pub vmstate: FileSum,
    pub disk: Option<FileSum>,
}

/// Reads all files of a machine, memory and disk at the same time.
pub(super) fn all(files: &StateFiles) -> Result<Sums> {
    let disk = files.disk.as_ref();
    let (memory, vmstate, disk) = thread::scope(|scope| {
        let disk = disk.map(|disk| scope.spawn(|| of_data(disk)));
        let (memory, vmstate) = (of_data(&files.memory), of_all(&files.vmstate));
        // a thread that panics is a defect of this module; the caller gets an error all the same
        let died = || Err(io::Error::other("the reader died"));
        (memory, vmstate, disk.map(|d| d.join().unwrap_or_else(|_| died())))
    });
    let named = |name: &'static str| at::<io::Error>("read", Path::new(name));
    Ok(Sums {
        memory: memory.map_err(named(crate::layout::MEMORY))?,
        vmstate: vmstate.map_err(named(crate::layout::VMSTATE))?,
        disk: disk.transpose().map_err(named(crate::layout::DISK))?,
    })
}

/// The sum of a file that is sparse.
pub(crate) fn of_data(file: &File) -> io::Result<FileSum> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    let mut done = 0;
    while let Some((start, end)) = next_data(file, done)? {
        hash_pieces(&mut hasher, file, start, end, &mut buffer)?;
        done = end;
    }
    FileSum::new(file, Sha256Digest(hasher.finalize().into()))
}

/// The sum of a file by all its bytes.
pub(crate) fn of_all(file: &File) -> io::Result<FileSum> {
    let (mut hasher, mut buffer, mut at) = (Sha256::new(), vec![0; BUFFER], 0);
    loop {
        match read_full(file, &mut buffer, at)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
        }
    }
    FileSum::new(file, Sha256Digest(hasher.finalize().into()))
}

/// The next stretch at or after `from`, a whole number of pieces, that may hold data; widened to whole pieces.
fn next_data(file: &File, from: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Err(Errno::NXIO) => return Ok(None),
        start => start?,
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    let piece = PIECE as u64;
    // lengths of files fit into 63 bits, so this cannot overflow
    Ok(Some((start / piece * piece, end.div_ceil(piece) * piece)))
}

fn hash_pieces(hasher: &mut Sha256, file: &File, start: u64, end: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let read = read_full(file, &mut buffer[..most], at)?;
        for (number, piece) in (at / PIECE as u64..).zip(buffer[..read].chunks(PIECE)) {
            if *piece != ZEROS[..piece.len()] {
                hasher.update(number.to_le_bytes());
                hasher.update(piece);
            }
        }
        if read < most {
            break;
        }
        at += read as u64;
    }
    Ok(())
}

/// Fills `buffer`; less only at the end of the file.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
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

    /// The definition, straight.
    fn plain(content: &[u8]) -> Sha256Digest {
        let mut hasher = Sha256::new();
        for (number, piece) in content.chunks(PIECE).enumerate().filter(|(_, p)| p.iter().any(|b| *b != 0)) {
            hasher.update((number as u64).to_le_bytes());
            hasher.update(piece);
        }
        Sha256Digest(hasher.finalize().into())
    }

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
    fn the_sparse_digest_is_the_one_defined_and_does_not_see_holes() {
        let long = vec![7u8; 3 * PIECE];
        for (pieces, length) in [
            (vec![], 0),
            (vec![], 10 * PIECE),
            (vec![(0, &b"x"[..])], 1),
            (vec![(PIECE - 1, &b"ab"[..])], 2 * PIECE),
            (vec![(5 * PIECE + 17, &long[..]), (40 * PIECE, &b"end"[..])], 40 * PIECE + 3),
            (vec![(0, &long[..]), (3 * PIECE, &long[..100])], 3 * PIECE + 100),
        ] {
            let (file, content) = file_of(&pieces, length);
            let sum = of_data(&file).unwrap();
            assert_eq!(sum.digest, plain(&content));
            assert_eq!(sum.bytes.bytes(), length as u64);
            let dense = tempfile::tempfile().unwrap();
            dense.write_all_at(&content, 0).unwrap();
            assert_eq!(of_data(&dense).unwrap().content(), sum.content());
            assert_eq!(of_all(&file).unwrap().digest, Sha256Digest(Sha256::digest(&content).into()));
        }
    }

    #[test]
    fn where_data_lies_and_every_bit_of_it_count() {
        let sum = |at: usize, bytes: &[u8]| of_data(&file_of(&[(at, bytes)], 9 * PIECE).0).unwrap().digest;
        let one = sum(0, b"x");
        assert_ne!(one, sum(PIECE, b"x"));
        assert_ne!(one, sum(1, b"x"));
        assert_ne!(one, sum(0, b"y"));
    }
}
