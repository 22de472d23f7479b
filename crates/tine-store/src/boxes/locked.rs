//! A box that is held: no other operation on it runs until this is dropped.

use super::{BoxMeta, box_not_found, box_taken, staged::refuse_volumes};
use crate::{
    document,
    error::{Result, StoreError},
    layout::{LOCK, META},
    pool::Pool,
    root::prepare_mount_point,
    staging::{discard, open_dir, rename_to_free, withdraw},
};
use std::{
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant},
};
use tine_model::{BoxKind, BoxName, BoxRef, BoxSettings, ByteSize};
use tine_sys::{
    btrfs,
    lock::{FileLock, LockMode},
};

/// A box that no other operation may touch. Snapshots, restore and undo are methods of this too.
#[derive(Debug)]
pub struct LockedBox<'p> {
    pub(crate) pool: &'p Pool,
    name: BoxRef,
    lock: FileLock,
}

impl Pool {
    /// Takes hold of a box, waiting up to `wait` for another operation on it to finish.
    ///
    /// # Errors
    /// `NotFound`, `Busy`.
    pub fn lock_box(&self, name: &BoxRef, wait: Duration) -> Result<LockedBox<'_>> {
        let path = self.layout().box_dir(name).join(LOCK);
        let begun = Instant::now();
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            // only a box has this file: made on the way it would make a box of any directory
            let file = match open_lock(&path) {
                Err(e) if e.is_missing() => return Err(box_not_found(name)),
                file => file?,
            };
            let lock = FileLock::acquire_on_within(file, LockMode::Exclusive, left)?
                .ok_or_else(|| StoreError::Busy { what: format!("box {name}") })?;
            // while this waited the box may have been deleted or renamed, and another made in its place
            if lock.is_still_at(&path) {
                return Ok(LockedBox { pool: self, name: name.clone(), lock });
            }
        }
    }
}

fn open_lock(path: &std::path::Path) -> Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(crate::error::at("open", path))
}

impl LockedBox<'_> {
    /// The box.
    #[must_use]
    pub fn name(&self) -> &BoxRef {
        &self.name
    }

    /// Its document.
    ///
    /// # Errors
    /// `Corrupt`, or the kernel's.
    pub fn meta(&self) -> Result<BoxMeta> {
        self.pool.box_meta(&self.name)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.pool.layout().box_dir(&self.name)
    }

    /// Gives the box another name in its project. Durable on return. The box must be stopped.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn rename(&mut self, new_name: &BoxName) -> Result<()> {
        let name = BoxRef { project: self.name.project.clone(), name: new_name.clone() };
        rename_to_free(&self.dir(), &self.pool.layout().box_dir(&name), || box_taken(&name))?;
        self.name = name;
        self.pool.commit()
    }

    /// Deletes the box with its snapshots. It disappears at once and does not come back; its space is free on
    /// return or, after an interruption, with the next `gc`. The box must be stopped. Durable on return.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(self) -> Result<()> {
        let withdrawn = withdraw(self.pool, &self.dir())?;
        // a waiting operation sees that the box is gone as soon as the lock is free
        drop(self.lock);
        discard(&withdrawn)?;
        self.pool.commit()
    }

    /// Replaces the settings in one step, after making the mount points of volumes that are new. A changed disk
    /// limit takes effect with [`LockedBox::set_disk_limit`]. Durable on return.
    ///
    /// # Errors
    /// `NotFound` for a volume, `InvalidPath` when it cannot be mounted where it is wanted; `Usage` for what a vm box
    /// cannot have: volumes, and another length of its disk.
    pub fn write_settings(&self, settings: &BoxSettings) -> Result<BoxMeta> {
        let mut meta = self.meta()?;
        if meta.kind == BoxKind::Vm {
            check_vm_settings(&meta.settings, settings)?;
        }
        let _volumes = self.pool.hold_volumes(&self.name, settings)?;
        let root = self.pool.open_box_root(&self.name)?;
        for volume in settings.volumes.iter().filter(|v| !meta.settings.volumes.contains(v)) {
            prepare_mount_point(root.as_fd(), &volume.path)?;
        }
        meta.settings = settings.clone();
        document::replace(&self.pool.layout().tmp(), &self.dir().join(META), &meta)?;
        self.pool.commit()?;
        Ok(meta)
    }

    /// Limits what the box may write to its root beyond what it was cloned or restored from; none removes the limit.
    ///
    /// # Errors
    /// `Unsupported` without simple quotas; `Usage` for a vm box, whose disk has its length.
    pub fn set_disk_limit(&self, limit: Option<ByteSize>) -> Result<()> {
        if self.meta()?.kind == BoxKind::Vm {
            return Err(disk_has_its_length());
        }
        let root = open_dir(&self.pool.box_root_path(&self.name))?;
        self.pool.limit_subvolume(btrfs::subvolume_info(root.as_fd())?.id, limit)
    }
}

fn check_vm_settings(old: &BoxSettings, new: &BoxSettings) -> Result<()> {
    refuse_volumes(new)?;
    if old.limits.disk_bytes == new.limits.disk_bytes { Ok(()) } else { Err(disk_has_its_length()) }
}

fn disk_has_its_length() -> StoreError {
    StoreError::Usage { message: "the disk of a vm box keeps the size it was made with".to_owned() }
}
