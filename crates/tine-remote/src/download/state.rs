//! What a download's streams, its readers and its owner share: which bytes are here, and how it stands.

use super::{
    DownloadStats,
    kept::{Kept, PIECE, PIECES, Piece},
    partial::Partial,
};
use crate::{
    error::{RemoteError, Result},
    ranges::{RangeSet, free},
};
use std::{
    io,
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tine_model::Sha256Digest;
use tokio::sync::{Notify, watch};

/// How far ahead of a reader that has enough to read streams begin a piece, in bytes: so far that the pieces from the reader's
/// own to that one are all kept.
const AHEAD: u64 = ((PIECES - 2) * PIECE) as u64;
/// How long they wait for it; then what they bring is read back from the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shared by everything that has to do with one download.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    stop: watch::Sender<bool>,
    /// Enough is new to be made durable.
    pub(super) dirty: Notify,
    /// A reader has come further, or has nothing to read.
    room: Notify,
}

#[derive(Debug)]
struct Inner {
    file: Arc<Partial>,
    /// Grows when everything begins anew: what was read before is of another file.
    generation: u64,
    /// What has come: it is kept, or being written, or written.
    here: RangeSet,
    written: RangeSet,
    /// Pieces that have come and are not written yet.
    underway: usize,
    kept: Kept,
    readers: usize,
    /// Where the last read was.
    read_at: u64,
    /// A reader waits for what is not here.
    starved: bool,
    claimed: RangeSet,
    /// What is not to be fetched.
    unwanted: RangeSet,
    size: Option<u64>,
    digest: Option<Sha256Digest>,
    fetched: u64,
    unsaved: u64,
    reused: u64,
    streams: usize,
    notes: Vec<String>,
    /// How it ended; a failure as the readers tell it.
    end: Option<Result<(), (io::ErrorKind, String)>>,
    spoiled: bool,
}

/// What a reader may read next.
#[derive(Debug)]
pub(super) struct Readable {
    /// What has it in memory.
    pub(super) piece: Option<Arc<Piece>>,
    pub(super) file: Arc<Partial>,
    pub(super) generation: u64,
    /// Everything before it is here.
    pub(super) upto: u64,
    /// The length, where known.
    pub(super) size: Option<u64>,
    pub(super) digest: Option<Sha256Digest>,
}

