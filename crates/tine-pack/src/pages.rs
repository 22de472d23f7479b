//! Which stretches of a sparse file are to be stored: those that are not zero, or those that differ from a parent.
//!
//! Works in pages of 4 KiB, on all cores. Reads open files only, and holes not at all.

mod marks;
mod ranges;

use marks::{Marks, UNIT};
use ranges::Range;
use std::{fs::File, io, os::unix::fs::FileExt};
use tine_digest::{PAGE, is_zero};

/// The most stretches a file is described by; beyond that the nearest are joined.
pub const STRETCHES_MAX: usize = 500_000;

/// A stretch of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins, a whole number of pages.
    pub offset: u64,
    /// How long it is: a whole number of pages unless the file ends in it; never 0.
    pub length: u64,
}

/// Stretches that ascend and don't touch.
pub type Stretches = Vec<Stretch>;

/// The stretches of `file` that are not all zero. Where there are more than [`STRETCHES_MAX`], short zeros between
/// them belong to them.
///
/// # Errors
/// The kernel's.
pub fn stored(file: &File) -> io::Result<Stretches> {
    let length = file.metadata()?.len();
    let marks = marks::mark(&ranges::data(file)?, |range, buffers| {
        let content = read_full(file, &mut buffers[0], range)?;
        Ok(bits(content.chunks(PAGE).map(|page| !is_zero(page))))
    })?;
    Ok(stretches(&marks, length, STRETCHES_MAX))
}

/// The stretches of `file` that are no holes, of which nothing is read: where every page of zeros is a hole, as in what was
/// unpacked or baked here, those that [`stored`] finds. None where there are more than [`STRETCHES_MAX`].
///
/// # Errors
/// The kernel's.
pub fn held(file: &File) -> io::Result<Option<Stretches>> {
    let length = file.metadata()?.len();
    let ranges = ranges::data(file)?;
    if ranges.len() > STRETCHES_MAX {
        return Ok(None);
    }
    let stretch =
        |range: &Range| Stretch { offset: range.start, length: range.end.min(length) - range.start };
    Ok(Some(ranges.iter().filter(|range| range.start < length).map(stretch).collect()))
}

/// The stretches of `file` that differ from `parent`, also where it has become zero; what a shorter parent lacks
/// counts as zero. Where there are more than [`STRETCHES_MAX`], short stretches between them that are the same belong to
/// them. What both share on the disk is not read. Nobody may write to either meanwhile.
///
/// # Errors
/// The kernel's.
pub fn changed(file: &File, parent: &File) -> io::Result<Stretches> {
    let length = file.metadata()?.len();
    let data = ranges::union(ranges::data(file)?, ranges::data(parent)?);
    let different = ranges::without(&data, &ranges::shared(file, parent));
    let marks = marks::mark(&different, |range, [ours, theirs]| {
        let ours = read_full(file, ours, range)?;
        if ours.is_empty() {
            return Ok(0);
        }
        let had = read_full(parent, theirs, range)?.len();
        theirs.get_mut(had..).unwrap_or_default().fill(0);
        Ok(bits(ours.chunks(PAGE).zip(theirs.chunks(PAGE)).map(|(a, b)| b.get(..a.len()) != Some(a))))
    })?;
    Ok(stretches(&marks, length, STRETCHES_MAX))
}

/// One bit for each page, the first lowest.
fn bits(pages: impl Iterator<Item = bool>) -> u64 {
    (0..).zip(pages).fold(0, |bits, (page, set)| bits | u64::from(set) << page)
}

/// What the file has of a range, at most [`UNIT`] bytes.
fn read_full<'b>(file: &File, buffer: &'b mut [u8], range: Range) -> io::Result<&'b [u8]> {
    let wanted = usize::try_from(range.end - range.start).unwrap_or(UNIT).min(buffer.len());
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..wanted).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, range.start + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

/// The marked pages as at most `most` stretches of a file of `length` bytes.
fn stretches(marks: &Marks, length: u64, most: usize) -> Stretches {
    let gap = joined_gap(marks, most);
    let mut found: Vec<Range> = Vec::new();
    marks.each_run(|run| match found.last_mut() {
        Some(last) if run.start - last.end < gap => last.end = run.end,
        _ => found.push(run),
    });
    let page = PAGE as u64;
    let stretch = |run: Range| {
        let (start, end) = (run.start * page, length.min(run.end * page));
        (start < end).then(|| Stretch { offset: start, length: end - start })
    };
    found.into_iter().filter_map(stretch).collect()
}

/// Runs with fewer pages between them than this are to be joined: the least power of two that leaves at most `most`;
/// 0 when there are no more.
fn joined_gap(marks: &Marks, most: usize) -> u64 {
    let (mut runs, mut last_end) = (0_usize, None);
    let mut gaps = [0_usize; 65];
    marks.each_run(|run| {
        runs += 1;
        if let Some(end) = last_end.replace(run.end) {
            let gap = (run.start - end).ilog2() + 1;
            gaps[gap as usize] += 1;
        }
    });
    let mut gap = 0;
    while runs > most && gap < 63 {
        gap += 1;
        runs -= gaps[gap];
    }
    if gap == 0 { 0 } else { 1 << gap }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_neighbours_are_joined_where_there_are_too_many() {
        let run = |start: u64, end: u64| Stretch { offset: start << 12, length: (end - start) << 12 };
        // pages 0, 2, 4-5, 8, 63-64, 100, 400
        let marks = Marks::new(vec![(0, 0b1_0011_0101), (0, 1 << 63), (1, 1 | 1 << 36), (6, 1 << 16)]);
        let all = [run(0, 1), run(2, 3), run(4, 6), run(8, 9), run(63, 65), run(100, 101), run(400, 401)];
        for most in [7, 8, STRETCHES_MAX] {
            assert_eq!(stretches(&marks, 1 << 40, most), all);
        }
        for most in [5, 6] {
            assert_eq!(stretches(&marks, 1 << 40, most), [run(0, 6), run(8, 9), run(63, 65), all[5], all[6]]);
        }
        assert_eq!(stretches(&marks, 1 << 40, 4), [run(0, 9), run(63, 65), all[5], all[6]]);
        assert_eq!(stretches(&marks, 1 << 40, 3), [run(0, 101), all[6]]);
        assert_eq!(stretches(&marks, 1 << 40, 1), [run(0, 401)]);
        let cut = Stretch { offset: 400 << 12, length: 1 };
        assert_eq!(stretches(&marks, (400 << 12) + 1, 7).last(), Some(&cut));
    }
}
