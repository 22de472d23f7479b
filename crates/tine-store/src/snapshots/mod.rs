//! Snapshots of a box's root: taking, listing, renaming, deleting them.
//!
//! A snapshot's directory can be renamed though its root is read-only, so its name stands nowhere else.

mod live;
mod prune;
mod restore;

pub use prune::plan_prune;
pub use restore::Restored;
pub(crate) use restore::has_former_root;

use crate::{
    bases::names_in,
    boxes::{LockedBox, box_not_found},
    document::{self, Document, or_note},
    error::{Result, StoreError},
    layout::{META, ROOT, SIZE, SNAPSHOTS},
    pool::Pool,
    root::measure,
    staging::{Staging, discard, now_ns, open_dir, rename_to_free, withdraw},
    state::SavedState,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};
use tine_model::{
    BoxKind, BoxRef, ByteSize, CreateSnapshot, Reporter, SnapshotInfo, SnapshotName, Timestamp,
};
use tine_sys::btrfs;

/// `meta.json` of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotMeta {
    format: u32,
    created_at: Timestamp,
    /// Nanoseconds since the Unix epoch: seconds do not tell which of two is the newer.
    created_ns: u64,
    #[serde(default)]
    description: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing_subvolumes: Vec<String>,
    /// The machine, where the snapshot holds it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<SavedState>,
}

impl Document for SnapshotMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

/// A snapshot, as far as it is known without looking at its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its name.
    pub name: SnapshotName,
    /// When it was taken.
    pub created_at: Timestamp,
    /// One line about it.
    pub description: String,
    /// Paths of nested subvolumes of the box that it holds only as empty directories.
    pub missing_subvolumes: Vec<String>,
    /// Whether it holds memory and devices too.
    pub live: bool,
    created_ns: u64,
}

impl SnapshotRecord {
    fn new(name: SnapshotName, meta: SnapshotMeta) -> Self {
        Self {
            name,
            created_at: meta.created_at,
            description: meta.description,
            missing_subvolumes: meta.missing_subvolumes,
            live: meta.live.is_some(),
            created_ns: meta.created_ns,
        }
    }

    /// With the size of its tree, if it is known, what a user is shown.
    #[must_use]
    pub fn into_info(self, size_bytes: Option<ByteSize>) -> SnapshotInfo {
        SnapshotInfo {
            name: self.name,
            size_bytes,
            created_at: self.created_at,
            description: self.description,
            live: self.live,
            pause_us: None,
            missing_subvolumes: self.missing_subvolumes,
        }
    }
}

impl Pool {
    /// A box's snapshots, oldest first, without their sizes.
    ///
    /// # Errors
    /// `NotFound` when there is no such box.
    pub fn list_snapshots(&self, name: &BoxRef) -> Result<Vec<SnapshotRecord>> {
        let mut list = Vec::new();
        for snapshot in self.snapshot_names(name)? {
            // one that was deleted meanwhile is none
            if let Some(meta) = document::read_if_there(&self.layout().snapshot(name, &snapshot).join(META))?
            {
                list.push(SnapshotRecord::new(snapshot, meta));
            }
        }
        list.sort_by(|a, b| (a.created_ns, &a.name).cmp(&(b.created_ns, &b.name)));
        Ok(list)
    }

