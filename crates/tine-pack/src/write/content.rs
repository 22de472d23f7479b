//! The content of files on its way into a pack: read once, chunk by chunk, summed by other threads meanwhile.

use super::{SourceFile, SourceLink, tarfile::TarFile};
use crate::{
    crew::Crew,
    error::{PackError, Result},
    manifest::Role,
    pieces::{Piece, by_chunk, with_chunk},
    positioned::read_exact_at,
};
use sha2::{Digest, Sha256};
use std::{
    io::Write,
    mem,
    sync::{Arc, Mutex, PoisonError},
};
use tine_digest::{CHUNK, ChunkSums, chunk_sum};
use tine_model::{Reporter, Sha256Digest};

/// Copies files into the tar.
pub(super) struct Copying<'a> {
    pub crew: Crew,
    pub reporter: &'a dyn Reporter,
    /// Bytes copied so far.
    pub done: u64,
}

/// A paged file to be copied.
pub(super) struct Paged<'a> {
    pub link: &'a SourceLink<'a>,
    pub role: Role,
    pub source: SourceFile<'a>,
    pub size: u64,
    /// Which stretches go into the tar.
    pub stored: &'a [(u64, u64)],
    /// The sums of the chunks that are not read, and the number of one that is in any case.
    pub inherited: (ChunkSums, Option<u64>),
}

impl Copying<'_> {
    /// Copies the stored stretches of a file; gives the sums of its chunks.
    pub fn paged<W: Write>(&mut self, file: Paged<'_>, tar: &mut TarFile<W>) -> Result<ChunkSums> {
        let (sums, extra) = file.inherited;
        let sums = Arc::new(Mutex::new(sums));
        let what = || file.link.what(file.role);
        for piece in with_chunk(by_chunk(file.stored), extra) {
            let mut buffer = self.crew.buffer()?;
            buffer.resize(piece.length(file.size), 0);
            read_exact_at(file.source.file, &mut buffer, piece.offset())
                .map_err(PackError::io("read", what()))?;
            for (from, to) in &piece.ranges {
                self.put(tar, buffer.get(*from..*to).ok_or_else(|| shorter(&what()))?)?;
            }
            self.sum(&piece, buffer, &sums);
        }
        self.crew.settle()?;
        let sums = mem::take(&mut *sums.lock().unwrap_or_else(PoisonError::into_inner));
        if sums.digest() == file.source.digest {
            return Ok(sums);
        }
        Err(PackError::corrupt(what(), "its content has not the digest that was recorded of it"))
    }

    fn sum(&self, piece: &Piece, buffer: Vec<u8>, sums: &Arc<Mutex<ChunkSums>>) {
        let (number, sums) = (piece.number, Arc::clone(sums));
        let work = move |buffer: &mut Vec<u8>, _: &mut Vec<u8>| {
            let sum = chunk_sum(number, buffer);
            sums.lock().unwrap_or_else(PoisonError::into_inner).set(number, sum);
            Ok(())
        };
        self.crew.run(buffer, Box::new(work));
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
        if self.reporter.is_cancelled() {
            return Err(PackError::Cancelled);
        }
        tar.put(bytes)?;
        self.done += bytes.len() as u64;
        self.reporter.advance(self.done);
        Ok(())
    }
}

fn shorter(what: &str) -> PackError {
    PackError::corrupt(what, "it became shorter while it was read")
}