impl Shared {
    /// Of a file of which only `parts` are wanted, if there are any.
    pub(super) fn new(file: Partial, digest: Option<Sha256Digest>, parts: Option<&[Range<u64>]>) -> Self {
        let wanted = parts.map(|parts| parts.iter().cloned().collect::<RangeSet>());
        let inner = Inner {
            file: Arc::new(file),
            generation: 0,
            here: RangeSet::default(),
            written: RangeSet::default(),
            underway: 0,
            kept: Kept::default(),
            readers: 0,
            read_at: 0,
            starved: false,
            claimed: RangeSet::default(),
            unwanted: wanted.map_or_else(RangeSet::default, |wanted| wanted.complement()),
            size: None,
            digest,
            fetched: 0,
            unsaved: 0,
            reused: 0,
            streams: 0,
            notes: Vec::new(),
            end: None,
            spoiled: false,
        };
        let stop = watch::channel(false).0;
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            stop,
            dirty: Notify::new(),
            room: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // what the owner asks

    pub(super) fn size(&self) -> Option<u64> {
        self.lock().size
    }
    pub(super) fn digest(&self) -> Option<Sha256Digest> {
        self.lock().digest
    }
    pub(super) fn done(&self) -> u64 {
        self.lock().here.total()
    }
    /// Bytes that are wanted, and those of them that are not here; none while the length is not known.
    pub(super) fn wanted(&self) -> Option<(u64, u64)> {
        let inner = self.lock();
        let end = inner.size?;
        let total = |sets: &[&RangeSet]| {
            let next = |at| free(sets, at, end);
            let ranges = std::iter::successors(next(0), |range| next(range.end));
            ranges.map(|range| range.end - range.start).sum()
        };
        Some((total(&[&inner.unwanted]), total(&[&inner.unwanted, &inner.here])))
    }
    pub(super) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().notes)
    }
    pub(super) fn is_spoiled(&self) -> bool {
        self.lock().spoiled
    }

    /// True when it has ended; waits up to `at_most` for that.
    pub(super) fn wait_for_end(&self, at_most: Duration) -> bool {
        let wait = self.changed.wait_timeout_while(self.lock(), at_most, |inner| inner.end.is_none());
        wait.unwrap_or_else(PoisonError::into_inner).0.end.is_some()
    }

    pub(super) fn stats(&self, took: Duration) -> DownloadStats {
        let inner = self.lock();
        let (fetched, reused, streams) = (inner.fetched, inner.reused, inner.streams);
        DownloadStats { fetched, reused, seconds: took.as_secs_f64(), streams }
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    // what the job does

    /// Returns once the owner wants it to stop.
    pub(super) async fn stopped(&self) {
        // the sender lives as long as this
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// What an earlier download left.
    pub(super) fn take_up(&self, here: RangeSet) {
        let mut inner = self.lock();
        inner.reused = here.total();
        inner.written.clone_from(&here);
        inner.here = here;
        drop(inner);
        self.changed.notify_all();
    }

    pub(super) fn learn(&self, size: Option<u64>, digest: Option<Sha256Digest>) {
        let mut inner = self.lock();
        inner.size = size.or(inner.size);
        inner.digest = inner.digest.or(digest);
    }

    pub(super) fn note(&self, text: String) {
        self.lock().notes.push(text);
    }

    pub(super) fn uses(&self, streams: usize) {
        let mut inner = self.lock();
        inner.streams = inner.streams.max(streams);
    }

    /// All begins anew, in another file: who still reads the old one keeps what it has.
    pub(super) fn restart(&self, file: Partial) {
        let mut inner = self.lock();
        inner.file = Arc::new(file);
        inner.generation += 1;
        inner.here.clear();
        inner.written.clear();
        inner.kept.clear();
        inner.claimed.clear();
        (inner.size, inner.reused, inner.unsaved) = (None, 0, 0);
        drop(inner);
        self.changed.notify_all();
    }

    /// The file and what is written of it, which is taken for saved from now on.
    pub(super) fn saving(&self) -> (Arc<Partial>, RangeSet) {
        let mut inner = self.lock();
        inner.unsaved = 0;
        (Arc::clone(&inner.file), inner.written.clone())
    }

    /// Waits until nothing is being written.
    pub(super) fn settle(&self) {
        let settled = self.changed.wait_while(self.lock(), |inner| inner.underway > 0);
        drop(settled.unwrap_or_else(PoisonError::into_inner));
    }
    pub(super) fn unsaved(&self) -> u64 {
        self.lock().unsaved
    }

    /// The next range that nobody fetches, at most `block` long and not across a block's edge; none when all are taken.
    pub(super) fn claim(&self, block: u64) -> Option<Range<u64>> {
        let mut inner = self.lock();
        let free = free(&[&inner.here, &inner.claimed, &inner.unwanted], 0, inner.size?)?;
        let edge = (free.start / block).saturating_add(1).saturating_mul(block);
        let range = free.start..free.end.min(edge);
        inner.claimed.add(range.clone());
        Some(range)
    }

    /// What to ask for before the length is known: of the first block, what is wanted.
    pub(super) fn first(&self, block: u64) -> Range<u64> {
        free(&[&self.lock().unwanted], 0, block).unwrap_or(0..block)
    }

    /// Everything that was claimed is free again: nobody fetches any more.
    pub(super) fn release(&self) {
        self.lock().claimed.clear();
    }

    /// An empty piece for what comes at `at`.
    pub(super) fn piece(&self, at: u64) -> Piece {
        self.lock().kept.piece(at)
    }

    /// What has come for a generation of the file can be read from now on, and is to be written.
    pub(super) fn came(shared: &Arc<Self>, generation: u64, piece: &Arc<Piece>) -> Underway {
        let mut inner = shared.lock();
        inner.underway += 1;
        if inner.generation == generation {
            inner.here.add(piece.at()..piece.end());
            inner.fetched += piece.end() - piece.at();
            if inner.readers > 0 && piece.end() > inner.read_at {
                inner.kept.add(piece);
            }
        }
        drop(inner);
        shared.changed.notify_all();
        Underway { shared: Arc::clone(shared), generation }
    }

    /// Writes what came; asks for it to be made durable when `sync_every` bytes are new. What came for an older file is dropped.
    pub(super) fn write(&self, underway: &Underway, piece: &Piece, sync_every: u64) -> Result<()> {
        let inner = self.lock();
        let (file, size, current) = (Arc::clone(&inner.file), inner.size, inner.generation);
        drop(inner);
        if underway.generation != current {
            return Ok(());
        }
        let failed = |e| RemoteError::io("writing", "the download", e);
        file.write(piece.at(), piece.bytes(), size).map_err(failed)?;
        let mut inner = self.lock();
        if underway.generation == inner.generation {
            inner.written.add(piece.at()..piece.end());
            inner.unsaved += piece.end() - piece.at();
        }
        if inner.unsaved >= sync_every {
            self.dirty.notify_one();
        }
        Ok(())
    }

    /// Returns once a stream may go on at `at`: not while a reader is far behind and busy, but not for ever either.
    pub(super) async fn room(&self, at: u64) {
        let waiting = async {
            loop {
                let notified = self.room.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if !self.is_far_ahead(at) {
                    return;
                }
                notified.await;
            }
        };
        // the disk has it, so it may go on
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
    }

    fn is_far_ahead(&self, at: u64) -> bool {
        let inner = self.lock();
        inner.readers > 0 && !inner.starved && at > inner.read_at.saturating_add(AHEAD)
    }

    /// Everything is over, well or not; only the first word counts.
    pub(super) fn end(&self, outcome: &Result<()>) {
        let told = match outcome {
            Ok(()) => Ok(()),
            Err(RemoteError::Cancelled) => Err((io::ErrorKind::Interrupted, "cancelled".to_owned())),
            Err(e) => Err((io::ErrorKind::Other, e.to_string())),
        };
        self.lock().end.get_or_insert(told);
        self.changed.notify_all();
    }

    // what readers ask

    pub(super) fn begin_reading(&self) {
        self.lock().readers += 1;
    }

    pub(super) fn end_reading(&self) {
        let mut inner = self.lock();
        inner.readers -= 1;
        if inner.readers == 0 {
            inner.kept.clear();
        }
        drop(inner);
        self.room.notify_waiters();
    }

    /// Waits until the byte at `at` can be read, or the end is known to be there.
    pub(super) fn wait_readable(&self, at: u64) -> io::Result<Readable> {
        let mut inner = self.lock();
        inner.read_at = at;
        let (passed, waits) = (inner.kept.pass(at), inner.is_waited_for(at));
        inner.starved = waits;
        if passed || waits {
            self.room.notify_waiters();
        }
        if waits {
            let waited = self.changed.wait_while(inner, |inner| inner.is_waited_for(at));
            inner = waited.unwrap_or_else(PoisonError::into_inner);
            inner.starved = false;
        }
        inner.readable(at)
    }

    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// A reader found that the content is not the expected one.
    pub(super) fn spoil(&self) {
        self.lock().spoiled = true;
    }
}

impl Inner {
    /// Where what can be read from `at` on ends, in one go; `at` when nothing can.
    fn reach(&self, at: u64) -> u64 {
        self.kept.find(at).map_or_else(|| self.written.reach(at), |piece| piece.end())
    }

    fn is_waited_for(&self, at: u64) -> bool {
        self.end.is_none() && self.reach(at) <= at && self.size.is_none_or(|size| at < size)
    }

    fn readable(&self, at: u64) -> io::Result<Readable> {
        let upto = self.reach(at);
        if let (true, Some(Err((kind, why)))) = (upto <= at, &self.end) {
            // `Interrupted` would have the readers of the standard library try again
            let kind =
                if *kind == io::ErrorKind::Interrupted { io::ErrorKind::ConnectionAborted } else { *kind };
            return Err(io::Error::new(kind, why.clone()));
        }
        Ok(Readable {
            piece: self.kept.find(at).map(Arc::clone),
            file: Arc::clone(&self.file),
            generation: self.generation,
            upto,
            size: self.size,
            digest: self.digest,
        })
    }
}

/// A piece that has come and is not written yet; dropped when it is, or never will be.
#[derive(Debug)]
pub(super) struct Underway {
    shared: Arc<Shared>,
    generation: u64,
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.shared.lock().underway -= 1;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(size: u64, here: impl IntoIterator<Item = Range<u64>>) -> Shared {
        parts(size, here, None)
    }

    fn parts(size: u64, here: impl IntoIterator<Item = Range<u64>>, wanted: Option<&[Range<u64>]>) -> Shared {
        let shared = Shared::new(Partial::cached(tempfile::tempfile().unwrap()), None, wanted);
        let mut set = RangeSet::default();
        here.into_iter().for_each(|r| set.add(r));
        shared.take_up(set);
        shared.learn(Some(size), None);
        shared
    }

    #[test]
    fn claims_rise_keep_to_blocks_and_leave_out_what_is_here() {
        let shared = shared(100, [0..5, 33..40, 60..61]);
        let claims: Vec<_> = std::iter::from_fn(|| shared.claim(20)).collect();
        assert_eq!(claims, [5..20, 20..33, 40..60, 61..80, 80..100]);
        shared.release();
        assert_eq!(shared.claim(20), Some(5..20));
    }

    #[test]
    fn what_is_not_wanted_is_not_claimed() {
        let shared = parts(100, [0..5, 50..60], Some(&[2..30, 70..75, 90..100]));
        assert_eq!((shared.first(20), shared.wanted()), (2..20, Some((43, 40))));
        let claims: Vec<_> = std::iter::from_fn(|| shared.claim(20)).collect();
        assert_eq!(claims, [5..20, 20..30, 70..75, 90..100]);
    }

    #[test]
    fn a_reader_gets_what_is_here_before_it_hears_of_the_failure() {
        let shared = shared(100, std::iter::once(0..5));
        shared.end(&Err(RemoteError::unreachable("x", "gone")));
        assert_eq!(shared.wait_readable(2).unwrap().upto, 5);
        assert!(shared.wait_readable(5).unwrap_err().to_string().contains("gone"));
    }
}
