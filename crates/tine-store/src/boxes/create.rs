//! Making a box: a writable clone and its document, staged and published by one rename.

use super::{BoxMeta, box_not_found};
use crate::{
    document,
    error::{Result, StoreError},
    layout::{LOCK, META, ROOT, RUN, SNAPSHOTS},
    pool::Pool,
    root::prepare_mount_point,
    staging::{self, Staging, ensure_dir, make_dir, open_dir},
};
use std::os::fd::{AsFd, OwnedFd};
use tine_model::{
    BaseVersion, BoxKind, BoxRef, BoxSettings, BoxSource, ByteSize, SnapshotName, Timestamp, VolumeRef,
};
use tine_sys::{btrfs, lock::FileLock};

/// A root that can be cloned, and what is known of it.
#[derive(Debug)]
pub struct RootOrigin {
    /// The root, opened for reading.
    pub root: OwnedFd,
    /// Where it is from, in words.
    pub source: String,
    /// The base version at the root of its ancestry, if that is known.
    pub base: Option<BaseVersion>,
    /// Its logical size, if that is known.
    pub size_bytes: Option<ByteSize>,
}

impl Pool {
    /// Makes a box of kind container from `source`. Durable on return.
    ///
    /// # Errors
    /// `NotFound` for the source or a volume, `AlreadyExists` when the name is taken, `InvalidPath` when a volume
    /// cannot be mounted where it is wanted, `Full`.
    pub fn create_box(&self, name: &BoxRef, source: &BoxSource, settings: &BoxSettings) -> Result<BoxMeta> {
        let target = self.layout().box_dir(name);
        let taken = || StoreError::AlreadyExists { kind: "box", name: name.to_string() };
        if target.exists() {
            return Err(taken());
        }
        let origin = self.root_origin(source)?;
        let _volumes = self.hold_volumes(name, settings)?;
        ensure_dir(&self.layout().project_boxes(&name.project), 0o700)?;
        let staging = self.stage()?;
        let meta = BoxMeta {
            format: document::FORMAT,
            id: staging::random_id()?,
            kind: BoxKind::Container,
            created_at: Timestamp::now(),
            source: origin.source,
            base: origin.base,
            size_bytes: origin.size_bytes,
            settings: settings.clone(),
        };
        self.fill(&staging, &meta, &origin.root)?;
        staging.publish(&target, taken)?;
        self.commit()?;
        Ok(meta)
    }

    fn fill(&self, staging: &Staging<'_>, meta: &BoxMeta, source: &OwnedFd) -> Result<()> {
        let path = staging.path();
        make_dir(&path.join(SNAPSHOTS), 0o700)?;
        make_dir(&path.join(RUN), 0o700)?;
        document::write_new_bytes(&path.join(LOCK), b"")?;
        // before the snapshot, whose own commit then carries the document along
        document::write_new(&path.join(META), meta)?;
        staging.snapshot(source, ROOT, false)?;
        let settings = &meta.settings;
        if settings.volumes.is_empty() && settings.limits.disk_bytes.is_none() {
            return Ok(());
        }
        let root = open_dir(&path.join(ROOT))?;
        settings.volumes.iter().try_for_each(|v| prepare_mount_point(root.as_fd(), &v.path))?;
        match settings.limits.disk_bytes {
            Some(limit) => self.limit_subvolume(btrfs::subvolume_info(root.as_fd())?.id, Some(limit)),
            None => Ok(()),
        }
    }

    /// The root that `source` stands for.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn root_origin(&self, source: &BoxSource) -> Result<RootOrigin> {
        match source {
            BoxSource::Base(base) => {
                let version = self.resolve_base(base)?;
                Ok(RootOrigin {
                    root: self.open_base_root(&version.name)?,
                    source: source.to_string(),
                    base: Some(version.name),
                    size_bytes: Some(version.size_bytes),
                })
            }
            BoxSource::Box(name) => {
                let root = self.open_box_root(name)?;
                self.origin_of_box(name, source, root)
            }
            BoxSource::Snapshot { name, snapshot } => self.origin_of_snapshot(name, snapshot, source),
        }
    }

    fn origin_of_box(&self, name: &BoxRef, source: &BoxSource, root: OwnedFd) -> Result<RootOrigin> {
        let meta = self.box_meta(name)?;
        Ok(RootOrigin { root, source: source.to_string(), base: meta.base, size_bytes: meta.size_bytes })
    }

    fn origin_of_snapshot(
        &self,
        name: &BoxRef,
        snapshot: &SnapshotName,
        source: &BoxSource,
    ) -> Result<RootOrigin> {
        if !self.layout().box_dir(name).exists() {
            return Err(box_not_found(name));
        }
        let root = self.open_snapshot_root(name, snapshot)?;
        self.origin_of_box(name, source, root)
    }

    /// Keeps the volumes of `settings` from being deleted until the box that has them is there to be seen.
    pub(crate) fn hold_volumes(&self, name: &BoxRef, settings: &BoxSettings) -> Result<Vec<FileLock>> {
        let volume =
            |v: &tine_model::VolumeMount| VolumeRef { project: name.project.clone(), name: v.volume.clone() };
        settings.volumes.iter().map(|v| self.hold_volume(&volume(v))).collect()
    }
}
