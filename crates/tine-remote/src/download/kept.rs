//! What has come and lies in memory still: who reads while it comes need not have it back from the disk.

use super::partial::PAGE;
use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

/// The longest piece, in bytes.
pub(super) const PIECE: usize = 1 << 20;
/// How many pieces are kept for a reader.
pub(super) const PIECES: usize = 8;

/// The memory of pieces that nobody has any more.
type Spares = Arc<Mutex<Vec<Vec<u8>>>>;

/// Bytes of a file, where they belong, aligned in memory as in the file.
pub(super) struct Piece {
    at: u64,
    store: Vec<u8>,
    from: usize,
    length: usize,
    capacity: usize,
    spares: Spares,
}

impl Piece {
    fn new(at: u64, spares: &Spares) -> Self {
        let spare = spares.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let store = spare.unwrap_or_else(|| vec![0; PIECE + PAGE]);
        let from = store.as_ptr().align_offset(PAGE).min(PAGE);
        // so that the next one begins where pieces do
        let capacity = PIECE - usize::try_from(at % PIECE as u64).unwrap_or_default();
        Self { at, store, from, length: 0, capacity, spares: Arc::clone(spares) }
    }

    /// Takes as much of `data` as there is room for, and says how much that was.
    pub(super) fn fill(&mut self, data: &[u8]) -> usize {
        let end = self.from + self.length;
        let room = self.store.get_mut(end..self.from + self.capacity).unwrap_or_default();
        let taken = data.len().min(room.len());
        let (room, data) = (room.get_mut(..taken), data.get(..taken));
        room.unwrap_or_default().copy_from_slice(data.unwrap_or_default());
        self.length += taken;
        taken
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == self.capacity
    }
    pub(super) fn at(&self) -> u64 {
        self.at
    }
    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.length as u64)
    }
    pub(super) fn bytes(&self) -> &[u8] {
        self.store.get(self.from..self.from + self.length).unwrap_or_default()
    }

    /// The bytes from a place in the file on; none where it has none of them.
    pub(super) fn bytes_from(&self, at: u64) -> &[u8] {
        let skipped = at.checked_sub(self.at).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.bytes().get(skipped..)).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).push(mem::take(&mut self.store));
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({}..{})", self.at, self.end())
    }
}

/// The pieces that a reader has still before it, as many as there is room for.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pieces: BTreeMap<u64, Arc<Piece>>,
    spares: Spares,
}

impl Kept {
    /// An empty piece for what comes at `at`.
    pub(super) fn piece(&self, at: u64) -> Piece {
        Piece::new(at, &self.spares)
    }

    /// Keeps a piece; where there are too many, the one that is wanted last is let go.
    pub(super) fn add(&mut self, piece: &Arc<Piece>) {
        self.pieces.insert(piece.at(), Arc::clone(piece));
        if self.pieces.len() > PIECES {
            self.pieces.pop_last();
        }
    }

    /// The piece that has the byte at `at`.
    pub(super) fn find(&self, at: u64) -> Option<&Arc<Piece>> {
        let (_, piece) = self.pieces.range(..=at).next_back()?;
        (at < piece.end()).then_some(piece)
    }

    /// Lets go what a reader at `at` has behind it; says whether that was anything.
    pub(super) fn pass(&mut self, at: u64) -> bool {
        let before = self.pieces.len();
        while self.pieces.first_key_value().is_some_and(|(_, piece)| piece.end() <= at) {
            self.pieces.pop_first();
        }
        self.pieces.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(kept: &Kept, at: u64, data: &[u8]) -> Arc<Piece> {
        let mut piece = kept.piece(at);
        assert_eq!(piece.fill(data), data.len());
        Arc::new(piece)
    }

    #[test]
    fn a_piece_takes_what_fits_and_ends_where_pieces_end() {
        let kept = Kept::default();
        let mut piece = kept.piece(PIECE as u64 + 10);
        assert_eq!(piece.fill(&[1; 100]), 100);
        assert_eq!(piece.fill(&vec![2; PIECE]), PIECE - 110);
        assert!(piece.is_full());
        assert_eq!((piece.fill(&[3]), piece.end()), (0, 2 * PIECE as u64));
        assert_eq!(piece.bytes_from(PIECE as u64 + 109)[..2], [1, 2]);
        assert!(piece.bytes_from(5).is_empty() && piece.bytes_from(u64::MAX).is_empty());
        assert_eq!(piece.bytes().as_ptr().addr() % PAGE, 0);
    }

    #[test]
    fn what_is_wanted_last_is_let_go_first_and_memory_goes_round() {
        let mut kept = Kept::default();
        for n in (0..PIECES as u64 + 3).rev() {
            let piece = filled(&kept, n * 10, &[n as u8; 10]);
            kept.add(&piece);
        }
        assert!(kept.find(PIECES as u64 * 10).is_none());
        assert_eq!(kept.find(15).unwrap().bytes_from(15), [1; 5]);
        assert!(!kept.pass(9));
        assert!(kept.pass(25));
        assert!(kept.find(15).is_none() && kept.find(25).is_some());
        kept.clear();
        assert!(kept.spares.lock().unwrap().len() <= PIECES + 3);
        let spare = kept.spares.lock().unwrap().last().unwrap().as_ptr();
        assert_eq!(kept.piece(0).store.as_ptr(), spare);
    }
}