    /// One snapshot, without its size.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn snapshot(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<SnapshotRecord> {
        let meta = document::read_if_there(&self.layout().snapshot(name, snapshot).join(META))?;
        match meta {
            Some(meta) => Ok(SnapshotRecord::new(snapshot.clone(), meta)),
            None => Err(self.no_such_snapshot(name, snapshot)),
        }
    }

    /// A box's snapshots with their sizes, oldest first; one that cannot be read is told of and left out. The first look at a snapshot reads its tree; the size is
    /// then kept beside it.
    ///
    /// # Errors
    /// `NotFound` when there is no such box.
    pub fn list_snapshot_infos(&self, name: &BoxRef, reporter: &dyn Reporter) -> Result<Vec<SnapshotInfo>> {
        let mut records = Vec::new();
        for snapshot in self.snapshot_names(name)? {
            let record = self.record_with_size(name, &snapshot);
            records.extend(or_note(reporter, "snapshot", &format_args!("{name}/{snapshot}"), record));
        }
        records.sort_by(|(a, _), (b, _)| (a.created_ns, &a.name).cmp(&(b.created_ns, &b.name)));
        Ok(records.into_iter().map(|(record, size)| record.into_info(Some(size))).collect())
    }

    /// None when the snapshot was deleted meanwhile.
    fn record_with_size(
        &self,
        name: &BoxRef,
        snapshot: &SnapshotName,
    ) -> Result<Option<(SnapshotRecord, ByteSize)>> {
        match self.snapshot(name, snapshot).and_then(|r| Ok((r, self.snapshot_size(name, snapshot)?))) {
            Err(StoreError::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// One snapshot with its size.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn snapshot_info(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<SnapshotInfo> {
        Ok(self.snapshot(name, snapshot)?.into_info(Some(self.snapshot_size(name, snapshot)?)))
    }

    /// Size of a snapshot: the lengths of its files; of a vm box, what its disk, and its memory and devices if it has
    /// them, hold without holes. The file that keeps it is a cache: it may be deleted, and it is written
    /// when it can be.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn snapshot_size(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<ByteSize> {
        let path = self.layout().snapshot(name, snapshot).join(SIZE);
        let cached =
            document::read_bytes(&path).ok().and_then(|b| std::str::from_utf8(&b).ok()?.trim().parse().ok());
        if let Some(bytes) = cached {
            return Ok(ByteSize(bytes));
        }
        let size = self.measure_snapshot(name, snapshot)?;
        if let Err(e) =
            document::replace_bytes(&self.layout().tmp(), &path, format!("{}\n", size.bytes()).as_bytes())
        {
            tracing::debug!("the size of snapshot {name}/{snapshot} is not kept: {e}");
        }
        Ok(size)
    }

    fn measure_snapshot(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<ByteSize> {
        let root = self.open_snapshot_root(name, snapshot)?;
        match self.box_meta(name)?.kind {
            BoxKind::Container => measure::logical_size(&root),
            BoxKind::Vm => {
                let disk = measure::stored_size(&root)?.bytes();
                let state = self.stored_in_state(name, snapshot)?.bytes();
                Ok(ByteSize(disk.saturating_add(state)))
            }
        }
    }

    /// The root of a snapshot, opened for reading.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn open_snapshot_root(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<OwnedFd> {
        open_dir(&self.snapshot_root_path(name, snapshot))
            .map_err(|e| if e.is_missing() { self.no_such_snapshot(name, snapshot) } else { e })
    }

    /// Where the root of a snapshot lies.
    #[must_use]
    pub fn snapshot_root_path(&self, name: &BoxRef, snapshot: &SnapshotName) -> PathBuf {
        self.layout().snapshot(name, snapshot).join(ROOT)
    }

    /// The names of a box's snapshots, whatever state they are in.
    ///
    /// # Errors
    /// `NotFound` when there is no such box.
    pub fn snapshot_names(&self, name: &BoxRef) -> Result<Vec<SnapshotName>> {
        let dir = self.layout().box_dir(name).join(SNAPSHOTS);
        let names = names_in(&dir)?;
        if names.is_empty() && !dir.exists() { Err(box_not_found(name)) } else { Ok(names) }
    }

    fn no_such_snapshot(&self, name: &BoxRef, snapshot: &SnapshotName) -> StoreError {
        if !self.layout().box_dir(name).exists() {
            return box_not_found(name);
        }
        StoreError::NotFound {
            kind: "snapshot",
            name: format!("{name}/{snapshot}"),
            hint: format!("tine snapshot list {name}"),
        }
    }
}

/// A read-only view of a box's root as it was at one moment, gone when dropped.
#[derive(Debug)]
pub struct RootView<'p> {
    staging: Staging<'p>,
}

impl RootView<'_> {
    /// The root, opened for reading.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_root(&self) -> Result<OwnedFd> {
        open_dir(&self.staging.path().join(ROOT))
    }
}

impl Pool {
    /// A view of a box's current root that stands still, whatever the box does meanwhile.
    ///
    /// # Errors
    /// `NotFound`, `Full`.
    pub fn view_of_box(&self, name: &BoxRef) -> Result<RootView<'_>> {
        let staging = self.stage()?;
        staging.snapshot(&self.open_box_root(name)?, ROOT, true)?;
        Ok(RootView { staging })
    }

    /// Paths of subvolumes nested in a box's root, which a snapshot or base holds only as empty directories.
    ///
    /// # Errors
    /// `NotFound`, or the kernel's.
    pub fn nested_subvolumes(&self, name: &BoxRef) -> Result<Vec<String>> {
        nested_paths(&self.open_box_root(name)?)
    }
}

