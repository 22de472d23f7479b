//! A box that is whole but not shown yet: a machine may already run in it before it gets its name.

use super::{BoxMeta, RootOrigin};
use crate::{
    document,
    error::{Result, StoreError},
    layout::{LOCK, META, ROOT, RUN, SNAPSHOTS},
    pool::Pool,
    root::prepare_mount_point,
    staging::{self, Staging, ensure_dir, make_dir, open_dir},
};
use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};
use tine_model::{BoxKind, BoxRef, BoxSettings, KernelName, Timestamp};
use tine_sys::btrfs;

/// A box in staging, removed when dropped unless published. Whoever runs a machine in it stops it before that.
#[derive(Debug)]
pub struct StagedBox<'p> {
    pool: &'p Pool,
    staging: Staging<'p>,
    meta: BoxMeta,
}

impl Pool {
    /// Makes a box of `origin` in staging: the same directory that it will be when it has a name. For a vm box, `kernel`
    /// is what it boots; that of the machine it is from when none. Not durable.
    ///
    /// # Errors
    /// `Usage` for settings that a box of this kind cannot have; `InvalidPath` when a volume cannot be mounted where it
    /// is wanted; `Full`.
    pub fn stage_box(
        &self,
        origin: &RootOrigin<'_>,
        settings: &BoxSettings,
        kernel: Option<KernelName>,
    ) -> Result<StagedBox<'_>> {
        let mut settings = settings.clone();
        if origin.kind == BoxKind::Vm {
            refuse_volumes(&settings)?;
            settings.limits.disk_bytes = origin.disk_bytes;
        }
        let meta = BoxMeta {
            format: document::FORMAT,
            id: staging::random_id()?,
            kind: origin.kind,
            created_at: Timestamp::now(),
            source: origin.source.clone(),
            base: origin.base.clone(),
            size_bytes: origin.size_bytes,
            kernel: kernel.or_else(|| origin.kernel.clone()),
            image: origin.image.clone(),
            settings,
        };
        let staging = self.stage()?;
        self.fill(&staging, &meta, origin)?;
        Ok(StagedBox { pool: self, staging, meta })
    }

    fn fill(&self, staging: &Staging<'_>, meta: &BoxMeta, origin: &RootOrigin<'_>) -> Result<()> {
        let path = staging.path();
        make_dir(&path.join(SNAPSHOTS), 0o700)?;
        make_dir(&path.join(RUN), 0o700)?;
        document::write_new_bytes(&path.join(LOCK), b"")?;
        // before the snapshot, whose own commit then carries the document along
        document::write_new(&path.join(META), meta)?;
        staging.snapshot(&origin.root, ROOT, false)?;
        let (volumes, limit) = (&meta.settings.volumes, meta.written_limit());
        if volumes.is_empty() && limit.is_none() {
            return Ok(());
        }
        let root = open_dir(&path.join(ROOT))?;
        volumes.iter().try_for_each(|v| prepare_mount_point(root.as_fd(), &v.path))?;
        match limit {
            Some(limit) => self.limit_subvolume(btrfs::subvolume_info(root.as_fd())?.id, Some(limit)),
            None => Ok(()),
        }
    }
}

impl StagedBox<'_> {
    /// Where it lies until it is published. A descriptor of a file in it goes on to work afterwards, a path does not.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Where the machine layer keeps what it needs of a box.
    #[must_use]
    pub fn run_path(&self) -> PathBuf {
        self.path().join(RUN)
    }

    /// Where its root lies.
    #[must_use]
    pub fn root_path(&self) -> PathBuf {
        self.path().join(ROOT)
    }

    /// Its document.
    #[must_use]
    pub fn meta(&self) -> &BoxMeta {
        &self.meta
    }

    /// Gives it a name, under which it is there from now on. Durable on return.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken; nothing is left then.
    pub fn publish(self, name: &BoxRef) -> Result<BoxMeta> {
        let Self { pool, staging, meta } = self;
        ensure_dir(&pool.layout().project_boxes(&name.project), 0o700)?;
        staging.publish(&pool.layout().box_dir(name), || super::box_taken(name))?;
        pool.commit()?;
        Ok(meta)
    }
}

/// Nothing is mounted over the root of a vm box.
pub(super) fn refuse_volumes(settings: &BoxSettings) -> Result<()> {
    if settings.volumes.is_empty() {
        return Ok(());
    }
    Err(StoreError::Usage { message: "volumes can only be attached to boxes of kind container".to_owned() })
}
