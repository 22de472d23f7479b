//! Saving a machine: a directory in staging that its files are written into, and that nothing can write to afterwards.

use super::{Digests, SavedState, Seal, StateFiles, digest};
use crate::{
    boxes::RootOrigin,
    error::{Result, StoreError, at},
    layout::{DISK, MEMORY, ROOT, STATE, VMSTATE},
    pool::Pool,
    staging::{Staging, open_dir},
};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};
use tine_model::{BoxKind, BoxRef, Contract};
use tine_sys::btrfs;

/// A machine that is being saved: what becomes an image or a live snapshot, or serves for one fork and goes. Dropped
/// without being published, nothing of it stays; machines that opened its files keep them.
#[derive(Debug)]
pub struct StateStage<'p> {
    pool: &'p Pool,
    staging: Staging<'p>,
    dir: OwnedFd,
}

impl Pool {
    /// Begins to save a machine.
    ///
    /// # Errors
    /// `Full`, or the kernel's.
    pub fn stage_state(&self) -> Result<StateStage<'_>> {
        let staging = self.stage()?;
        staging.subvolume(STATE)?;
        let dir = open_dir(staging.path())?;
        Ok(StateStage { pool: self, staging, dir })
    }
}

impl<'p> StateStage<'p> {
    /// The name, in the stage's directory, under which the snapshot of the machine's root is made.
    pub const ROOT_NAME: &'static str = ROOT;

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Its directory, opened for reading: where whoever runs the machine makes the snapshot of its root, which must
    /// be read-only, as [`StateStage::ROOT_NAME`].
    #[must_use]
    pub fn dir_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The file to write the guest's memory to. Not there yet.
    #[must_use]
    pub fn memory_path(&self) -> PathBuf {
        self.path().join(STATE).join(MEMORY)
    }

    /// The file to write the state of processors and devices to. Not there yet.
    #[must_use]
    pub fn vmstate_path(&self) -> PathBuf {
        self.path().join(STATE).join(VMSTATE)
    }

    /// Makes the snapshot of the machine's root, for a caller that can do it itself. Commits.
    ///
    /// # Errors
    /// `Full`, or the kernel's.
    pub fn snapshot_root_from(&self, root: &OwnedFd) -> Result<()> {
        self.staging.snapshot(root, ROOT, true)
    }

    /// Makes an empty root, for a disk that does not come from a machine.
    ///
    /// # Errors
    /// `Full`, or the kernel's.
    pub fn make_root(&self) -> Result<()> {
        self.staging.subvolume(ROOT)
    }

    /// The file to write the disk to, in a root that [`StateStage::make_root`] has made. Not there yet.
    #[must_use]
    pub fn disk_path(&self) -> PathBuf {
        self.path().join(ROOT).join(DISK)
    }

    /// Writes everything back and makes it unchangeable. Nothing may have the files open for writing any more: the
    /// kernel lets such a descriptor write on. Doing it twice changes nothing.
    ///
    /// # Errors
    /// `Corrupt` when a file is missing or of the wrong kind; `Full`, or the kernel's.
    pub fn freeze(&self) -> Result<StateFiles> {
        let files = StateFiles::open(self.dir_fd()).map_err(incomplete)?;
        freeze_subvolume(&self.path().join(STATE), &[&files.memory, &files.vmstate])?;
        if let Some(disk) = &files.disk {
            freeze_subvolume(&self.path().join(ROOT), &[disk])?;
        }
        Ok(files)
    }

    /// The root to clone for machines that go on from a stage that is frozen. `of` is the box whose machine it is.
    ///
    /// # Errors
    /// `Corrupt` when there is no disk in it; `NotFound` for the box.
    pub fn root_origin(&self, of: &BoxRef) -> Result<RootOrigin<'p>> {
        let root = open_dir(&self.path().join(ROOT)).map_err(incomplete)?;
        let meta = self.pool.box_meta(of)?;
        let source = tine_model::BoxSource::Box(of.clone()).to_string();
        let origin = RootOrigin::new(BoxKind::Vm, root, source);
        RootOrigin { base: meta.base, kernel: meta.kernel, image: meta.image, ..origin }.with_disk_length()
    }

    /// Freezes it and takes its digests, unless they were taken when the files were written. Publishing and a commit
    /// are still to come.
    pub(crate) fn seal(&self, contract: Option<Contract>, digests: Option<&Digests>) -> Result<SavedState> {
        let files = self.freeze()?;
        let digest::Sums { memory, vmstate, disk } = match digests {
            Some(digests) => digest::known(&files, digests)?,
            None => digest::all(&files)?,
        };
        Ok(SavedState { contract, memory, vmstate, disk, seal: Seal::of(&files)? })
    }

    pub(crate) fn pool(&self) -> &'p Pool {
        self.pool
    }

    /// Takes the place of what is at `target`, which is removed.
    pub(crate) fn replace(self, target: &Path) -> Result<()> {
        self.staging.swap_with(target)
    }

    pub(crate) fn publish(self, target: &Path, taken: impl FnOnce() -> StoreError) -> Result<()> {
        self.staging.publish(target, taken)
    }
}

/// Makes a subvolume unchangeable once all data of its files is on disk.
pub(crate) fn freeze_subvolume(path: &Path, files: &[&File]) -> Result<()> {
    let dir = open_dir(path)?;
    if !btrfs::is_subvolume(dir.as_fd())? {
        let problem = "is not a subvolume".to_owned();
        return Err(StoreError::Corrupt { object: path.display().to_string(), problem });
    }
    if btrfs::is_read_only(dir.as_fd())? {
        return Ok(());
    }
    for file in files {
        file.sync_data().map_err(at("write back", path))?;
    }
    Ok(btrfs::set_read_only(dir.as_fd(), true)?)
}

fn incomplete(error: StoreError) -> StoreError {
    if error.is_missing() {
        let problem = format!("needs {MEMORY}, {VMSTATE} and, with a disk, {ROOT}/{DISK}: {error}");
        return StoreError::Corrupt { object: "a machine being saved".to_owned(), problem };
    }
    error
}
