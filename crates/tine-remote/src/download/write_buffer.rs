//! What one stream brings, gathered into pieces: each is here for readers at once, and written by another thread meanwhile.

use super::{
    kept::Piece,
    state::{Shared, Underway},
};
use crate::error::{RemoteError, Result};
use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// A piece that takes longer to fill is handed over as it is.
const PATIENCE: Duration = Duration::from_millis(300);

/// A stream's way to the file. What it has is written even when it is dropped.
pub(super) struct WriteBuffer {
    shared: Arc<Shared>,
    generation: u64,
    sync_every: u64,
    at: u64,
    piece: Option<Piece>,
    begun: Instant,
    writing: Option<JoinHandle<Result<()>>>,
}

impl WriteBuffer {
    /// For what comes at `at` and after it, of the file that is fetched now. After `sync_every` bytes, whoever wrote them, all
    /// is asked to be made durable.
    pub(super) fn new(shared: &Arc<Shared>, at: u64, sync_every: u64) -> Self {
        Self {
            generation: shared.generation(),
            shared: Arc::clone(shared),
            sync_every,
            at,
            piece: None,
            begun: Instant::now(),
            writing: None,
        }
    }

    /// Where the next bytes belong.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Takes what has come. Waits while the disk is slower, and for a while where a reader is.
    pub(super) async fn add(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            if self.piece.is_none() {
                self.shared.room(self.at).await;
                self.begun = Instant::now();
            }
            let piece = self.piece.get_or_insert_with(|| self.shared.piece(self.at));
            let taken = piece.fill(data);
            data = data.get(taken..).unwrap_or_default();
            self.at = self.at.saturating_add(taken as u64);
            if piece.is_full() || self.begun.elapsed() >= PATIENCE {
                self.hand_over().await?;
            }
        }
        Ok(())
    }

    /// Returns once all that has come is written.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.hand_over().await?;
        self.written().await
    }

    async fn hand_over(&mut self) -> Result<()> {
        // one piece at a time, so that memory stays bounded
        self.written().await?;
        if let Some((piece, underway)) = self.give() {
            let (shared, sync_every) = (Arc::clone(&self.shared), self.sync_every);
            let write = move || shared.write(&underway, &piece, sync_every);
            self.writing = Some(tokio::task::spawn_blocking(write));
        }
        Ok(())
    }

    /// The piece, which readers have from now on.
    fn give(&mut self) -> Option<(Arc<Piece>, Underway)> {
        let piece = Arc::new(self.piece.take()?);
        let underway = Shared::came(&self.shared, self.generation, &piece);
        Some((piece, underway))
    }

    async fn written(&mut self) -> Result<()> {
        let Some(writing) = mem::take(&mut self.writing) else { return Ok(()) };
        writing.await.unwrap_or_else(|e| Err(RemoteError::Internal(format!("writing a download: {e}"))))
    }
}

impl Drop for WriteBuffer {
    fn drop(&mut self) {
        if let Some((piece, underway)) = self.give() {
            // what can't be written now is not here, and fetched again
            let _ = self.shared.write(&underway, &piece, self.sync_every);
        }
    }
}
