//! Volumes: a writable subvolume with a life of its own.
//!
//! Which boxes a volume is attached to stands in the boxes' documents. A box that is being given a volume holds the
//! volume's directory by a shared lock until its document is there; deletion takes the lock alone.

use crate::{
    bases::names_in,
    boxes::BoxRecord,
    document::{self, Document, or_note},
    error::{Result, StoreError},
    layout::{DATA, META},
    pool::Pool,
    root::measure,
    staging::{discard, ensure_dir, open_dir, withdraw},
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};
use tine_model::{BoxName, ProjectName, Reporter, Silent, Timestamp, VolumeInfo, VolumeName, VolumeRef};
use tine_sys::lock::{FileLock, LockMode};

/// Publishing a box takes milliseconds.
const HOLD_WAIT: Duration = Duration::from_secs(10);

/// `meta.json` of a volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VolumeMeta {
    format: u32,
    created_at: Timestamp,
}

impl Document for VolumeMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Pool {
    /// Makes an empty volume. Durable on return.
    ///
    /// # Errors
    /// `AlreadyExists`, `Full`.
    pub fn create_volume(&self, name: &VolumeRef) -> Result<VolumeInfo> {
        let staging = self.stage()?;
        let meta = VolumeMeta { format: document::FORMAT, created_at: Timestamp::now() };
        document::write_new(&staging.path().join(META), &meta)?;
        staging.subvolume(DATA)?;
        ensure_dir(&self.layout().project_volumes(&name.project), 0o700)?;
        let taken = || StoreError::AlreadyExists { kind: "volume", name: name.to_string() };
        staging.publish(&self.layout().volume(name), taken)?;
        self.commit()?;
        self.volume_info(name)
    }

    /// The volumes of a project, or of all, by project and name. One that cannot be read is told of and left out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list_volumes(
        &self,
        project: Option<&ProjectName>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<VolumeInfo>> {
        let projects = match project {
            Some(project) => vec![project.clone()],
            None => names_in(&self.layout().volumes())?,
        };
        let mut list = Vec::new();
        for project in projects {
            for name in names_in::<VolumeName>(&self.layout().project_volumes(&project))? {
                let volume = VolumeRef { project: project.clone(), name };
                let info = match self.volume_info(&volume) {
                    Err(StoreError::NotFound { .. }) => Ok(None),
                    info => info.map(Some),
                };
                list.extend(or_note(reporter, "volume", &volume, info));
            }
        }
        Ok(list)
    }

    /// One volume.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn volume_info(&self, name: &VolumeRef) -> Result<VolumeInfo> {
        let meta: Option<VolumeMeta> = document::read_if_there(&self.layout().volume(name).join(META))?;
        let meta = meta.ok_or_else(|| volume_not_found(name))?;
        Ok(VolumeInfo {
            volume: name.clone(),
            size_bytes: measure::logical_size(&open_dir(&self.volume_data_path(name))?)?,
            created_at: meta.created_at,
            // only a deletion has to know of boxes that cannot be read
            attached_to: boxes_with(name, self.readable_boxes(Some(&name.project), &Silent)?),
        })
    }

    /// Where the data of a volume lies.
    #[must_use]
    pub fn volume_data_path(&self, name: &VolumeRef) -> PathBuf {
        self.layout().volume(name).join(DATA)
    }

    /// Deletes a volume that no box has attached. Durable on return.
    ///
    /// # Errors
    /// `NotFound`; `WrongState` when a box has it attached; `Busy` while a box is being given it.
    pub fn delete_volume(&self, name: &VolumeRef) -> Result<()> {
        let lock = self.lock_volume(name, LockMode::Exclusive, Duration::ZERO)?;
        if let Some(holder) = boxes_with(name, self.list_boxes(Some(&name.project))?).first() {
            return Err(StoreError::WrongState {
                message: format!("volume {name} is attached to box {holder}"),
                hint: Some(format!(
                    "tine update {holder} with its path to detach it, or tine delete {holder}"
                )),
            });
        }
        let withdrawn = withdraw(self, &self.layout().volume(name))?;
        drop(lock);
        discard(&withdrawn)?;
        self.commit()
    }

    /// Keeps a volume from being deleted.
    pub(crate) fn hold_volume(&self, name: &VolumeRef) -> Result<FileLock> {
        self.lock_volume(name, LockMode::Shared, HOLD_WAIT)
    }

    fn lock_volume(&self, name: &VolumeRef, mode: LockMode, wait: Duration) -> Result<FileLock> {
        let path = self.layout().volume(name);
        let dir = open_dir(&path).map_err(|e| if e.is_missing() { volume_not_found(name) } else { e })?;
        let lock = FileLock::acquire_on_within(dir, mode, wait)?
            .ok_or_else(|| StoreError::Busy { what: format!("volume {name}") })?;
        if lock.is_still_at(&path) { Ok(lock) } else { Err(volume_not_found(name)) }
    }
}

fn boxes_with(volume: &VolumeRef, boxes: Vec<BoxRecord>) -> Vec<BoxName> {
    let has_it = |b: &BoxRecord| b.meta.settings.volumes.iter().any(|v| v.volume == volume.name);
    boxes.into_iter().filter(has_it).map(|b| b.name.name).collect()
}

fn volume_not_found(name: &VolumeRef) -> StoreError {
    StoreError::NotFound { kind: "volume", name: name.to_string(), hint: "tine volume list".to_owned() }
}
