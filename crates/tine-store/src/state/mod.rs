//! A machine that was saved: memory, device state and disk, how they are told from any others, and opening them.
//!
//! The files lie in subvolumes that are read-only from before their digests were taken. Knows neither images nor
//! snapshots, and nothing of what is in the device state.

mod digest;
mod seal;
mod stage;

pub use digest::{Digests, FileSum};
pub(crate) use digest::{of_all, of_data};
pub(crate) use seal::SubvolumeSeal;
pub use stage::StateStage;
pub(crate) use stage::freeze_subvolume;

use crate::{
    error::{Result, StoreError},
    layout::{DISK, MEMORY, ROOT, STATE, VMSTATE},
};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use seal::Seal;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use tine_model::{ByteSize, Contract};
use tine_sys::SysError;

/// What is recorded of a saved machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedState {
    /// What a host must offer for it to go on; none where that is not known, which no host can meet.
    pub contract: Option<Contract>,
    /// The guest's memory; its digest leaves out what is zero.
    pub memory: FileSum,
    /// The state of processors and devices.
    pub vmstate: FileSum,
    /// The disk, if there is one; its digest leaves out what is zero.
    pub disk: Option<FileSum>,
    seal: Seal,
}

impl SavedState {
    /// Bytes that its files hold, without holes.
    #[must_use]
    pub fn stored_bytes(&self) -> ByteSize {
        let disk = self.disk.map_or(0, |d| d.stored_bytes.0);
        ByteSize(self.memory.stored_bytes.0.saturating_add(self.vmstate.stored_bytes.0).saturating_add(disk))
    }
}

/// The files of a saved machine, open for reading. They stay usable when what they belong to is deleted.
#[derive(Debug)]
pub struct StateFiles {
    /// The guest's memory.
    pub memory: File,
    /// The state of processors and devices.
    pub vmstate: File,
    /// The directory that holds `disk.img`, if there is a disk: a read-only subvolume.
    pub root: Option<OwnedFd>,
    disk: Option<File>,
}

impl StateFiles {
    /// The disk, if there is one.
    #[must_use]
    pub fn disk(&self) -> Option<&File> {
        self.disk.as_ref()
    }

    /// Opens what lies in `dir`, the directory of an image, a live snapshot or a stage.
    pub(crate) fn open(dir: BorrowedFd<'_>) -> Result<Self> {
        let state = open_subdir(dir, STATE)?;
        let root = match open_subdir(dir, ROOT) {
            Err(e) if e.is_missing() => None,
            root => Some(root?),
        };
        let disk = root.as_ref().map(|root| open_file(root.as_fd(), DISK)).transpose()?;
        let (memory, vmstate) = (open_file(state.as_fd(), MEMORY)?, open_file(state.as_fd(), VMSTATE)?);
        Ok(Self { memory, vmstate, root, disk })
    }
}

/// A saved machine, open.
#[derive(Debug)]
pub struct OpenState {
    /// What is recorded of it.
    pub saved: SavedState,
    /// Its files.
    pub files: StateFiles,
    object: String,
    remedy: &'static str,
}

impl OpenState {
    /// `object` is how errors name it, as `image web`; `remedy` is what can be done when its files are not its own.
    pub(crate) fn open(
        dir: BorrowedFd<'_>,
        saved: SavedState,
        object: String,
        remedy: &'static str,
    ) -> Result<Self> {
        Ok(Self { saved, files: StateFiles::open(dir)?, object, remedy })
    }

    /// Proves that the files are what was saved.
    ///
    /// As long as both subvolumes are read-only and no file in them was changed since the digests were taken, which
    /// btrfs knows, that takes microseconds: what lies on disk is guarded by the file system's own checksums. Else
    /// everything is read again.
    ///
    /// # Errors
    /// `Corrupt`, naming the files that differ.
    pub fn verify(&self) -> Result<()> {
        if self.saved.seal.holds(&self.files)? { Ok(()) } else { self.verify_content() }
    }

    /// As [`OpenState::verify`], but always reads everything.
    ///
    /// # Errors
    /// As [`OpenState::verify`].
    pub fn verify_content(&self) -> Result<()> {
        let sums = digest::all(&self.files)?;
        let mut differ = Vec::new();
        for (name, saved, found) in [
            (MEMORY, Some(&self.saved.memory), Some(&sums.memory)),
            (VMSTATE, Some(&self.saved.vmstate), Some(&sums.vmstate)),
            (DISK, self.saved.disk.as_ref(), sums.disk.as_ref()),
        ] {
            if saved.map(FileSum::content) != found.map(FileSum::content) {
                differ.push(name);
            }
        }
        if differ.is_empty() {
            return Ok(());
        }
        let problem = format!("{} not what was saved: {}", differ.join(" and "), self.remedy);
        Err(StoreError::Corrupt { object: self.object.clone(), problem })
    }

    /// Whether the subvolumes are read-only and as they were when the digests were taken.
    pub(crate) fn is_sealed(&self) -> Result<bool> {
        self.saved.seal.holds(&self.files)
    }
}

/// Length of the disk in the root `dir` of a vm box, image or cached disk.
pub(crate) fn disk_length(root: BorrowedFd<'_>) -> Result<ByteSize> {
    let file = open_file(root, DISK)?;
    let stat = rustix::fs::fstat(&file).map_err(|e| SysError::new("stat", DISK, e))?;
    Ok(ByteSize(u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Opens a regular file of the pool for reading, never through a link.
pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &str) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let failed = |e: Errno| SysError::new("open", name, e);
    let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        return Ok(File::from(file));
    }
    Err(StoreError::Corrupt { object: name.to_owned(), problem: "not a regular file".to_owned() })
}

fn open_subdir(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| SysError::new("open", name, e).into())
}
