//! A disk on its own beside a pack: one zstd stream of all its bytes, named for their digest.
//!
//! The name is not trusted and not looked at: what is read is checked against the digest that the pack's manifest gives.

mod lay;

use crate::{
    error::{PackError, Result},
    frames::{Compression, FrameReader, FrameWriter},
};
use lay::Layer;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, Read},
    os::unix::fs::FileExt,
    thread,
};
use tine_model::{Reporter, Sha256Digest};

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidecarWritten {
    /// SHA-256 of every byte of the disk.
    pub sha256: Sha256Digest,
    /// How long the disk is.
    pub bytes: u64,
    /// How long the sidecar is.
    pub stored: u64,
}

/// The name of the sidecar of a disk with this SHA-256: its first 16 digits and `.rootfs.zst`.
#[must_use]
pub fn name(sha256: &Sha256Digest) -> String {
    format!("{:.16}.rootfs.zst", sha256.to_string())
}

/// Compresses all of `disk` into `out`, from where that stands.
///
/// # Errors
/// A file could not be read or written; cancelled.
pub fn write_sidecar(disk: &File, out: &File, reporter: &dyn Reporter) -> Result<SidecarWritten> {
    let length = disk.metadata().map_err(PackError::io("read", "the disk"))?.len();
    reporter.step("compressing the disk", Some(length));
    let mut frames =
        FrameWriter::new(out, Compression::SMALL, cores()).map_err(PackError::io("compress", "the disk"))?;
    let (mut hasher, mut at) = (Sha256::new(), 0);
    loop {
        if reporter.is_cancelled() {
            return Err(PackError::Cancelled);
        }
        let room = frames.room().map_err(|e| PackError::of_stream("write", "the sidecar", e))?;
        let read = read_some(disk, room, at).map_err(PackError::io("read", "the disk"))?;
        if read == 0 {
            break;
        }
        hasher.update(room.get(..read).unwrap_or_default());
        frames.filled(read);
        at += read as u64;
        reporter.advance(at);
    }
    let (_, stats) = frames.finish()?;
    Ok(SidecarWritten {
        sha256: Sha256Digest(hasher.finalize().into()),
        bytes: at,
        stored: stats.stored_bytes,
    })
}

fn read_some(disk: &File, room: &mut [u8], at: u64) -> io::Result<usize> {
    let wanted = room.len().min(PIECE);
    loop {
        match disk.read_at(room.get_mut(..wanted).unwrap_or_default(), at) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Decompresses a sidecar into the empty file `disk`, whose holes are where zeros are, and gives its digest as
/// [`tine_digest`] defines it. Nothing is read back.
///
/// # Errors
/// The sidecar is damaged, or is not `size` bytes with this SHA-256; a file could not be read or written; cancelled. The
/// disk is then whatever had been written.
pub fn read_sidecar(
    input: &mut (dyn Read + Send),
    sha256: Sha256Digest,
    size: u64,
    disk: &File,
    reporter: &dyn Reporter,
) -> Result<Sha256Digest> {
    reporter.step("unpacking the disk", Some(size));
    disk.set_len(size).map_err(PackError::io("write", "the disk"))?;
    thread::scope(|scope| {
        let failed = PackError::io("read", "the sidecar");
        let mut content = FrameReader::new(scope, input, cores()).map_err(failed)?;
        let mut layer = Layer::start(scope, disk).map_err(PackError::io("write", "the disk"))?;
        let mut hasher = Sha256::new();
        let mut at = 0;
        loop {
            if reporter.is_cancelled() {
                return Err(PackError::Cancelled);
            }
            let piece = content.fill_buf().map_err(|e| PackError::of_stream("read", "the sidecar", e))?;
            let piece = piece.get(..PIECE).unwrap_or(piece);
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            if at > size {
                return Err(wrong(format!("it holds more than {size} bytes")));
            }
            hasher.update(piece);
            layer.add(piece)?;
            let read = piece.len();
            content.consume(read);
            reporter.advance(at);
        }
        let sums = layer.finish()?;
        let found = Sha256Digest(hasher.finalize().into());
        match () {
            () if at != size => Err(wrong(format!("it holds {at} bytes where {size} are expected"))),
            () if found != sha256 => Err(wrong(format!("its SHA-256 is {found}, expected is {sha256}"))),
            () => Ok(sums.digest()),
        }
    })
}

fn wrong(why: String) -> PackError {
    PackError::Corrupt { what: "the sidecar".into(), why }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
