//! Writing a base: a writable root in staging, then a read-only version and the alias moved to it.

use super::{BaseMeta, names_in};
use crate::{
    disk, document,
    error::{Result, StoreError},
    layout::{DISK, META, ROOT},
    pool::Pool,
    root::{measure, standard_mount_points},
    staging::{Staging, discard, open_dir},
    state::open_file,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};
use tine_model::{BaseAlias, BaseVersion, BaseVersionInfo, BoxKind, BoxRef, Provenance, Timestamp};
use tine_sys::lock::{FileLock, LockMode};

/// The writable tree of a base that is being made.
const WORK: &str = "work";
/// Moving an alias takes milliseconds.
const ALIAS_WAIT: Duration = Duration::from_secs(10);

/// A base that is being made: a writable root in staging. Dropped without being published, nothing of it stays.
#[derive(Debug)]
pub struct BaseStage<'p> {
    pool: &'p Pool,
    staging: Staging<'p>,
    root: OwnedFd,
}

impl Pool {
    /// Begins a new base version with an empty root, or with a clone of `parent`'s.
    ///
    /// # Errors
    /// `NotFound` when there is no such parent.
    pub fn stage_base(&self, parent: Option<&BaseVersion>) -> Result<BaseStage<'_>> {
        match parent {
            Some(version) => self.stage_clone(&self.open_base_root(version)?),
            None => {
                let staging = self.stage()?;
                staging.subvolume(WORK)?;
                BaseStage::new(self, staging)
            }
        }
    }

    /// Begins a new base version with a clone of a box's root, or with what lies on the disk of a vm box. Subvolumes
    /// nested in a root are empty directories there.
    ///
    /// # Errors
    /// `NotFound` when there is no such box; `Corrupt` when its disk contradicts itself; `Full`.
    pub fn stage_base_from_box(&self, name: &BoxRef) -> Result<BaseStage<'_>> {
        match self.box_meta(name)?.kind {
            BoxKind::Container => self.stage_clone(&self.open_box_root(name)?),
            BoxKind::Vm => self.stage_from_disk(name),
        }
    }

    fn stage_from_disk(&self, name: &BoxRef) -> Result<BaseStage<'_>> {
        // the machine may run on, and its disk must stand still while it is read
        let view = self.view_of_box(name)?;
        let image = disk::Image::open(open_file(view.open_root()?.as_fd(), DISK)?.into())?;
        let stage = self.stage_base(None)?;
        disk::extract(&image, stage.root())?;
        Ok(stage)
    }

    fn stage_clone(&self, source: &OwnedFd) -> Result<BaseStage<'_>> {
        let staging = self.stage()?;
        staging.snapshot(source, WORK, false)?;
        BaseStage::new(self, staging)
    }

    /// Keeps others from naming versions and moving aliases.
    pub(super) fn lock_aliases(&self) -> Result<FileLock> {
        let dir = open_dir(&self.layout().aliases())?;
        FileLock::acquire_on_within(dir, LockMode::Exclusive, ALIAS_WAIT)?
            .ok_or_else(|| StoreError::Busy { what: "the list of bases".to_owned() })
    }

    pub(super) fn move_alias(&self, alias: &BaseAlias, version: &BaseVersion) -> Result<()> {
        let line = format!("{version}\n");
        document::replace_bytes(&self.layout().tmp(), &self.layout().alias(alias), line.as_bytes())
    }

    /// The name and time of the next version of `alias`: the alias's own name the first time, later one with a time
    /// that no version has yet, after that of every earlier one.
    fn next_version(&self, alias: &BaseAlias) -> Result<(BaseVersion, Timestamp)> {
        let now = Timestamp::now();
        let newest = self.versions_of(alias)?.first().map(|m| m.created_at);
        if newest.is_none() && self.alias_target(alias)?.is_none() {
            return Ok((alias.first_version(), now));
        }
        let taken: Vec<BaseVersion> = names_in(&self.layout().bases())?;
        let mut time = newest.map_or(now, |n| n.max(now));
        while taken.binary_search(&alias.version_at(time)).is_ok() {
            time = Timestamp::from_second(time.as_second() + 1);
        }
        Ok((alias.version_at(time), time))
    }
}

impl<'p> BaseStage<'p> {
    fn new(pool: &'p Pool, staging: Staging<'p>) -> Result<Self> {
        let root = open_dir(&staging.path().join(WORK))?;
        Ok(Self { pool, staging, root })
    }

    /// The root, to be written to.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Where the root lies.
    #[must_use]
    pub fn root_path(&self) -> PathBuf {
        self.staging.path().join(WORK)
    }

    /// Makes it a version of `alias` and moves the alias to it. Durable on return.
    ///
    /// # Errors
    /// `InvalidPath` when the tree has something other than a directory where one must be; `Full`.
    pub fn publish(self, alias: &BaseAlias, provenance: Provenance) -> Result<BaseVersionInfo> {
        let Self { pool, staging, root } = self;
        standard_mount_points(root.as_fd())?;
        // the snapshot writes back and commits what was written to this one tree, and is read-only from birth
        staging.snapshot(&root, ROOT, true)?;
        drop(root);
        discard(&staging.path().join(WORK))?;
        let size_bytes = measure::logical_size(&open_dir(&staging.path().join(ROOT))?)?;
        let _lock = pool.lock_aliases()?;
        let (name, created_at) = pool.next_version(alias)?;
        let alias = alias.clone();
        let meta = BaseMeta { format: document::FORMAT, name, alias, created_at, size_bytes, provenance };
        document::write_new(&staging.path().join(META), &meta)?;
        let taken = || StoreError::AlreadyExists { kind: "base", name: meta.name.to_string() };
        staging.publish(&pool.layout().base(&meta.name), taken)?;
        pool.move_alias(&meta.alias, &meta.name)?;
        pool.commit()?;
        Ok(meta.into())
    }
}
