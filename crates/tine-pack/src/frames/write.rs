//! Content compressed into independent frames by all cores, written in order.
//!
//! The caller's thread cuts and writes, others compress; a bounded number of frames is under way.

use super::{FRAME_MAX, THREADS_MAX, WINDOW_MAX, buffers::Buffers, spread, table};
use crate::error::{PackError, Result};
use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

/// How frames are compressed. Decides the bytes of the stream, together with the content and its boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    level: i32,
    /// The level of a frame whose bytes are evenly spread.
    level_of_even: i32,
    frame_max: usize,
    /// Sizes of zstd's tables as powers of two; 0 for what the level has.
    window_log: u32,
    hash_log: u32,
    chain_log: u32,
}

impl Compression {
    /// For memory and disks: level 3 with tables that stay in a core's own cache. Up to a fifth faster than level 3 as it
    /// is and less than a hundredth larger. What is compressed or encrypted already is tried at level 1 only, which takes
    /// half of the time and finds nearly as much.
    pub const PACK: Self = Self { level_of_even: 1, hash_log: 16, chain_log: 15, ..Self::level(3) };

    /// For what is written once and fetched often: frames of 12 MiB, which keep the window's 8 MiB in use; with two
    /// threads some 80 MiB are needed. One core reads it.
    pub const SMALL: Self =
        Self { frame_max: 12 << 20, window_log: WINDOW_MAX.ilog2(), hash_log: 21, ..Self::level(10) };

    /// Frames of [`FRAME_MAX`] at zstd's level 1 to 22.
    #[must_use]
    pub const fn level(level: i32) -> Self {
        Self { level, level_of_even: level, frame_max: FRAME_MAX, window_log: 0, hash_log: 0, chain_log: 0 }
    }

    /// How a frame of this content is compressed.
    fn of(self, content: &[u8]) -> Self {
        if self.level_of_even != self.level && spread::is_even(content) {
            return Self { frame_max: self.frame_max, ..Self::level(self.level_of_even) };
        }
        self
    }

    fn parameters(self) -> [CParameter; 6] {
        [
            CParameter::CompressionLevel(self.level),
            CParameter::WindowLog(self.window_log),
            CParameter::HashLog(self.hash_log),
            CParameter::ChainLog(self.chain_log),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
        ]
    }

    /// How many frames may be under way: one to spare keeps the threads busy, and large ones have no room for it.
    fn under_way_max(&self, threads: usize) -> usize {
        threads + usize::from(self.frame_max <= FRAME_MAX)
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameStats {
    /// Frames that hold content.
    pub frames: u64,
    /// Bytes of content.
    pub content_bytes: u64,
    /// Bytes written, the table of frames included.
    pub stored_bytes: u64,
}

/// Writes content as a row of frames; its bytes don't depend on the number of threads.
///
/// When it is dropped before [`Self::finish`], its threads end and the stream has no table and may end anywhere. With
/// two threads and frames of 4 MiB at most 40 MiB are in use, and what zstd needs at the level.
pub struct FrameWriter<W: Write> {
    out: W,
    /// The content of the next frame, whose buffer is as long as the longest.
    filling: Vec<u8>,
    filled: usize,
    under_way: VecDeque<Receiver<Result<Done>>>,
    under_way_max: usize,
    workers: Workers,
    frames: Vec<(u32, u32)>,
    stats: FrameStats,
    failed: bool,
}

struct Job {
    content: Vec<u8>,
    length: usize,
    done: SyncSender<Result<Done>>,
}

/// A frame that is ready.
struct Done {
    stored: Vec<u8>,
    length: usize,
}

/// Threads that compress, and their spent buffers.
struct Workers {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    stopped: AtomicBool,
    compression: Compression,
    content: Buffers,
    stored: Buffers,
}

impl Shared {
    /// A buffer for the content of a frame, as long as the longest.
    fn content(&self) -> Vec<u8> {
        let mut buffer = self.content.take();
        buffer.resize(self.compression.frame_max, 0);
        buffer
    }
}

impl<W: Write> FrameWriter<W> {
    /// Starts `threads` (1 to 16) that compress what is written and writes the frames to `out`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn new(out: W, compression: Compression, threads: usize) -> io::Result<Self> {
        let threads = threads.clamp(1, THREADS_MAX);
        let workers = Workers::start(compression, threads)?;
        Ok(Self {
            out,
            filling: workers.shared.content(),
            filled: 0,
            under_way: VecDeque::new(),
            under_way_max: compression.under_way_max(threads),
            workers,
            frames: Vec::new(),
            stats: FrameStats::default(),
            failed: false,
        })
    }

    /// Ends the current frame: the next byte begins a new one. Twice in a row is once.
    ///
    /// # Errors
    /// As writing.
    pub fn boundary(&mut self) -> io::Result<()> {
        let result = self.submit();
        self.failed |= result.is_err();
        Ok(result?)
    }

    /// Room of the current frame for the next content, never empty; what was put there counts after
    /// [`Self::filled`]. Saves a copy.
    ///
    /// # Errors
    /// As writing.
    pub fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.filling.len() {
            self.boundary()?;
        }
        Ok(self.filling.get_mut(self.filled..).unwrap_or_default())
    }

