//! A few threads that work on buffers of one chunk, of which a bounded number goes round.
//!
//! Knows nothing of what is done with them.

use crate::error::{PackError, Result};
use std::{
    collections::VecDeque,
    io,
    ops::{Deref, DerefMut},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use tine_digest::CHUNK;
use tine_model::Reporter;

/// More threads than this are not faster than a disk.
const THREADS_MAX: usize = 8;
/// Buffers beyond two for each thread.
const SPARE: usize = 8;
/// How long who waits here does not hear that it is to stop.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// How many threads are worth starting here.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// What is to be done with a buffer's content; the other buffer is the thread's own, of any content.
pub(crate) type Work = Box<dyn FnOnce(&[u8], &mut Vec<u8>) -> Result<()> + Send>;

/// One of the buffers that go round. Goes back when it is dropped.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    shared: Arc<Shared>,
}

/// Threads that work, until it is dropped.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Something is to be done, or nothing ever will be.
    called: Condvar,
    /// A buffer has come back.
    done: Condvar,
}

struct State {
    queue: VecDeque<(Arc<Buffer>, Work)>,
    buffers: Vec<Vec<u8>>,
    /// Buffers that are not among `buffers`.
    out: usize,
    error: Option<PackError>,
    ended: bool,
}

impl Crew {
    /// Starts `threads` threads.
    pub fn start(threads: usize) -> Result<Self> {
        let threads = threads.clamp(1, THREADS_MAX);
        let state = State {
            queue: VecDeque::new(),
            buffers: (0..2 * threads + SPARE).map(|_| Vec::new()).collect(),
            out: 0,
            error: None,
            ended: false,
        };
        let shared = Shared { state: Mutex::new(state), called: Condvar::new(), done: Condvar::new() };
        let mut crew = Self { shared: Arc::new(shared), threads: Vec::new() };
        for _ in 0..threads {
            let shared = Arc::clone(&crew.shared);
            let thread = thread::Builder::new().name("chunks".into()).spawn(move || shared.work());
            crew.threads.push(thread.map_err(PackError::io("start", "a thread"))?);
        }
        Ok(crew)
    }

    /// Lets so many buffers more go round, each of which is made when it is needed.
    pub fn widen(&self, more: usize) {
        self.shared.lock().buffers.extend((0..more).map(|_| Vec::new()));
    }

    /// A buffer, once there is one: empty, or with whatever it last held, which who fills it all need not clear.
    ///
    /// # Errors
    /// What a thread has failed with; [`PackError::Cancelled`].
    pub fn buffer(&self, reporter: &dyn Reporter) -> Result<Buffer> {
        let mut state = self.shared.lock();
        loop {
            if let Some(error) = state.error.take() {
                return Err(error);
            }
            if let Some(mut bytes) = state.buffers.pop() {
                state.out += 1;
                bytes.reserve_exact(CHUNK.saturating_sub(bytes.len()));
                return Ok(Buffer { bytes, shared: Arc::clone(&self.shared) });
            }
            let waited = self.shared.done.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.buffers.is_empty() && reporter.is_cancelled() {
                return Err(PackError::Cancelled);
            }
        }
    }

    /// Has something done with a buffer of [`Self::buffer`], which others may read meanwhile.
    pub fn run(&self, buffer: Arc<Buffer>, work: Work) {
        self.shared.lock().queue.push_back((buffer, work));
        self.shared.called.notify_one();
    }

    /// Waits until everything has been done, and all buffers are back.
    ///
    /// # Errors
    /// What a thread has failed with.
    pub fn settle(&self) -> Result<()> {
        let mut state = self.shared.lock();
        while state.out > 0 && state.error.is_none() {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.error.take().map_or(Ok(()), Err)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(Arc<Buffer>, Work)> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            if let Some(next) = state.queue.pop_front() {
                return Some(next);
            }
            state = self.called.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        let mut own = Vec::new();
        while let Some((buffer, work)) = self.next() {
            let mut ending = Ending { shared: self, result: Err(died()) };
            ending.result = work(&buffer.bytes, &mut own);
            // before the buffer goes back, which may be what somebody waits for
            drop(ending);
        }
    }
}

/// Tells an error, also when the work has died.
struct Ending<'a> {
    shared: &'a Shared,
    result: Result<()>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::mem::replace(&mut self.result, Ok(())) {
            self.shared.lock().error.get_or_insert(error);
            self.shared.done.notify_all();
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.out -= 1;
        state.buffers.push(std::mem::take(&mut self.bytes));
        drop(state);
        self.shared.done.notify_all();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.called.notify_all();
        for thread in self.threads.drain(..) {
            // one that died has said so
            let _ = thread.join();
        }
        // what was not begun has buffers, which know where they go back to; they do that without the lock
        let undone = std::mem::take(&mut self.shared.lock().queue);
        drop(undone);
    }
}

pub(crate) fn died() -> PackError {
    PackError::io("work on", "the pack")(io::Error::other("a thread of it died"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tine_model::Silent;

    #[test]
    fn all_work_is_done_and_the_first_error_is_told() {
        let crew = Crew::start(3).unwrap();
        let sum = Arc::new(AtomicU64::new(0));
        for n in 0..1000u64 {
            let mut buffer = crew.buffer(&Silent).unwrap();
            buffer.resize(1, 1);
            let sum = Arc::clone(&sum);
            let work = move |buffer: &[u8], _: &mut Vec<u8>| {
                sum.fetch_add(n * buffer.len() as u64, Ordering::Relaxed);
                Ok(())
            };
            crew.run(Arc::new(buffer), Box::new(work));
        }
        crew.settle().unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 999 * 500);
        let buffer = crew.buffer(&Silent).unwrap();
        crew.run(Arc::new(buffer), Box::new(|_, _| Err(PackError::malformed("bad"))));
        assert!(matches!(crew.settle(), Err(PackError::Malformed(_))));
    }

    #[test]
    fn it_ends_with_work_undone() {
        let crew = Crew::start(1).unwrap();
        for _ in 0..5 {
            let buffer = crew.buffer(&Silent).unwrap();
            let slow = |_: &[u8], _: &mut Vec<u8>| {
                thread::sleep(std::time::Duration::from_millis(20));
                Ok(())
            };
            crew.run(Arc::new(buffer), Box::new(slow));
        }
        let shared = Arc::downgrade(&crew.shared);
        drop(crew);
        assert!(shared.upgrade().is_none(), "something keeps what was never done");
    }
}
