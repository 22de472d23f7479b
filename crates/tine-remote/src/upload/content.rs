//! What is sent: read by position, never held whole, and counted.

use crate::error::{RemoteError, Result};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tine_model::Sha256Digest;

/// How much is read at once, in bytes.
pub(crate) const CHUNK: u64 = 1 << 20;
/// A connection that is slower than this, in bytes a second, is taken for dead.
const SLOWEST: u64 = 32 << 10;

/// A file or a few bytes, and how much of it was sent.
#[derive(Debug)]
pub(crate) struct Content {
    data: Data,
    size: u64,
    known: Option<Sha256Digest>,
    sent: AtomicU64,
}

#[derive(Debug)]
enum Data {
    File(File),
    Bytes(Bytes),
}

impl Content {
    pub(crate) fn of_file(file: &File, size: u64, known: Option<Sha256Digest>) -> Result<Self> {
        let file = file.try_clone().map_err(failed)?;
        Ok(Self { data: Data::File(file), size, known, sent: AtomicU64::new(0) })
    }

    pub(crate) fn of_bytes(bytes: &'static [u8]) -> Self {
        let data = Data::Bytes(Bytes::from_static(bytes));
        Self { data, size: bytes.len() as u64, known: None, sent: AtomicU64::new(0) }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
    pub(crate) fn sent_to(&self, at: u64) {
        self.sent.store(at, Ordering::Relaxed);
    }
    pub(crate) fn sent_more(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How long sending so much may take beyond the idle timeout, where progress can't be seen.
    pub(crate) fn patience(bytes: u64) -> Duration {
        Duration::from_secs(bytes / SLOWEST)
    }

    /// Up to `max` bytes from `at`; fewer only at the end.
    pub(crate) async fn part(self: &Arc<Self>, at: u64, max: u64) -> Result<Bytes> {
        let this = Arc::clone(self);
        aside(move || this.read(at, max)).await
    }

    fn read(&self, at: u64, max: u64) -> Result<Bytes> {
        let length = usize::try_from(max.min(self.size.saturating_sub(at))).unwrap_or(usize::MAX);
        match &self.data {
            Data::Bytes(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(from..from.saturating_add(length).min(bytes.len())))
            }
            Data::File(file) => {
                let mut buffer = vec![0; length];
                file.read_exact_at(&mut buffer, at).map_err(failed)?;
                Ok(buffer.into())
            }
        }
    }

    /// The digest, found by reading everything when nobody knows it.
    pub(crate) async fn digest(self: &Arc<Self>) -> Result<Sha256Digest> {
        if let Some(known) = self.known {
            return Ok(known);
        }
        let (mut hasher, mut at) = (Sha256::new(), 0);
        while at < self.size {
            let this = Arc::clone(self);
            let (next, read) = aside(move || {
                let part = this.read(at, 4 * CHUNK)?;
                hasher.update(&part);
                Ok((hasher, part.len() as u64))
            })
            .await?;
            (hasher, at) = (next, at + read);
        }
        Ok(Sha256Digest(hasher.finalize().into()))
    }
}

fn failed(source: std::io::Error) -> RemoteError {
    RemoteError::io("reading", "the file to send", source)
}

/// Runs what waits for the disk where it holds no connection up.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(RemoteError::Internal(format!("reading a file: {e}"))))
}
