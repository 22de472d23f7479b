//! Which bytes two images are known to share without reading them.

use super::Image;
use rustix::fs::fsync;
use std::os::fd::AsFd;
use tine_sys::extents::{Extent, extents_from};

/// More pieces than this are not asked for; what comes after them counts as different.
const PIECES_MAX: usize = 1 << 22;

/// Stretches of two image files that are the same bytes: the same place of the pool, or holes in both.
#[derive(Default)]
pub(crate) struct Same {
    /// From and to, ascending, apart from each other.
    ranges: Vec<(u64, u64)>,
}

/// A part of a file from one offset to another.
#[derive(Clone, Copy)]
struct Piece {
    from: u64,
    to: u64,
    /// Where it lies; none when it reads as zeros.
    place: Option<u64>,
    comparable: bool,
}

impl Same {
    /// Compares where two image files lie. Both must be on one file system and not be written to. Where that
    /// cannot be told, nothing counts as shared.
    pub fn between(older: &Image, newer: &Image) -> Self {
        let pieces = |image: &Image| {
            // what is not written back has no place yet, and its old place is not where it will be
            fsync(&image.source).ok().and_then(|()| pieces(image))
        };
        let (Some(a), Some(b)) = (pieces(older), pieces(newer)) else { return Self::default() };
        Self { ranges: shared(&a, &b) }
    }

    /// Whether a stretch is the same in both images.
    pub fn covers(&self, images: (&Image, &Image), at: u64, length: u64) -> bool {
        let (from, to) = (at, at.saturating_add(length));
        let before = self.ranges.partition_point(|(_, end)| *end <= from);
        let inside = self.ranges.get(before).is_some_and(|(start, end)| *start <= from && to <= *end);
        inside && !images.0.source.is_overlaid(at, length) && !images.1.source.is_overlaid(at, length)
    }
}

/// All of a file without gaps, up to its length.
fn pieces(image: &Image) -> Option<Vec<Piece>> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    let hole = |from, to| Piece { from, to, place: None, comparable: true };
    while pieces.len() < PIECES_MAX {
        let extents = extents_from(image.source.as_fd(), at).ok()?;
        for extent in &extents {
            let to = extent.offset.checked_add(extent.length).filter(|to| *to > at)?;
            if extent.offset > at {
                pieces.push(hole(at, extent.offset));
            }
            pieces.push(piece(extent, at.max(extent.offset), to));
            at = to;
        }
        if extents.last().is_none_or(|extent| extent.last) {
            pieces.push(hole(at, image.source.length().max(at)));
            return Some(pieces);
        }
    }
    Some(pieces)
}

fn piece(extent: &Extent, from: u64, to: u64) -> Piece {
    let place = extent.place.and_then(|place| place.checked_add(from - extent.offset));
    let zero = extent.unwritten && extent.comparable;
    let comparable = extent.comparable && (zero || place.is_some());
    Piece { from, to, place: place.filter(|_| !zero), comparable }
}

fn shared(a: &[Piece], b: &[Piece]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        let (from, to) = (one.from.max(other.from), one.to.min(other.to));
        if from < to && same_bytes(one, other, from) {
            match ranges.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                _ => ranges.push((from, to)),
            }
        }
        if one.to <= to {
            a.next();
        } else {
            b.next();
        }
    }
    ranges
}

fn same_bytes(one: &Piece, other: &Piece, from: u64) -> bool {
    let place = |piece: &Piece| piece.place.map(|place| place.saturating_add(from - piece.from));
    one.comparable && other.comparable && place(one) == place(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(from: u64, to: u64, place: u64) -> Piece {
        Piece { from, to, place: Some(place), comparable: true }
    }

    #[test]
    fn pieces_that_were_cut_differently_are_compared_where_they_overlap() {
        let zero = |from, to| Piece { from, to, place: None, comparable: true };
        let a = [at(0, 100, 1000), zero(100, 200), at(200, 300, 5000)];
        let b = [at(0, 40, 1000), at(40, 50, 9000), at(50, 100, 1050), zero(100, 300)];
        assert_eq!(shared(&a, &b), [(0, 40), (50, 200)]);
        let inline = [Piece { comparable: false, ..at(0, 100, 0) }];
        assert_eq!(shared(&inline, &inline), []);
        assert_eq!(shared(&a, &[]), []);
    }
}
