//! Unified diffs that `patch -p1` applies.

use similar::{Algorithm, DiffOp, DiffTag};
use std::{
    ops::Range,
    time::{Duration, Instant},
};
use tine_model::RawPath;

/// Lines around each change.
const CONTEXT: usize = 3;
/// After this long the diff may be longer than need be; it is right all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// The difference of two texts, with the labels `a/path` and `b/path`. Empty when they are the same.
pub(super) fn unified(path: &[u8], older: &str, newer: &str) -> String {
    // only a newline ends a line for patch; a lone carriage return is part of one
    let (a, b): (Vec<&str>, Vec<&str>) =
        (older.split_inclusive('\n').collect(), newer.split_inclusive('\n').collect());
    let deadline = Instant::now().checked_add(PATIENCE);
    let ops = similar::capture_diff_slices_deadline(Algorithm::Myers, &a, &b, deadline);
    let mut out = String::new();
    for group in similar::group_diff_ops(ops, CONTEXT) {
        if out.is_empty() {
            out = format!("--- {}\n+++ {}\n", label("a", path), label("b", path));
        }
        hunk(&mut out, &group, &a, &b);
    }
    out
}

fn hunk(out: &mut String, group: &[DiffOp], a: &[&str], b: &[&str]) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let old = first.old_range().start..last.old_range().end;
    let new = first.new_range().start..last.new_range().end;
    out.push_str(&format!("@@ -{} +{} @@\n", span(&old), span(&new)));
    for op in group {
        if op.tag() == DiffTag::Equal {
            lines(out, ' ', a, op.old_range());
        } else {
            lines(out, '-', a, op.old_range());
            lines(out, '+', b, op.new_range());
        }
    }
}

/// First line and count; an empty span stands behind the line before it.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        n => format!("{},{n}", range.start + 1),
    }
}

fn lines(out: &mut String, mark: char, text: &[&str], range: Range<usize>) {
    for line in text.get(range).unwrap_or_default() {
        out.push(mark);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// A name as patch reads it: quoted where it holds odd bytes, and with a tab behind it where it holds blanks.
fn label(side: &str, path: &[u8]) -> String {
    let mut label = RawPath::new([side.as_bytes(), path].concat()).to_string();
    if !label.starts_with('"') && label.contains(char::is_whitespace) {
        label.push('\t');
    }
    label
}
