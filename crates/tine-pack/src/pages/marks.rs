//! Pages that are marked by all cores, and the runs they form.

use super::ranges::Range;
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};
use tine_digest::PAGE;

/// What one thread looks at at once: as many pages as a word has bits.
pub(super) const UNIT: usize = 64 * PAGE;
const UNIT_BYTES: u64 = UNIT as u64;
/// More threads than this are not faster than memory.
const THREADS_MAX: usize = 8;
/// Units for which a further thread is worth starting.
const UNITS_MIN: u64 = 16;

/// Buffers of one thread, [`UNIT`] bytes each.
pub(super) type Pair = [Vec<u8>; 2];

/// Marked pages: units in ascending order, and a bit for each page of theirs.
pub(super) struct Marks(Vec<(u64, u64)>);

/// Looks at all pages in `ranges`: `look` is given up to [`UNIT`] bytes of them that lie in one unit and says which
/// of their pages are to be marked, the first lowest.
pub(super) fn mark(
    ranges: &[Range],
    look: impl Fn(Range, &mut Pair) -> io::Result<u64> + Sync,
) -> io::Result<Marks> {
    let work = Work::new(ranges);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX) as u64;
    let threads = threads.min(work.total / UNITS_MIN).max(1);
    let parts: Vec<io::Result<Vec<(u64, u64)>>> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work.run(&look))).collect();
        let own = work.run(&look);
        let died = |_| Err(io::Error::other("a thread that looks at pages died"));
        others.into_iter().map(|t| t.join().unwrap_or_else(died)).chain([own]).collect()
    });
    let mut marks = Vec::new();
    for part in parts {
        marks.extend(part?);
    }
    // two ranges may lie in one unit
    marks.sort_unstable();
    Ok(Marks(marks))
}

/// Pieces that are still to be looked at.
struct Work<'r> {
    ranges: &'r [Range],
    /// How many pieces come before each range.
    before: Vec<u64>,
    total: u64,
    next: AtomicU64,
    failed: AtomicBool,
}

impl<'r> Work<'r> {
    fn new(ranges: &'r [Range]) -> Self {
        let mut total = 0;
        let mut before = Vec::with_capacity(ranges.len());
        for range in ranges {
            before.push(total);
            total += range.end.div_ceil(UNIT_BYTES) - range.start / UNIT_BYTES;
        }
        Self { ranges, before, total, next: AtomicU64::new(0), failed: AtomicBool::new(false) }
    }

    /// The n-th piece.
    fn piece(&self, n: u64) -> Option<Range> {
        let at = self.before.partition_point(|before| *before <= n).checked_sub(1)?;
        let (range, before) = (self.ranges.get(at)?, self.before.get(at)?);
        let unit = range.start / UNIT_BYTES + (n - before);
        let (start, end) = (unit * UNIT_BYTES, (unit + 1) * UNIT_BYTES);
        (n < self.total).then(|| Range { start: start.max(range.start), end: end.min(range.end) })
    }

    fn run(&self, look: &impl Fn(Range, &mut Pair) -> io::Result<u64>) -> io::Result<Vec<(u64, u64)>> {
        let (mut marks, mut buffers) = (Vec::new(), [vec![0; UNIT], vec![0; UNIT]]);
        while !self.failed.load(Ordering::Relaxed) {
            let Some(piece) = self.piece(self.next.fetch_add(1, Ordering::Relaxed)) else { break };
            let bits =
                look(piece, &mut buffers).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            let first = piece.start % UNIT_BYTES / PAGE as u64;
            if bits != 0 {
                marks.push((piece.start / UNIT_BYTES, bits << first));
            }
        }
        Ok(marks)
    }
}

impl Marks {
    /// Those given in ascending order.
    #[cfg(test)]
    pub fn new(marks: Vec<(u64, u64)>) -> Self {
        Self(marks)
    }

    /// Calls `each` with every run of marked pages, by their numbers, in order; runs don't touch.
    pub fn each_run(&self, mut each: impl FnMut(Range)) {
        let mut open: Option<Range> = None;
        for &(unit, mut bits) in &self.0 {
            while bits != 0 {
                let from = bits.trailing_zeros();
                let pages = (bits >> from).trailing_ones();
                let start = unit * 64 + u64::from(from);
                let end = start + u64::from(pages);
                match &mut open {
                    Some(run) if run.end == start => run.end = end,
                    _ => open.replace(Range { start, end }).into_iter().for_each(&mut each),
                }
                bits &= u64::MAX.checked_shl(from + pages).unwrap_or_default();
            }
        }
        open.into_iter().for_each(each);
    }
}
