//! Putting a snapshot's tree in the place of the box's root, and back.
//!
//! Restore stages a clone of the snapshot as `undo/root` and then swaps it with `root` in one step. The document
//! beside it holds the clone's UUID: as long as `undo/root` *is* the clone, the swap has not happened, or has been
//! undone, and there is nothing to go back to. So at every instant the box has a whole root, and a process killed
//! anywhere leaves either the state before or the state after.

use crate::{
    boxes::LockedBox,
    document::{self, Document},
    error::{Result, StoreError},
    layout::{META, ROOT, UNDO},
    pool::Pool,
    staging::{Staging, discard, exchange, open_dir, withdraw},
};
use serde::{Deserialize, Serialize};
use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};
use tine_model::{BoxRef, RestoreSnapshot, SnapshotName, Timestamp};
use tine_sys::btrfs;

/// `undo/meta.json` of a box.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UndoMeta {
    format: u32,
    restored: SnapshotName,
    created_at: Timestamp,
    /// The UUID of the clone that was made to become the root.
    clone_uuid: String,
}

impl Document for UndoMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot whose tree the box has now.
    pub snapshot: SnapshotName,
    /// Where the former tree is kept by name.
    pub kept_as: Option<SnapshotName>,
}

impl Pool {
    /// Whether the last restore of a box can be undone.
    ///
    /// # Errors
    /// `Corrupt`, or the kernel's.
    pub fn can_undo(&self, name: &BoxRef) -> Result<bool> {
        has_former_root(&self.layout().box_dir(name).join(UNDO))
    }
}

impl LockedBox<'_> {
    /// Makes the tree of a snapshot the box's root. What was there is kept until the next restore. The box must be
    /// stopped: programs that run go on with the former root. Takes the same time for every tree. Durable on return.
    ///
    /// # Errors
    /// `NotFound` for the snapshot; `AlreadyExists` when the name to keep the former root under is taken, and then
    /// nothing has changed; `Full`, likewise.
    pub fn restore(&self, request: &RestoreSnapshot) -> Result<Restored> {
        self.check_restore(request)?;
        self.make_root_movable()?;
        let staging = self.stage_clone(&request.name)?;
        if let Some(name) = &request.keep_as {
            self.take_snapshot(name, &format!("before restore of {}", request.name))?;
        }
        let former_undo = self.put_undo(staging)?;
        exchange(&self.undo_dir().join(ROOT), &self.dir().join(ROOT))?;
        self.pool.commit()?;
        // taken apart only now: a power cut before the commit brings the old state back whole
        drop(former_undo);
        Ok(Restored { snapshot: request.name.clone(), kept_as: request.keep_as.clone() })
    }

    /// Refuses a restore that could not be done, without changing anything.
    ///
    /// # Errors
    /// `NotFound` for the snapshot; `AlreadyExists` when the name to keep the former root under is taken.
    pub fn check_restore(&self, request: &RestoreSnapshot) -> Result<()> {
        self.pool.snapshot(self.name(), &request.name)?;
        match &request.keep_as {
            Some(name) if self.pool.snapshot_names(self.name())?.contains(name) => {
                Err(self.snapshot_taken(name))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an undo when there is nothing to go back to.
    ///
    /// # Errors
    /// `WrongState`.
    pub fn check_undo(&self) -> Result<()> {
        if has_former_root(&self.undo_dir())? {
            return Ok(());
        }
        Err(StoreError::WrongState {
            message: format!("box {} has no restore to undo", self.name()),
            hint: Some(format!("tine snapshot list {}", self.name())),
        })
    }

    /// Puts back the root that the last restore replaced; what is in its place now is gone. The box must be stopped.
    /// Durable on return.
    ///
    /// # Errors
    /// `WrongState` when there is nothing to go back to.
    pub fn undo_restore(&self) -> Result<()> {
        self.check_undo()?;
        self.make_root_movable()?;
        let undo = self.undo_dir();
        // a limit set since the restore goes for the former root too
        self.limit_root(&undo.join(ROOT))?;
        exchange(&undo.join(ROOT), &self.dir().join(ROOT))?;
        let withdrawn = withdraw(self.pool, &undo)?;
        self.pool.commit()?;
        discard(&withdrawn)
    }

    fn stage_clone(&self, snapshot: &SnapshotName) -> Result<Staging<'_>> {
        let source = self.pool.open_snapshot_root(self.name(), snapshot)?;
        let staging = self.pool.stage()?;
        staging.snapshot(&source, ROOT, false)?;
        let root = staging.path().join(ROOT);
        self.limit_root(&root)?;
        let meta = UndoMeta {
            format: document::FORMAT,
            restored: snapshot.clone(),
            created_at: Timestamp::now(),
            clone_uuid: uuid_of(&root)?,
        };
        document::write_new(&staging.path().join(META), &meta)?;
        Ok(staging)
    }

    /// A read-only root can't be renamed.
    fn make_root_movable(&self) -> Result<()> {
        let root = open_dir(&self.dir().join(ROOT))?;
        if btrfs::is_read_only(root.as_fd())? {
            btrfs::set_read_only(root.as_fd(), false)?;
        }
        Ok(())
    }

    fn limit_root(&self, root: &Path) -> Result<()> {
        match self.meta()?.written_limit() {
            Some(limit) => {
                self.pool.limit_subvolume(btrfs::subvolume_info(open_dir(root)?.as_fd())?.id, Some(limit))
            }
            None => Ok(()),
        }
    }

    /// Puts the staged clone at `undo`. What was there comes back as staging, to be dropped.
    fn put_undo<'s>(&self, staging: Staging<'s>) -> Result<Option<Staging<'s>>> {
        let undo = self.undo_dir();
        if undo.exists() {
            staging.swap_with(&undo)?;
            return Ok(Some(staging));
        }
        staging.publish(&undo, || StoreError::Busy { what: format!("box {}", self.name()) })?;
        Ok(None)
    }

    fn undo_dir(&self) -> PathBuf {
        self.dir().join(UNDO)
    }
}

/// True when the directory holds a root that a restore replaced, and not the clone that was to replace it.
pub(crate) fn has_former_root(undo: &Path) -> Result<bool> {
    let Some(meta) = document::read_if_there::<UndoMeta>(&undo.join(META))? else { return Ok(false) };
    match uuid_of(&undo.join(ROOT)) {
        Ok(uuid) => Ok(uuid != meta.clone_uuid),
        Err(e) if e.is_missing() => Ok(false),
        Err(e) => Err(e),
    }
}

fn uuid_of(root: &Path) -> Result<String> {
    Ok(btrfs::subvolume_info(open_dir(root)?.as_fd())?.uuid.to_string())
}
