//! Differences between a box's root and its snapshots.

use crate::{names::SnapshotName, rawpath::RawPath};
use serde::{Deserialize, Serialize};

/// What `diff status` is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStatusRequest {
    /// The older side; the most recent snapshot when none.
    pub against: Option<SnapshotName>,
    /// The newer side; the box's current root when none.
    pub to: Option<SnapshotName>,
}

/// Paths that differ, each list sorted by bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffStatus {
    /// The older side.
    pub against: SnapshotName,
    /// The newer side; none for the current root.
    pub to: Option<SnapshotName>,
    /// Only in the newer side.
    pub added: Vec<RawPath>,
    /// In both, with other content, type, mode, owner, xattrs or device number.
    pub modified: Vec<RawPath>,
    /// Only in the older side.
    pub deleted: Vec<RawPath>,
}

/// How one path changed, as the mark in front of it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// `+`
    Added,
    /// `~`
    Modified,
    /// `-`
    Deleted,
}

impl DiffStatus {
    /// True when both sides are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.deleted.is_empty()
    }

    /// Every changed path with its kind, sorted by the path's bytes.
    #[must_use]
    pub fn lines(&self) -> Vec<(ChangeKind, &RawPath)> {
        let added = self.added.iter().map(|p| (ChangeKind::Added, p));
        let modified = self.modified.iter().map(|p| (ChangeKind::Modified, p));
        let deleted = self.deleted.iter().map(|p| (ChangeKind::Deleted, p));
        let mut lines: Vec<_> = added.chain(modified).chain(deleted).collect();
        lines.sort_by_key(|(_, path)| path.as_bytes());
        lines
    }
}

/// What `diff file` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffFileRequest {
    /// The path inside the box, absolute or relative to `/`.
    pub path: RawPath,
    /// The older side; the most recent snapshot when none.
    pub against: Option<SnapshotName>,
    /// The newer side; the box's current root when none.
    pub to: Option<SnapshotName>,
}

/// How one file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// Only in the newer side.
    Added,
    /// Only in the older side.
    Deleted,
    /// In both, and different.
    Modified,
    /// The same in both.
    Unchanged,
}

/// The difference of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffFile {
    /// The path inside the box, normalised.
    pub path: RawPath,
    /// How it stands.
    pub status: FileStatus,
    /// The newer content, when it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The older content, when it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// For `modified`: a unified diff that `patch` applies, or `Binary files differ`, or a line that says which
    /// of mode, owner, type, … changed when the content did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}
