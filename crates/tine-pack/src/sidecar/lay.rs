//! Content laid down in a file by a thread of its own: zeros are left out, and the rest is summed on its way.

use crate::error::{PackError, Result};
use std::{
    fs::File,
    io, mem,
    os::unix::fs::FileExt,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, Scope, ScopedJoinHandle},
};
use tine_digest::{CHUNK, ChunkSums, PAGE, chunk_sum, is_zero};

/// Chunks that wait to be written.
const QUEUE: usize = 8;

/// Takes the content of a file from its first byte on.
pub(super) struct Layer<'scope> {
    to_thread: SyncSender<(u64, Vec<u8>)>,
    spent: Receiver<Vec<u8>>,
    /// None once its end has been told.
    thread: Option<ScopedJoinHandle<'scope, io::Result<ChunkSums>>>,
    chunk: Vec<u8>,
    number: u64,
}

impl<'scope> Layer<'scope> {
    /// Starts the thread; `file` is all hole. When this is dropped, the thread ends.
    pub fn start<'env>(scope: &'scope Scope<'scope, 'env>, file: &'env File) -> io::Result<Self> {
        let (to_thread, chunks) = sync_channel(QUEUE);
        // room for all there can be, so that giving one back never waits
        let (to_owner, spent) = sync_channel(QUEUE + 2);
        let lay = move || lay(file, &chunks, &to_owner);
        let thread = thread::Builder::new().name("lay".into()).spawn_scoped(scope, lay)?;
        Ok(Self { to_thread, spent, thread: Some(thread), chunk: Vec::with_capacity(CHUNK), number: 0 })
    }

    /// Adds the next content.
    pub fn add(&mut self, mut content: &[u8]) -> Result<()> {
        while !content.is_empty() {
            let missing = CHUNK - self.chunk.len();
            let (now, later) = content.split_at(missing.min(content.len()));
            self.chunk.extend_from_slice(now);
            content = later;
            if self.chunk.len() == CHUNK {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let mut next = self.spent.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        next.clear();
        let chunk = mem::replace(&mut self.chunk, next);
        let number = self.number;
        self.number += 1;
        match self.to_thread.send((number, chunk)) {
            Ok(()) => Ok(()),
            // only a thread that failed takes no more
            Err(_) => ended(self.thread.take()).map(|_| ()),
        }
    }

    /// Waits until all is written; gives the sums of what was.
    pub fn finish(mut self) -> Result<ChunkSums> {
        if !self.chunk.is_empty() {
            self.send()?;
        }
        drop(self.to_thread);
        ended(self.thread)
    }
}

/// Waits for the thread; what it failed with.
fn ended(thread: Option<ScopedJoinHandle<'_, io::Result<ChunkSums>>>) -> Result<ChunkSums> {
    let died = || io::Error::other("a thread that writes died");
    let ended = thread.ok_or_else(died).and_then(|thread| thread.join().unwrap_or_else(|_| Err(died())));
    ended.map_err(PackError::io("write", "the disk"))
}

fn lay(file: &File, chunks: &Receiver<(u64, Vec<u8>)>, spent: &SyncSender<Vec<u8>>) -> io::Result<ChunkSums> {
    let mut sums = ChunkSums::new();
    for (number, chunk) in chunks {
        sums.set(number, chunk_sum(&chunk));
        write_data(file, &chunk, number * CHUNK as u64)?;
        // who has gone needs it no more
        let _ = spent.try_send(chunk);
    }
    Ok(sums)
}

/// Writes what of `content` is not zero, in runs of pages.
fn write_data(file: &File, content: &[u8], offset: u64) -> io::Result<()> {
    let mut at = 0;
    for run in content.chunks(PAGE).collect::<Vec<_>>().chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let length: usize = run.iter().map(|page| page.len()).sum();
        if run.first().is_some_and(|page| !is_zero(page)) {
            file.write_all_at(content.get(at..at + length).unwrap_or_default(), offset + at as u64)?;
        }
        at += length;
    }
    Ok(())
}
