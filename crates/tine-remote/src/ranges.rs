//! A set of byte ranges: what of a file is there.

use std::ops::Range;

/// Disjoint, sorted, non-empty ranges that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    /// Adds a range; what it touches becomes one with it.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|r| r.end < range.start);
        let to = self.0.partition_point(|r| r.start <= range.end);
        let mut joined = range;
        for old in self.0.get(from..to).unwrap_or_default() {
            joined = joined.start.min(old.start)..joined.end.max(old.end);
        }
        self.0.splice(from..to, [joined]);
    }

    /// The end of what is there from `at` on without a hole; `at` when nothing is.
    pub(crate) fn reach(&self, at: u64) -> u64 {
        let index = self.0.partition_point(|r| r.end <= at);
        self.0.get(index).filter(|r| r.start <= at).map_or(at, |r| r.end)
    }

    /// The first hole at or after `from`, up to `end`; none when there is none.
    pub(crate) fn hole(&self, from: u64, end: u64) -> Option<Range<u64>> {
        let start = self.reach(from);
        let next = self.0.get(self.0.partition_point(|r| r.start <= start)).map_or(end, |r| r.start);
        (start < end).then(|| start..next.min(end))
    }

    /// All that is not there.
    pub(crate) fn complement(&self) -> Self {
        let starts = std::iter::once(0).chain(self.0.iter().map(|r| r.end));
        let ends = self.0.iter().map(|r| r.start).chain([u64::MAX]);
        Self(starts.zip(ends).map(|(start, end)| start..end).filter(|r| !r.is_empty()).collect())
    }

    /// How many bytes are there.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// The end of the last range; 0 for none.
    pub(crate) fn last(&self) -> u64 {
        self.0.last().map_or(0, |r| r.end)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.add(range));
        set
    }
}

/// The first range at or after `from`, up to `end`, that none of the sets has anything of; none when there is none.
pub(crate) fn free(sets: &[&RangeSet], from: u64, end: u64) -> Option<Range<u64>> {
    let mut at = from;
    loop {
        let after = sets.iter().fold(at, |at, set| set.reach(at));
        if after >= end {
            return None;
        }
        if after == at {
            let ends = sets.iter().filter_map(|set| set.hole(at, end)).map(|hole| hole.end);
            return Some(at..ends.min().unwrap_or(end));
        }
        at = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: u64 = 40;

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..WIDTH, 0..WIDTH).prop_map(|(a, b)| a.min(b)..a.max(b))
    }

    fn apply(added: &[Range<u64>]) -> (RangeSet, Vec<bool>) {
        let (mut set, mut naive) = (RangeSet::default(), vec![false; WIDTH as usize]);
        for range in added {
            set.add(range.clone());
            naive[range.start as usize..range.end as usize].fill(true);
        }
        (set, naive)
    }

    proptest! {
        #[test]
        fn it_is_what_a_list_of_bytes_is(added in prop::collection::vec(range(), 0..12)) {
            let (set, naive) = apply(&added);
            prop_assert_eq!(set.total(), naive.iter().filter(|b| **b).count() as u64);
            prop_assert_eq!(set.last(), naive.iter().rposition(|b| *b).map_or(0, |i| i as u64 + 1));
            for at in 0..WIDTH {
                let there = naive[at as usize..].iter().take_while(|b| **b).count() as u64;
                prop_assert_eq!(set.reach(at), at + there);
                let start = naive[at as usize..].iter().position(|b| !*b).map(|i| at + i as u64);
                let hole = start.map(|s| {
                    s..s + naive[s as usize..].iter().take_while(|b| !**b).count() as u64
                });
                prop_assert_eq!(set.hole(at, WIDTH), hole);
            }
            let other = set.complement();
            prop_assert!((0..WIDTH).all(|at| (other.reach(at) > at) != naive[at as usize]));
            prop_assert_eq!(other.complement(), set.clone());
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|w| w[0].end < w[1].start));
        }

        #[test]
        fn what_is_free_is_in_none(one in prop::collection::vec(range(), 0..8), two in prop::collection::vec(range(), 0..8)) {
            let ((one, first), (two, second)) = (apply(&one), apply(&two));
            for from in 0..WIDTH {
                let taken = |at: &u64| first[*at as usize] || second[*at as usize];
                let start = (from..WIDTH).find(|at| !taken(at));
                let wanted = start.map(|start| start..(start..WIDTH).find(taken).unwrap_or(WIDTH));
                prop_assert_eq!(free(&[&one, &two], from, WIDTH), wanted);
            }
        }
    }
}
