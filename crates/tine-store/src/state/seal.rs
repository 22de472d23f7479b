//! Knowing without reading that nothing was written since the digests were taken.
//!
//! btrfs keeps for each subvolume a UUID that no other ever gets, and the transaction that last changed a file in it.
//! Reading, cloning files out of it, taking snapshots of it, or making it writable and read-only again leave that number
//! alone; a write to any of its files does not.

use super::StateFiles;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd};
use tine_sys::btrfs;

/// A subvolume as it was when its files' digests were taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubvolumeSeal {
    uuid: String,
    changed_in: u64,
}

impl SubvolumeSeal {
    /// That of the subvolume `file` lies in, which must be read-only and written back.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Self> {
        let info = btrfs::subvolume_info(file)?;
        Ok(Self { uuid: info.uuid.to_string(), changed_in: info.changed_in })
    }

    /// Whether `file` lies in that subvolume, and that is read-only and unchanged.
    pub(crate) fn holds(&self, file: BorrowedFd<'_>) -> Result<bool> {
        let info = btrfs::subvolume_info(file)?;
        Ok(info.read_only && info.changed_in == self.changed_in && info.uuid.to_string() == self.uuid)
    }
}

/// The subvolumes of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    state: SubvolumeSeal,
    root: Option<SubvolumeSeal>,
}

impl Seal {
    pub(super) fn of(files: &StateFiles) -> Result<Self> {
        let root = files.disk.as_ref().map(|disk| SubvolumeSeal::of(disk.as_fd())).transpose()?;
        Ok(Self { state: SubvolumeSeal::of(files.memory.as_fd())?, root })
    }

    pub(super) fn holds(&self, files: &StateFiles) -> Result<bool> {
        let root = match (&self.root, &files.disk) {
            (Some(seal), Some(disk)) => seal.holds(disk.as_fd())?,
            (None, None) => true,
            _ => false,
        };
        Ok(root && self.state.holds(files.memory.as_fd())? && self.state.holds(files.vmstate.as_fd())?)
    }
}
