//! The content of files on its way into a pack, read once and straight to where it is compressed.

use super::{SourceFile, SourceLink, members::Packed, tarfile::TarFile};
use crate::{
    error::{PackError, Result},
    manifest::Role,
    positioned::read_exact_at,
};
use sha2::{Digest, Sha256};
use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};
use tine_digest::{CHUNK, PAGE, is_zero};
use tine_model::{Reporter, Sha256Digest};

/// Copies files into the tar.
pub(super) struct Copying<'a> {
    pub reporter: &'a dyn Reporter,
    /// Bytes copied so far.
    pub done: u64,
}

/// A paged file to be copied.
pub(super) struct Paged<'a> {
    pub link: &'a SourceLink<'a>,
    pub role: Role,
    pub source: SourceFile<'a>,
    /// Which stretches go into the tar.
    pub stored: &'a [(u64, u64)],
    /// Where no page of them is to be all zero: set when one is, which is an error.
    pub zeros: Option<&'a AtomicBool>,
}

impl Paged<'_> {
    /// Reads whole pages, or the last ones.
    fn read(&self, room: &mut [u8], at: u64, what: &str) -> Result<()> {
        read_exact_at(self.source.file, room, at).map_err(PackError::io("read", what))?;
        match self.zeros {
            Some(zeros) if room.chunks(PAGE).any(is_zero) => {
                zeros.store(true, Ordering::Relaxed);
                Err(PackError::malformed(format!("{what} has zeros that are no holes")))
            }
            _ => Ok(()),
        }
    }
}

impl Copying<'_> {
    /// Copies the stored stretches of a file.
    pub fn paged<W: Packed>(&mut self, file: &Paged<'_>, tar: &mut TarFile<W>) -> Result<()> {
        let what = file.link.what(file.role);
        for (offset, length) in file.stored {
            let (mut at, end) = (*offset, offset + length);
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                let copied = tar.out.fill(most, &mut |room| file.read(room, at, &what))?;
                at += copied as u64;
                self.tell(copied)?;
            }
        }
        Ok(())
    }

    /// Copies the device state.
    pub fn vmstate<W: Write>(
        &mut self,
        link: &SourceLink<'_>,
        size: u64,
        tar: &mut TarFile<W>,
    ) -> Result<()> {
        let (mut hasher, mut buffer, mut at) = (Sha256::new(), vec![0; CHUNK], 0);
        while at < size {
            let wanted = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            read_exact_at(link.vmstate.file, piece, at)
                .map_err(PackError::io("read", link.what(Role::Vmstate)))?;
            hasher.update(&*piece);
            self.put(tar, piece)?;
            at += wanted as u64;
        }
        if Sha256Digest(hasher.finalize().into()) == link.vmstate.digest {
            return Ok(());
        }
        Err(PackError::corrupt(
            link.what(Role::Vmstate),
            "its content has not the digest that was recorded of it",
        ))
    }

    /// Puts content into the tar and tells of it.
    pub fn put<W: Write>(&mut self, tar: &mut TarFile<W>, bytes: &[u8]) -> Result<()> {
        tar.put(bytes)?;
        self.tell(bytes.len())
    }

    fn tell(&mut self, copied: usize) -> Result<()> {
        self.done += copied as u64;
        self.reporter.advance(self.done);
        if self.reporter.is_cancelled() { Err(PackError::Cancelled) } else { Ok(()) }
    }
}
