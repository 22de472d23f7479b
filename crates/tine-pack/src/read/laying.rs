//! A paged file being filled: chunks are summed and written by several threads at once, zeros left out.

use super::layers::Layers;
use crate::{
    crew::{Buffer, Crew},
    error::{PackError, Result},
    pieces::Piece,
};
use rustix::fs::{FallocateFlags, fallocate};
use std::{
    fs::File,
    io, mem,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tine_digest::{ChunkSums, PAGE, chunk_sum, is_zero};

/// How much is sent to the disk at once.
const STEP: u64 = 16 << 20;

/// Bytes that may still be written.
pub(super) struct Room {
    left: AtomicU64,
    total: u64,
}

impl Room {
    pub fn new(total: u64) -> Self {
        Self { left: AtomicU64::new(total), total }
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let took =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        match took {
            Ok(_) => Ok(()),
            Err(_) => Err(PackError::Full { needed: self.total.saturating_add(1), free: self.total }),
        }
    }
}

/// What lies under the stretches that come.
#[derive(Debug)]
pub(super) enum Ground {
    /// Nothing: the file is one hole.
    Hole,
    /// The parent's content, which the file holds already, and which is read off these.
    Parent(Arc<Layers>),
}

/// A file being filled.
pub(super) struct Laying {
    pub file: File,
    pub size: u64,
    /// In messages.
    pub name: String,
    pub ground: Ground,
    pub sums: Mutex<ChunkSums>,
    pub room: Arc<Room>,
    /// Bytes written that are not on their way to the disk yet: so that making the file durable at the end is short.
    pub waiting: AtomicU64,
    /// Held by who writes: the kernel has one write to a file at a time, and others spin meanwhile.
    pub turn: Mutex<()>,
}

/// Has a chunk summed and written by one of the threads. `buffer` has zeros where nothing is stored.
pub(super) fn lay(crew: &Crew, buffer: Arc<Buffer>, piece: Piece, laying: Arc<Laying>) {
    let work = move |buffer: &[u8], own: &mut Vec<u8>| laying.chunk(&piece, buffer, own);
    crew.run(buffer, Box::new(work));
}

impl Laying {
    /// The sums, once nothing is under way any more.
    pub fn take_sums(&self) -> ChunkSums {
        mem::take(&mut *self.sums.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn chunk(&self, piece: &Piece, buffer: &[u8], own: &mut Vec<u8>) -> Result<()> {
        let length = buffer.len();
        let (content, ranges) = match &self.ground {
            Ground::Hole => (buffer, vec![(0, length)]),
            Ground::Parent(parent) => {
                self.over_parent(parent, piece, buffer, own)?;
                (own.as_slice(), piece.ranges.iter().map(|range| pages_of(*range, length)).collect())
            }
        };
        let sum = chunk_sum(content);
        self.sums.lock().unwrap_or_else(PoisonError::into_inner).set(piece.number, sum);
        for (from, to) in ranges {
            self.write(content.get(from..to).unwrap_or_default(), piece.offset() + from as u64)?;
        }
        Ok(())
    }

    /// The parent's chunk with what is stored laid over it.
    fn over_parent(&self, parent: &Layers, piece: &Piece, buffer: &[u8], own: &mut Vec<u8>) -> Result<()> {
        own.resize(buffer.len(), 0);
        if piece.ranges.as_slice() != [(0, buffer.len())] {
            parent.read(own, piece.offset()).map_err(PackError::io("read", self.name.clone()))?;
        }
        for (from, to) in &piece.ranges {
            let (to, from) = (own.get_mut(*from..*to), buffer.get(*from..*to));
            to.unwrap_or_default().copy_from_slice(from.unwrap_or_default());
        }
        Ok(())
    }

    /// Writes pages from `offset` on, of which those that are zero become or stay holes.
    fn write(&self, content: &[u8], offset: u64) -> Result<()> {
        let mut at = 0;
        while let Some(first) = content.get(at..).and_then(|rest| rest.chunks(PAGE).next()) {
            let zero = is_zero(first);
            let pages = content.get(at..).unwrap_or_default().chunks(PAGE);
            let length: usize = pages.take_while(|page| is_zero(page) == zero).map(<[u8]>::len).sum();
            let run = content.get(at..at + length).unwrap_or_default();
            match (zero, &self.ground) {
                (true, Ground::Hole) => {}
                (true, Ground::Parent(_)) => self.punch(run, offset + at as u64)?,
                (false, _) => self.put(run, offset + at as u64)?,
            }
            at += length;
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.room.take(bytes.len() as u64)?;
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(bytes, offset).map_err(PackError::io("write", self.name.clone()))?;
        drop(turn);
        let length = bytes.len() as u64;
        if self.waiting.fetch_add(length, Ordering::Relaxed) + length >= STEP {
            self.begin_write_back();
        }
        Ok(())
    }

    /// Sends what has been written on its way to the disk.
    pub fn begin_write_back(&self) {
        if self.waiting.swap(0, Ordering::Relaxed) > 0 {
            tine_sys::btrfs::begin_write_back(self.file.as_fd());
        }
    }

    /// Makes a hole of what has become zero; where there are no holes, writes the zeros.
    fn punch(&self, zeros: &[u8], offset: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, flags, offset, zeros.len() as u64) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.put(zeros, offset),
            Err(e) => Err(PackError::io("make a hole in", self.name.clone())(io::Error::from(e))),
        }
    }
}

/// The pages that a range touches, in a chunk of `length` bytes.
fn pages_of((from, to): (usize, usize), length: usize) -> (usize, usize) {
    (from / PAGE * PAGE, to.next_multiple_of(PAGE).min(length))
}
