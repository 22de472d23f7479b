//! Plain SHA-256 of a file as it comes, in a thread of its own.

use crate::{
    crew::{Buffer, LOOK, died},
    error::{PackError, Result},
    zeros::hash_zeros,
};
use sha2::{Digest, Sha256};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};
use tine_model::{Reporter, Sha256Digest};

/// Chunks on their way through the digest. Bounded by the number of buffers there are.
pub(super) struct Hashing {
    to_thread: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    /// Nobody wants the digest any more.
    stopped: Arc<AtomicBool>,
}

enum Message {
    /// A chunk with zeros where nothing is stored, and where it belongs.
    Chunk { buffer: Arc<Buffer>, offset: u64 },
    /// The end of a file of so many bytes.
    End { size: u64, answer: SyncSender<Sha256Digest> },
}

impl Hashing {
    /// Starts the thread. It ends when this is dropped, also in the middle of a hole.
    pub fn start() -> Result<Self> {
        let (to_thread, messages) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let thread = thread::Builder::new()
            .name("sha256".into())
            .spawn(move || run(&messages, &seen))
            .map_err(PackError::io("start", "a thread"))?;
        Ok(Self { to_thread: Some(to_thread), thread: Some(thread), stopped })
    }

    /// Adds a chunk; the chunks of a file come in order.
    pub fn chunk(&self, buffer: Arc<Buffer>, offset: u64) -> Result<()> {
        self.send(Message::Chunk { buffer, offset })
    }

    /// The digest of the file whose chunks have been added, `size` bytes in all. A hole may take minutes, and the reporter
    /// need not wait for it; `meanwhile` is done again and again.
    pub fn end(&self, size: u64, reporter: &dyn Reporter, meanwhile: impl Fn()) -> Result<Sha256Digest> {
        let (answer, answered) = sync_channel(1);
        self.send(Message::End { size, answer })?;
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(digest) => return Ok(digest),
                Err(RecvTimeoutError::Disconnected) => return Err(died()),
                Err(RecvTimeoutError::Timeout) if reporter.is_cancelled() => {
                    return Err(PackError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => meanwhile(),
            }
        }
    }

    fn send(&self, message: Message) -> Result<()> {
        self.to_thread.as_ref().and_then(|thread| thread.send(message).ok()).ok_or_else(died)
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        drop(self.to_thread.take());
        // one that died has left its answers open
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(messages: &Receiver<Message>, stopped: &AtomicBool) {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    while let Ok(message) = messages.recv() {
        let hole = match &message {
            Message::Chunk { offset, .. } => *offset,
            Message::End { size, .. } => *size,
        };
        if hash_zeros(&mut hasher, hole.saturating_sub(at), || stopped.load(Ordering::Relaxed)).is_err() {
            return;
        }
        match message {
            Message::Chunk { buffer, offset } => {
                hasher.update(buffer.as_slice());
                at = offset + buffer.len() as u64;
            }
            Message::End { answer, .. } => {
                at = 0;
                // who asked has gone only when all has failed
                let _ = answer.send(Sha256Digest(hasher.finalize_reset().into()));
            }
        }
    }
}
