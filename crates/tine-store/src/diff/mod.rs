//! Differences between two read-only trees of one box.
//!
//! Asks the kernel's send stream which paths may differ, looks at just those in both trees, and walks both trees
//! when the stream says anything unexpected. Both trees are hostile: no link in them is followed, no device or FIFO
//! in them is opened. Never writes.

mod collect;
mod compare;
mod content;
mod disk;
mod file;
mod hidden;
mod namespace;
mod object;
mod send;
mod stream;
mod unified;

pub use disk::{file as disk_file, status as disk_status};
pub use file::{FILE_MAX, file};
pub use hidden::HiddenPaths;

use crate::Result;
use collect::Collector;
use std::collections::BTreeMap;
use tine_model::{ChangeKind, RawPath};
use tine_sys::tree::Tree;

/// Paths that differ, each list sorted by bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Only in the newer tree.
    pub added: Vec<RawPath>,
    /// In both, with other content, type, mode, owner, xattrs or device number.
    pub modified: Vec<RawPath>,
    /// Only in the older tree.
    pub deleted: Vec<RawPath>,
}

/// Which paths differ between two read-only subvolumes, given by their roots.
///
/// # Errors
/// Of the file system; `TooLarge` when a directory that must be listed is nested deeper than a path can say.
pub fn status(older: &Tree, newer: &Tree, hidden: &HiddenPaths) -> Result<Changes> {
    match status_by_send(older, newer, hidden)? {
        Some(changes) => Ok(changes),
        None => status_by_walk(older, newer, hidden),
    }
}

/// The answer of [`status`] by the send stream alone; `None` when the stream cannot be used.
///
/// # Errors
/// As [`status`].
pub fn status_by_send(older: &Tree, newer: &Tree, hidden: &HiddenPaths) -> Result<Option<Changes>> {
    let Some(candidates) = send::candidates(older, newer)? else { return Ok(None) };
    let changes = Collector::new(older, newer).candidates(candidates)?;
    Ok(changes.map(|changes| visible(changes, &hidden.resolved_in(&[newer]))))
}

/// The same answer as [`status`] by a look at every object of both trees, which need not be subvolumes.
///
/// # Errors
/// As [`status`].
pub fn status_by_walk(older: &Tree, newer: &Tree, hidden: &HiddenPaths) -> Result<Changes> {
    let changes = Collector::new(older, newer).everything()?;
    Ok(visible(changes, &hidden.resolved_in(&[newer])))
}

/// Changes by absolute path.
type Found = BTreeMap<Vec<u8>, ChangeKind>;

/// Leaves out what is hidden, and directories that came or went only to hold mount points.
fn visible(found: Found, hidden: &HiddenPaths) -> Changes {
    let mut changes = Changes::default();
    let scaffold = scaffold(&found, hidden);
    for (path, kind) in found {
        if hidden.covers(&path) || scaffold.contains(&path) {
            continue;
        }
        let list = match kind {
            ChangeKind::Added => &mut changes.added,
            ChangeKind::Modified => &mut changes.modified,
            ChangeKind::Deleted => &mut changes.deleted,
        };
        list.push(RawPath::new(path));
    }
    changes
}

/// Added or deleted directories above hidden paths with nothing else in them.
fn scaffold(found: &Found, hidden: &HiddenPaths) -> Vec<Vec<u8>> {
    let whole = |kind: &ChangeKind| *kind != ChangeKind::Modified;
    let above: Vec<&Vec<u8>> = found
        .iter()
        .filter(|(path, kind)| whole(kind) && hidden.lies_below(path))
        .map(|(path, _)| path)
        .collect();
    let only_mount_points = |path: &[u8]| {
        let prefix = [path, b"/"].concat();
        found
            .range(prefix.clone()..)
            .take_while(|(below, _)| below.starts_with(&prefix))
            .all(|(below, _)| hidden.covers(below) || hidden.lies_below(below))
    };
    above.into_iter().filter(|path| only_mount_points(path)).cloned().collect()
}
