//! Snapshots that hold memory and devices too, so that a restore goes on from their instant.

use super::{SnapshotMeta, SnapshotRecord};
use crate::{
    boxes::LockedBox,
    document,
    error::{Result, StoreError},
    layout::{META, STATE},
    pool::Pool,
    root::measure,
    staging::{now_ns, open_dir},
    state::{OpenState, StateStage},
};
use std::os::fd::AsFd;
use tine_model::{BoxRef, ByteSize, Contract, CreateSnapshot, SnapshotName, Timestamp};

impl LockedBox<'_> {
    /// Makes a stage, which holds the machine of this box and the snapshot of its root, a snapshot of the box: takes
    /// its digests, and shows it. Durable on return. What [`StateStage::freeze`] says holds here too.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken; `Corrupt` when a file is missing; `Full`.
    pub fn publish_live_snapshot(
        &self,
        stage: StateStage<'_>,
        request: &CreateSnapshot,
        contract: Contract,
    ) -> Result<SnapshotRecord> {
        let snapshot = self.free_snapshot_name(request)?;
        let saved = stage.seal(Some(contract), None)?;
        if saved.disk.is_none() {
            let problem = "has no disk".to_owned();
            return Err(StoreError::Corrupt {
                object: format!("snapshot {}/{snapshot}", self.name()),
                problem,
            });
        }
        let meta = SnapshotMeta {
            format: document::FORMAT,
            created_at: Timestamp::now(),
            created_ns: now_ns(),
            description: request.description.clone(),
            missing_subvolumes: Vec::new(),
            live: Some(saved),
        };
        document::write_new(&stage.path().join(META), &meta)?;
        let target = self.pool.layout().snapshot(self.name(), &snapshot);
        stage.publish(&target, || self.snapshot_taken(&snapshot))?;
        self.pool.commit()?;
        Ok(SnapshotRecord::new(snapshot, meta))
    }
}

impl Pool {
    /// The machine that a snapshot holds, open; none for a snapshot of the root alone. Not verified yet.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when a file is missing.
    pub fn live_state(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<Option<OpenState>> {
        let path = self.layout().snapshot(name, snapshot);
        let meta: Option<SnapshotMeta> = document::read_if_there(&path.join(META))?;
        let Some(saved) = meta.ok_or_else(|| self.no_such_snapshot(name, snapshot))?.live else {
            return Ok(None);
        };
        let object = format!("snapshot {name}/{snapshot}");
        OpenState::open(open_dir(&path)?.as_fd(), saved, object, "restore another snapshot").map(Some)
    }

    /// Bytes that the memory and devices of a snapshot hold; none for a snapshot of the root alone.
    pub(super) fn stored_in_state(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<ByteSize> {
        match open_dir(&self.layout().snapshot(name, snapshot).join(STATE)) {
            Err(e) if e.is_missing() => Ok(ByteSize(0)),
            state => measure::stored_size(&state?),
        }
    }
}
