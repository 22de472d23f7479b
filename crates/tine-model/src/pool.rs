//! The pool: what `init`, `doctor`, `df`, `gc` and `check` are asked and answer.

use crate::{bytesize::ByteSize, names::BoxRef, timestamp::Timestamp};
use serde::{Deserialize, Serialize};

/// What `init` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitRequest {
    /// Size of the sparse loop file, when one has to be made.
    pub size: ByteSize,
}

/// Where a pool lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolInfo {
    /// The pool's directory on this host.
    pub root: String,
    /// The loop file that holds it, when it is not on btrfs already.
    pub image_file: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// False when `init` found a pool already there and only made sure that it is mounted.
    pub created: bool,
}

/// What `detach` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachReport {
    /// Boxes that were running and are stopped now.
    pub stopped: Vec<BoxRef>,
    /// Whether the pool was unmounted (a pool in place on btrfs stays where it is).
    pub unmounted: bool,
}

/// How one thing that `doctor` looked at stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Works, with less than it could.
    Warning,
    /// Something needed is missing.
    Failed,
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorItem {
    /// What was looked at, in a word or two.
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// The command or change that mends it.
    pub mend: Option<String>,
}

/// What `doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// True when nothing failed.
    pub healthy: bool,
    /// In the order looked at.
    pub items: Vec<DoctorItem>,
}

/// Space in the pool and in each box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// Bytes of the pool's file system.
    pub total_bytes: ByteSize,
    /// Bytes in use.
    pub used_bytes: ByteSize,
    /// Bytes a writer can still get.
    pub free_bytes: ByteSize,
    /// Per box, ordered by project and name.
    pub boxes: Vec<BoxUsage>,
    /// Images, kernels and cached disks, ordered by kind and name.
    #[serde(default)]
    pub stored: Vec<StoredUsage>,
}

/// What an entry of [`StoredUsage`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredKind {
    /// An image.
    Image,
    /// A guest kernel.
    Kernel,
    /// The disk made of a base version, from which disks of vm boxes are cloned.
    Disk,
}

/// Space of something that is not a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUsage {
    /// What it is.
    pub kind: StoredKind,
    /// Its name.
    pub name: String,
    /// Bytes it holds, shared or not, without holes.
    pub logical_bytes: ByteSize,
    /// Bytes that only it holds, which deleting it would free.
    pub exclusive_bytes: ByteSize,
}

/// Space of one box's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxUsage {
    /// The box.
    #[serde(rename = "box")]
    pub name: BoxRef,
    /// Bytes its tree holds, shared or not.
    pub logical_bytes: ByteSize,
    /// Bytes that only this root holds, which deleting it would free.
    pub exclusive_bytes: ByteSize,
}

/// What `gc` removed or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// True when nothing was removed because a plan was asked for.
    pub dry_run: bool,
    /// Each thing, as `staging abc`, `cgroup …`, `bridge …`.
    pub removed: Vec<String>,
}

/// What `check` is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Also read all data, so that the file system verifies its checksums, and recompute stored digests.
    pub read_data: bool,
}

/// What `check` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Objects looked at.
    pub checked: u64,
    /// Each broken invariant, with the object's name.
    pub problems: Vec<CheckProblem>,
}

/// One broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckProblem {
    /// The object, as a user would name it.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// What mends it, where something does.
    pub mend: Option<String>,
}