    /// Counts the next `amount` bytes of [`Self::room`] as content.
    pub fn filled(&mut self, amount: usize) {
        self.filled = self.filling.len().min(self.filled + amount);
    }

    /// Writes what is left and the table of frames, and flushes.
    ///
    /// # Errors
    /// As writing; there are more frames than a table can have.
    pub fn finish(mut self) -> Result<(W, FrameStats)> {
        self.write_all_frames()?;
        let table = table::encode(&self.frames)?;
        self.put(&table)?;
        self.out.flush().map_err(PackError::io("write", "the pack"))?;
        self.stats.frames = self.frames.len() as u64;
        Ok((self.out, self.stats))
    }

    /// Writes what is left, and flushes: for a stream that is to have no table.
    ///
    /// # Errors
    /// As writing.
    pub fn finish_without_table(mut self) -> Result<W> {
        self.write_all_frames()?;
        self.out.flush().map_err(PackError::io("write", "the pack"))?;
        Ok(self.out)
    }

    fn write_all_frames(&mut self) -> Result<()> {
        self.submit()?;
        while !self.under_way.is_empty() {
            self.write_next()?;
        }
        Ok(())
    }

    /// Gives the current frame to the threads that compress, once fewer than enough are under way.
    fn submit(&mut self) -> Result<()> {
        if self.failed {
            return Err(PackError::io("write", "the pack")(io::Error::other("writing has failed before")));
        }
        if self.filled == 0 {
            return Ok(());
        }
        self.write_ready()?;
        while self.under_way.len() >= self.under_way_max {
            self.write_next()?;
        }
        let length = mem::take(&mut self.filled);
        let content = mem::replace(&mut self.filling, self.workers.shared.content());
        self.under_way.push_back(self.workers.compress(content, length)?);
        Ok(())
    }

    /// Writes the frames that are ready, without waiting.
    fn write_ready(&mut self) -> Result<()> {
        while let Some(first) = self.under_way.front() {
            let done = match first.try_recv() {
                Ok(done) => done?,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(died()),
            };
            self.under_way.pop_front();
            self.write_frame(done)?;
        }
        Ok(())
    }

    /// Waits for the oldest frame and writes it.
    fn write_next(&mut self) -> Result<()> {
        let Some(first) = self.under_way.pop_front() else { return Ok(()) };
        let done = first.recv().map_err(|_| died())??;
        self.write_frame(done)
    }

    fn write_frame(&mut self, done: Done) -> Result<()> {
        self.put(&done.stored)?;
        self.stats.content_bytes += done.length as u64;
        self.frames.push((size(done.stored.len())?, size(done.length)?));
        self.workers.shared.stored.give(done.stored);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.stats.stored_bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| PackError::of_stream("write", "the pack", e))
    }
}