impl LockedBox<'_> {
    /// Takes a snapshot of the root as it is. A running box's is what a power cut would leave. Durable on return.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `Full`.
    pub fn create_snapshot(&self, request: &CreateSnapshot) -> Result<SnapshotRecord> {
        let snapshot = self.free_snapshot_name(request)?;
        let record = self.take_snapshot(&snapshot, &request.description)?;
        self.pool.commit()?;
        Ok(record)
    }

    /// The name that a new snapshot will have.
    ///
    /// # Errors
    /// `AlreadyExists` when the one asked for is taken.
    pub fn free_snapshot_name(&self, request: &CreateSnapshot) -> Result<SnapshotName> {
        let names = self.pool.snapshot_names(self.name())?;
        match &request.name {
            Some(name) if names.contains(name) => Err(self.snapshot_taken(name)),
            Some(name) => Ok(name.clone()),
            None => next_name(&names),
        }
    }

    /// Takes a snapshot under a name that is free; the next commit makes its name durable.
    pub(crate) fn take_snapshot(&self, snapshot: &SnapshotName, description: &str) -> Result<SnapshotRecord> {
        let root = self.pool.open_box_root(self.name())?;
        let meta = SnapshotMeta {
            format: document::FORMAT,
            created_at: Timestamp::now(),
            created_ns: now_ns(),
            description: description.to_owned(),
            missing_subvolumes: nested_paths(&root)?,
            live: None,
        };
        let staging = self.pool.stage()?;
        // before the snapshot, whose own commit then carries the document along
        document::write_new(&staging.path().join(META), &meta)?;
        staging.snapshot(&root, ROOT, true)?;
        staging
            .publish(&self.pool.layout().snapshot(self.name(), snapshot), || self.snapshot_taken(snapshot))?;
        Ok(SnapshotRecord::new(snapshot.clone(), meta))
    }

    /// Gives a snapshot another name. Durable on return.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`.
    pub fn rename_snapshot(
        &self,
        snapshot: &SnapshotName,
        new_name: &SnapshotName,
    ) -> Result<SnapshotRecord> {
        self.pool.snapshot(self.name(), snapshot)?;
        let path = |s| self.pool.layout().snapshot(self.name(), s);
        rename_to_free(&path(snapshot), &path(new_name), || self.snapshot_taken(new_name))?;
        self.pool.commit()?;
        self.pool.snapshot(self.name(), new_name)
    }

    /// Deletes snapshots: all of those named, or none when one is unknown. Durable on return.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delete_snapshots(&self, snapshots: &[SnapshotName]) -> Result<()> {
        let snapshots: BTreeSet<&SnapshotName> = snapshots.iter().collect();
        for snapshot in &snapshots {
            self.pool.snapshot(self.name(), snapshot)?;
        }
        let mut withdrawn = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            withdrawn.push(withdraw(self.pool, &self.pool.layout().snapshot(self.name(), snapshot))?);
        }
        withdrawn.iter().try_for_each(|path| discard(path))?;
        self.pool.commit()
    }

    pub(crate) fn snapshot_taken(&self, snapshot: &SnapshotName) -> StoreError {
        StoreError::AlreadyExists { kind: "snapshot", name: format!("{}/{snapshot}", self.name()) }
    }
}

/// `v0`, or the number above the highest there is; gaps are not filled.
fn next_name(names: &[SnapshotName]) -> Result<SnapshotName> {
    let number = match names.iter().filter_map(SnapshotName::number).max() {
        None => Some(0),
        Some(highest) => highest.checked_add(1),
    };
    number.map(SnapshotName::numbered).ok_or_else(|| StoreError::WrongState {
        message: "there is no snapshot number above the highest one".to_owned(),
        hint: Some("tine snapshot create BOX NAME".to_owned()),
    })
}

fn nested_paths(root: &OwnedFd) -> Result<Vec<String>> {
    /// What a document shows of a tree that may hold any number of subvolumes under names of any length.
    const MOST: usize = 100;
    let nested = btrfs::nested_subvolumes(root.as_fd())?;
    let shown = |n: &btrfs::NestedSubvolume| match &n.path {
        Some(path) => format!("/{}", String::from_utf8_lossy(path)),
        None => format!("…/{}", String::from_utf8_lossy(&n.name)),
    };
    Ok(nested.iter().take(MOST).map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_above_the_highest_and_fills_no_gap() {
        let next = |names: &[&str]| {
            let names: Vec<SnapshotName> = names.iter().map(|n| n.parse().unwrap()).collect();
            next_name(&names).map(|n| n.to_string())
        };
        assert_eq!(next(&[]).unwrap(), "v0");
        assert_eq!(next(&["good", "v01", "v1x", "w9"]).unwrap(), "v0");
        assert_eq!(next(&["v0", "v7", "v10"]).unwrap(), "v11");
        assert!(next(&["v18446744073709551615"]).is_err());
    }
}
