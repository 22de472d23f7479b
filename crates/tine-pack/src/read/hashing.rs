//! Plain SHA-256 of a file as it comes, in a thread of its own, which then hands the chunks on.

use super::laying::{Laying, lay};
use crate::{
    crew::{Crew, died},
    error::{PackError, Result},
    pieces::Piece,
    zeros::hash_zeros,
};
use sha2::{Digest, Sha256};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
};
use tine_model::Sha256Digest;

/// Chunks on their way through the digest. Bounded by the number of buffers there are.
pub(super) struct Hashing {
    to_thread: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    /// A chunk with zeros where nothing is stored.
    Chunk { buffer: Vec<u8>, piece: Piece, laying: Arc<Laying> },
    /// The end of a file of so many bytes.
    End { size: u64, answer: SyncSender<Sha256Digest> },
}

impl Hashing {
    /// Starts the thread, which hands every chunk on to `crew`. It ends when this is dropped.
    pub fn start(crew: Arc<Crew>) -> Result<Self> {
        let (to_thread, messages) = channel();
        let thread = thread::Builder::new()
            .name("sha256".into())
            .spawn(move || run(&messages, &crew))
            .map_err(PackError::io("start", "a thread"))?;
        Ok(Self { to_thread: Some(to_thread), thread: Some(thread) })
    }

    /// Adds a chunk; the chunks of a file come in order.
    pub fn chunk(&self, buffer: Vec<u8>, piece: Piece, laying: Arc<Laying>) -> Result<()> {
        self.send(Message::Chunk { buffer, piece, laying })
    }

    /// The digest of the file whose chunks have been added, `size` bytes in all.
    pub fn end(&self, size: u64) -> Result<Sha256Digest> {
        let (answer, answered) = sync_channel(1);
        self.send(Message::End { size, answer })?;
        answered.recv().map_err(|_| died())
    }

    fn send(&self, message: Message) -> Result<()> {
        self.to_thread.as_ref().and_then(|thread| thread.send(message).ok()).ok_or_else(died)
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        drop(self.to_thread.take());
        // one that died has left its answers open
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(messages: &Receiver<Message>, crew: &Crew) {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    while let Ok(message) = messages.recv() {
        match message {
            Message::Chunk { buffer, piece, laying } => {
                skip(&mut hasher, &mut at, piece.offset());
                hasher.update(&buffer);
                at += buffer.len() as u64;
                lay(crew, buffer, piece, laying);
            }
            Message::End { size, answer } => {
                skip(&mut hasher, &mut at, size);
                at = 0;
                // who asked has gone only when all has failed
                let _ = answer.send(Sha256Digest(hasher.finalize_reset().into()));
            }
        }
    }
}

/// Counts a hole up to `offset`.
fn skip(hasher: &mut Sha256, at: &mut u64, offset: u64) {
    // never stopped, so it never fails
    let _ = hash_zeros(hasher, offset.saturating_sub(*at), || false);
    *at = offset;
}