fn size(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| PackError::TooLarge("a frame is larger than 4 GiB".into()))
}

fn died() -> PackError {
    PackError::io("compress", "the pack")(io::Error::other("a thread of it died"))
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let part = self.room()?.write(bytes)?;
        self.filled(part);
        Ok(part)
    }

    /// Does nothing: a frame is written when it is full or ended, so that its bytes don't depend on when this is asked.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Workers {
    fn start(compression: Compression, threads: usize) -> io::Result<Self> {
        let (frame_max, kept) = (compression.frame_max, compression.under_way_max(threads));
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            compression,
            content: Buffers::new(frame_max, kept),
            stored: Buffers::new(compress_bound(frame_max), kept),
        });
        let (to_workers, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let mut workers = Self { jobs: Some(to_workers), threads: Vec::new(), shared };
        for _ in 0..threads {
            let (jobs, shared) = (Arc::clone(&jobs), Arc::clone(&workers.shared));
            let work = move || work(&jobs, &shared);
            workers.threads.push(thread::Builder::new().name("compress".into()).spawn(work)?);
        }
        Ok(workers)
    }

    /// Queues a frame's content; the answer comes when it is compressed.
    fn compress(&self, content: Vec<u8>, length: usize) -> Result<Receiver<Result<Done>>> {
        let (done, promised) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(died)?;
        jobs.send(Job { content, length, done }).map_err(|_| died())?;
        Ok(promised)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // one that died has said so by not answering
            let _ = thread.join();
        }
    }
}

/// Compresses until no more comes.
fn work(jobs: &Mutex<Receiver<Job>>, shared: &Shared) {
    let mut compressor = None;
    while let Some(job) = next_job(jobs) {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let compressor = compressor.get_or_insert_with(|| Compressor::new(shared.compression));
        let mut stored = shared.stored.take();
        stored.clear();
        let content = job.content.get(..job.length).unwrap_or_default();
        let done = compressor.as_mut().map_err(|why| failed(why)).and_then(|c| c.compress(content, stored));
        shared.content.give(job.content);
        // who has gone wants to hear nothing more
        let _ = job.done.send(done.map(|stored| Done { stored, length: job.length }));
    }
}

fn next_job(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// One thread's compressor.
struct Compressor {
    context: CCtx<'static>,
    compression: Compression,
    /// What the context is set to.
    set: Option<Compression>,
    /// The frame of content that is all zero and as long as can be.
    zeros: Option<Vec<u8>>,
}

impl Compressor {
    fn new(compression: Compression) -> Result<Self, &'static str> {
        let context = CCtx::try_create().ok_or("no memory")?;
        Ok(Self { context, compression, set: None, zeros: None })
    }

    fn compress(&mut self, content: &[u8], mut stored: Vec<u8>) -> Result<Vec<u8>> {
        let zeros = content.len() == self.compression.frame_max && tine_digest::is_zero(content);
        match &self.zeros {
            Some(frame) if zeros => stored.extend_from_slice(frame),
            _ => {
                let compressed =
                    self.set_for(content).and_then(|()| self.context.compress2(&mut stored, content));
                compressed.map_err(|code| failed(get_error_name(code)))?;
            }
        }
        if zeros && self.zeros.is_none() {
            self.zeros = Some(stored.clone());
        }
        Ok(stored)
    }

    fn set_for(&mut self, content: &[u8]) -> Result<(), usize> {
        let wanted = self.compression.of(content);
        if self.set == Some(wanted) {
            return Ok(());
        }
        for parameter in wanted.parameters() {
            self.context.set_parameter(parameter)?;
        }
        self.set = Some(wanted);
        Ok(())
    }
}

fn failed(why: &str) -> PackError {
    PackError::io("compress", "the pack")(io::Error::other(why.to_owned()))
}
