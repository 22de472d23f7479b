//! Stretches of a file cut into chunks, and what a chunk inherits of a parent's file. Reads nothing.

use tine_digest::{CHUNK, ChunkSums};

/// What of one chunk is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The chunk's number in the file.
    pub number: u64,
    /// Bytes of the chunk, as ascending ranges (from, to); none for a chunk that only has to be summed.
    pub ranges: Vec<(usize, usize)>,
}

impl Piece {
    /// Where the chunk begins in the file.
    pub fn offset(&self) -> u64 {
        self.number.saturating_mul(CHUNK as u64)
    }

    /// How many bytes the chunk has in a file of `size` bytes.
    pub fn length(&self, size: u64) -> usize {
        let rest = size.saturating_sub(self.offset());
        usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK)
    }
}

/// Cuts stretches, which ascend, into chunks; every chunk comes once.
pub(crate) fn by_chunk(stretches: &[(u64, u64)]) -> impl Iterator<Item = Piece> + '_ {
    let mut parts = stretches.iter().flat_map(|(offset, length)| parts(*offset, *length)).peekable();
    std::iter::from_fn(move || {
        let (number, range) = parts.next()?;
        let mut ranges = vec![range];
        while let Some((_, range)) = parts.next_if(|(other, _)| *other == number) {
            match ranges.last_mut() {
                Some(last) if last.1 == range.0 => last.1 = range.1,
                _ => ranges.push(range),
            }
        }
        Some(Piece { number, ranges })
    })
}

/// One stretch as ranges of chunks.
fn parts(offset: u64, length: u64) -> impl Iterator<Item = (u64, (usize, usize))> {
    let chunk = CHUNK as u64;
    let end = offset.saturating_add(length);
    let numbers = if length == 0 { 0..0 } else { offset / chunk..end.div_ceil(chunk) };
    numbers.map(move |number| {
        let start = number * chunk;
        let from = offset.saturating_sub(start).min(chunk);
        let to = (end - start).min(chunk);
        // both at most CHUNK
        (number, (from as usize, to as usize))
    })
}

/// The sums that a file of `size` bytes has of a parent of `parent_size` while nothing is laid over it, and, where
/// the sizes differ, the number of the chunk that has to be summed anew in any case.
pub(crate) fn inherited(parent: &ChunkSums, parent_size: u64, size: u64) -> (ChunkSums, Option<u64>) {
    let mut sums = parent.clone();
    if parent_size == size {
        return (sums, None);
    }
    let chunk = CHUNK as u64;
    let first = parent_size.min(size) / chunk;
    (first..parent_size.max(size).div_ceil(chunk)).for_each(|number| sums.set(number, None));
    (sums, (first * chunk < size).then_some(first))
}

/// `pieces` with one for the chunk `extra`, which must be summed, if there is none.
pub(crate) fn with_chunk(
    pieces: impl Iterator<Item = Piece>,
    extra: Option<u64>,
) -> impl Iterator<Item = Piece> {
    let mut extra = extra.map(|number| Piece { number, ranges: Vec::new() });
    let mut pieces = pieces.peekable();
    std::iter::from_fn(move || {
        let next = pieces.peek().map(|piece| piece.number);
        let wanted = extra.as_ref().map(|piece| piece.number);
        match (wanted, next) {
            (Some(wanted), Some(next)) if wanted < next => extra.take(),
            (Some(_), None) => extra.take(),
            (wanted, _) => pieces.next().inspect(|piece| {
                if Some(piece.number) == wanted {
                    extra = None;
                }
            }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const C: u64 = CHUNK as u64;

    #[test]
    fn stretches_are_cut_at_chunks_and_joined_within() {
        let pieces: Vec<_> =
            by_chunk(&[(0, 4096), (4096, 4096), (C - 4096, 2 * C), (5 * C, 0), (7 * C + 10, 20)]).collect();
        let wanted = [
            (0, vec![(0, 8192), (CHUNK - 4096, CHUNK)]),
            (1, vec![(0, CHUNK)]),
            (2, vec![(0, CHUNK - 4096)]),
            (7, vec![(10, 30)]),
        ];
        assert_eq!(pieces, wanted.map(|(number, ranges)| Piece { number, ranges }));
        assert_eq!((pieces[3].offset(), pieces[3].length(7 * C + 30)), (7 * C, 30));
    }

    #[test]
    fn the_extra_chunk_comes_once_and_in_order() {
        let numbers = |extra| {
            let pieces = [1, 4].map(|number| Piece { number, ranges: vec![(0, 1)] });
            with_chunk(pieces.into_iter(), extra).map(|p| (p.number, p.ranges.len())).collect::<Vec<_>>()
        };
        assert_eq!(numbers(None), [(1, 1), (4, 1)]);
        assert_eq!(numbers(Some(0)), [(0, 0), (1, 1), (4, 1)]);
        assert_eq!(numbers(Some(1)), [(1, 1), (4, 1)]);
        assert_eq!(numbers(Some(3)), [(1, 1), (3, 0), (4, 1)]);
        assert_eq!(numbers(Some(9)), [(1, 1), (4, 1), (9, 0)]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled(gaps in prop::collection::vec((0..2 * C, 0..3 * C), 0..20)) {
            let (mut at, mut stretches) = (0, Vec::new());
            for (gap, length) in gaps {
                stretches.push((at + gap, length));
                at += gap + length;
            }
            let pieces: Vec<_> = by_chunk(&stretches).collect();
            prop_assert!(pieces.is_sorted_by(|a, b| a.number < b.number));
            let mut joined: Vec<(u64, u64)> = Vec::new();
            for (from, to) in pieces.iter().flat_map(|p| p.ranges.iter().map(|(a, b)| (p.offset() + *a as u64, p.offset() + *b as u64))) {
                match joined.last_mut() { Some(last) if last.1 == from => last.1 = to, _ => joined.push((from, to)) }
            }
            let mut wanted: Vec<(u64, u64)> = Vec::new();
            for (from, to) in stretches.into_iter().filter(|(_, l)| *l > 0).map(|(o, l)| (o, o + l)) {
                match wanted.last_mut() { Some(last) if last.1 == from => last.1 = to, _ => wanted.push((from, to)) }
            }
            prop_assert_eq!(joined, wanted);
        }
    }
}
