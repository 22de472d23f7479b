//! Snapshots of boxes.

use crate::{bytesize::ByteSize, names::SnapshotName, timestamp::Timestamp};
use serde::{Deserialize, Serialize};

/// What `snapshot create` is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSnapshot {
    /// The name; `v<number>` when none.
    pub name: Option<SnapshotName>,
    /// One line about it.
    #[serde(default)]
    pub description: String,
    /// Also keeps the memory and devices of a running vm box.
    #[serde(default)]
    pub live: bool,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotName,
    /// Logical size of its tree: the sum of file sizes. None right after it was taken: it is measured when it is
    /// first listed or shown.
    pub size_bytes: Option<ByteSize>,
    /// When it was taken.
    pub created_at: Timestamp,
    /// One line about it.
    pub description: String,
    /// Whether it holds memory and devices too, so that a restore goes on from its instant.
    #[serde(default)]
    pub live: bool,
    /// Microseconds for which the machine stood still while it was taken, told once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_us: Option<u64>,
    /// Paths of nested subvolumes of the box that the snapshot holds only as empty directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_subvolumes: Vec<String>,
}

/// What `snapshot restore` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreSnapshot {
    /// The snapshot.
    pub name: SnapshotName,
    /// Keeps what was there before as a snapshot of this name, beside the one step of `undo`.
    pub keep_as: Option<SnapshotName>,
}

/// What a restore or undo did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The snapshot whose tree the box has now; none after `undo`.
    pub restored: Option<SnapshotName>,
    /// Where the former tree is kept by name.
    pub kept_as: Option<SnapshotName>,
    /// Whether the box was running and was started again.
    pub restarted: bool,
    /// Whether it goes on from the instant of a live snapshot.
    #[serde(default)]
    pub resumed: bool,
    /// Volumes attached to the box, whose data was not touched.
    pub untouched_volumes: Vec<String>,
}

/// What `snapshot prune` is asked; at least one rule is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneSnapshots {
    /// Keep this many of the newest.
    pub keep_last: Option<u32>,
    /// Keep the newest of each of this many most recent days that have one.
    pub keep_daily: Option<u32>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What `snapshot prune` did or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneReport {
    /// True when nothing was removed because a plan was asked for.
    pub dry_run: bool,
    /// Kept, newest first.
    pub kept: Vec<SnapshotName>,
    /// Removed, newest first.
    pub removed: Vec<SnapshotName>,
}
