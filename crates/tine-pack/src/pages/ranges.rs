//! Ranges of bytes that may hold data, and those that two files share.

use rustix::{fs::SeekFrom, io::Errno};
use std::{fs::File, io, os::fd::AsFd};
use tine_digest::PAGE;
use tine_sys::extents::{Extent, each_extent};

/// From `start` up to and without `end`; not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub start: u64,
    pub end: u64,
}

/// What of a file may hold data: whole pages, ascending, not touching.
pub(super) fn data(file: &File) -> io::Result<Vec<Range>> {
    let (mut ranges, mut at) = (Vec::new(), 0);
    loop {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(joined(ranges)),
            start => start?,
        };
        at = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        let page = PAGE as u64;
        ranges.push(Range { start: start / page * page, end: at.next_multiple_of(page) });
    }
}

/// Ascending ranges, those that touch made one.
fn joined(ranges: Vec<Range>) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What lies in either.
pub(super) fn union(mut a: Vec<Range>, b: Vec<Range>) -> Vec<Range> {
    a.extend(b);
    a.sort_unstable();
    joined(a)
}

/// What lies in `ranges` and not in `taken`; both ascend and don't overlap.
pub(super) fn without(ranges: &[Range], taken: &[Range]) -> Vec<Range> {
    let (mut left, mut taken) = (Vec::new(), taken.iter().copied().peekable());
    for range in ranges {
        let mut start = range.start;
        while let Some(next) = taken.next_if(|t| t.end <= range.end) {
            if start < next.start {
                left.push(Range { start, end: next.start });
            }
            start = start.max(next.end);
        }
        // one that reaches beyond may also cover the next range
        let end = taken.peek().map_or(range.end, |t| range.end.min(t.start));
        if start < end {
            left.push(Range { start, end });
        }
    }
    left
}

/// Whole pages that both files keep in the same place on the disk; none where that cannot be known.
pub(super) fn shared(file: &File, parent: &File) -> Vec<Range> {
    // what is not written back yet has no place, or still that of what it replaces
    let settled = rustix::fs::fdatasync(file).and_then(|()| rustix::fs::fdatasync(parent)).is_ok();
    let (Some(ours), Some(theirs)) = (extents(file), extents(parent)) else { return Vec::new() };
    if settled { joined(overlaps(&ours, &theirs)) } else { Vec::new() }
}

fn extents(file: &File) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    each_extent(file.as_fd(), |extent| extents.push(extent)).ok()?;
    Some(extents)
}

fn overlaps(ours: &[Extent], theirs: &[Extent]) -> Vec<Range> {
    let (mut ranges, mut theirs) = (Vec::new(), theirs.iter().peekable());
    for our in ours {
        while let Some(their) = theirs.peek() {
            ranges.extend(overlap(our, their));
            if end(their) > end(our) {
                break;
            }
            theirs.next();
        }
    }
    ranges
}

fn overlap(a: &Extent, b: &Extent) -> Option<Range> {
    let page = PAGE as u64;
    let start = a.offset.max(b.offset).checked_next_multiple_of(page)?;
    let end = end(a).min(end(b)) / page * page;
    // where the file's first byte would lie, were it all in this piece
    let origin = |e: &Extent| Some(e.place?.wrapping_sub(e.offset));
    let same = a.comparable && b.comparable && a.unwritten == b.unwritten && origin(a)? == origin(b)?;
    (same && start < end).then_some(Range { start, end })
}

fn end(extent: &Extent) -> u64 {
    extent.offset.saturating_add(extent.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pages(ranges: &[Range]) -> Vec<bool> {
        (0..64).map(|page| ranges.iter().any(|r| r.start <= page && page < r.end)).collect()
    }

    fn of_pages(pages: &[bool]) -> Vec<Range> {
        let set = (0..).zip(pages).filter(|(_, set)| **set);
        joined(set.map(|(page, _)| Range { start: page, end: page + 1 }).collect())
    }

    proptest! {
        #[test]
        fn sets_are_what_they_are_page_by_page(
            a in prop::collection::vec(any::<bool>(), 64),
            b in prop::collection::vec(any::<bool>(), 64),
        ) {
            let (x, y) = (of_pages(&a), of_pages(&b));
            let either: Vec<bool> = a.iter().zip(&b).map(|(a, b)| *a || *b).collect();
            let only: Vec<bool> = a.iter().zip(&b).map(|(a, b)| *a && !*b).collect();
            prop_assert_eq!(pages(&without(&x, &y)), only);
            prop_assert_eq!(union(x, y), of_pages(&either));
        }
    }

    #[test]
    fn pieces_in_one_place_are_found_though_they_are_cut_otherwise() {
        let piece = |offset: u64, place: u64, length: u64| Extent {
            offset: offset * 4096,
            place: Some(place * 4096),
            length: length * 4096,
            shared: true,
            inline: false,
            unwritten: false,
            comparable: true,
            last: false,
        };
        let ours = [piece(0, 100, 10), piece(10, 300, 2), piece(12, 112, 8), piece(40, 500, 1)];
        let theirs = [piece(0, 100, 4), piece(4, 104, 16), piece(30, 500, 20)];
        let found = joined(overlaps(&ours, &theirs));
        let range = |start: u64, end: u64| Range { start: start * 4096, end: end * 4096 };
        assert_eq!(found, [range(0, 10), range(12, 20)]);
        let mut compressed = theirs;
        compressed[1].comparable = false;
        assert_eq!(overlaps(&ours, &compressed), [range(0, 4)]);
    }
}
