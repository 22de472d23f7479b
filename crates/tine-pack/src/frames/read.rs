//! A stored stream decompressed by all cores, its content handed out in order.
//!
//! One thread cuts the stream into frames; others decompress them; a queue of bounded length holds, in order, what is
//! done or promised.

use super::{
    FRAME_MAX, THREADS_MAX,
    buffers::Buffers,
    split::{Part, STORED_MAX, Splitter, damaged},
};
use crate::error::{PackError, Result};
use std::{
    io::{self, BufRead, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, Scope},
};
use zstd::zstd_safe::DCtx;

/// The content of a stream of zstd frames.
///
/// Frames that say they hold at most [`FRAME_MAX`] bytes are decompressed by all cores, larger ones and such that do
/// not say by one. Skippable frames are passed over. What comes before damage is handed out before the error, which is
/// a [`PackError`] inside an [`io::Error`]. With two threads at most 40 MiB are in use.
pub struct FrameReader {
    order: Receiver<Slot>,
    spent: Arc<Pools>,
    current: Vec<u8>,
    at: usize,
    state: State,
    consumed: Arc<AtomicU64>,
}

/// A place in the queue.
enum Slot {
    Ready(Vec<u8>),
    Promised(Receiver<Result<Vec<u8>>>),
    Failed(PackError),
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    Failed,
}

/// A frame to be decompressed.
struct Job {
    stored: Vec<u8>,
    content: Vec<u8>,
    size: usize,
    done: SyncSender<Result<Vec<u8>>>,
}

struct Pools {
    stored: Buffers,
    content: Buffers,
}

impl FrameReader {
    /// Starts a thread that reads `input` and `threads` (1 to 16) that decompress.
    ///
    /// They end when the stream does or when this is dropped, at the latest after the next read of `input`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn new<'scope, R: Read + Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        input: R,
        threads: usize,
    ) -> io::Result<Self> {
        let threads = threads.clamp(1, THREADS_MAX);
        let pools = Pools {
            stored: Buffers::new(STORED_MAX, threads + 1),
            content: Buffers::new(FRAME_MAX, threads + 1),
        };
        let (spent, consumed) = (Arc::new(pools), Arc::new(AtomicU64::new(0)));
        let (to_workers, jobs) = channel();
        let (to_reader, order) = sync_channel(threads);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let (jobs, spent) = (Arc::clone(&jobs), Arc::clone(&spent));
            let work = move || work(&jobs, &spent.stored);
            thread::Builder::new().name("decompress".into()).spawn_scoped(scope, work)?;
        }
        let splitter = Splitter::new(input, Arc::clone(&consumed));
        let cut = Cut { splitter, spent: Arc::clone(&spent), to_workers, to_reader };
        thread::Builder::new().name("frames".into()).spawn_scoped(scope, move || cut.run())?;
        Ok(Self { order, spent, current: Vec::new(), at: 0, state: State::Running, consumed })
    }

    /// How many stored bytes have been read so far; a little ahead of the content that has been handed out.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// The counter behind [`Self::consumed`], for who has given the reader away.
    #[must_use]
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.consumed)
    }

    /// Gets the next content that is not empty, or notes the end.
    fn advance(&mut self) -> Result<()> {
        while self.at >= self.current.len() && self.state == State::Running {
            self.at = 0;
            let spent = std::mem::take(&mut self.current);
            self.spent.content.give(spent);
            match self.order.recv() {
                Ok(Slot::Ready(content)) => self.current = content,
                Ok(Slot::Promised(content)) => self.current = content.recv().map_err(|_| died())??,
                Ok(Slot::Failed(error)) => return Err(error),
                Ok(Slot::End) => self.state = State::Ended,
                Err(_) => return Err(died()),
            }
        }
        Ok(())
    }
}

fn died() -> PackError {
    PackError::io("decompress", "the pack")(io::Error::other("a thread of it died"))
}

impl BufRead for FrameReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.state == State::Failed {
            return Err(PackError::malformed("the zstd stream was damaged before").into());
        }
        self.advance().inspect_err(|_| self.state = State::Failed)?;
        Ok(self.current.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.current.len().min(self.at + amount);
    }
}

impl Read for FrameReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let read = available.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// The thread that cuts.
struct Cut<R> {
    splitter: Splitter<R>,
    spent: Arc<Pools>,
    to_workers: Sender<Job>,
    to_reader: SyncSender<Slot>,
}

impl<R: Read> Cut<R> {
    fn run(mut self) {
        let last = self.cut().map_or_else(Slot::Failed, |()| Slot::End);
        // who has gone wants to hear nothing more
        let _ = self.to_reader.send(last);
    }

    /// Queues part after part, until there are no more or nobody takes them.
    fn cut(&mut self) -> Result<()> {
        loop {
            let (mut stored, mut content) = (self.spent.stored.take(), self.spent.content.take());
            stored.clear();
            content.clear();
            let part = self.splitter.next(&mut stored, &mut content)?;
            let (slot, job) = match part {
                Part::End => return Ok(()),
                Part::Piece => {
                    self.spent.stored.give(stored);
                    (Slot::Ready(content), None)
                }
                Part::Frame(size) => {
                    let (done, promised) = sync_channel(1);
                    (Slot::Promised(promised), Some(Job { stored, content, size, done }))
                }
            };
            if self.to_reader.send(slot).is_err() {
                return Ok(());
            }
            // workers end after this thread
            let _ = job.map(|job| self.to_workers.send(job));
        }
    }
}

/// Decompresses until no more comes.
fn work(jobs: &Mutex<Receiver<Job>>, spent: &Buffers) {
    let mut decoder = DCtx::try_create();
    while let Some(job) = next_job(jobs) {
        let Job { stored, mut content, size, done } = job;
        let result = match &mut decoder {
            Some(decoder) => decompress(decoder, &stored, &mut content, size),
            None => Err(PackError::malformed("no memory for a zstd decoder")),
        };
        spent.give(stored);
        // who has gone wants to hear nothing more
        let _ = done.send(result.map(|()| content));
    }
}

fn next_job(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn decompress(decoder: &mut DCtx<'_>, stored: &[u8], content: &mut Vec<u8>, size: usize) -> Result<()> {
    decoder.decompress(content, stored).map_err(damaged)?;
    if content.len() == size {
        return Ok(());
    }
    Err(PackError::malformed("a zstd frame has not the size it says"))
}
