//! How full the pool is, and what each box takes of it.

use super::Pool;
use crate::{
    bases::names_in,
    boxes::BoxRecord,
    error::{Result, StoreError, at},
    layout::ROOT,
    root::measure,
    staging::open_dir,
};
use std::{collections::HashSet, os::fd::AsFd, path::PathBuf};
use tine_model::{BaseVersion, BoxKind, BoxUsage, ByteSize, DiskUsage, Reporter};
use tine_sys::{
    btrfs::{self, Uuid},
    mountpoint::{self, Space},
};

impl Pool {
    /// Bytes of the pool's file system.
    ///
    /// # Errors
    /// The kernel's.
    pub fn space(&self) -> Result<Space> {
        Ok(mountpoint::space(self.root())?)
    }

    /// The same where much is to be written. What was deleted lately is room only after the next commit, so when less
    /// than half of the pool is free one is made first.
    ///
    /// # Errors
    /// The kernel's.
    pub fn room(&self) -> Result<Space> {
        let space = self.space()?;
        if space.available > space.total / 2 {
            return Ok(space);
        }
        self.commit()?;
        self.space()
    }

    /// Bytes of the pool, of every box's root, and of images, kernels and cached disks.
    ///
    /// A box's exclusive bytes are those of extents that the kernel says no other tree points to (FIEMAP), so they
    /// fall when a snapshot is taken and rise when it is deleted. Asked only of files changed since the box was
    /// cloned or restored, unless what it was cloned from is gone.
    ///
    /// # Errors
    /// `Cancelled`, or the kernel's.
    pub fn disk_usage(&self, reporter: &dyn Reporter) -> Result<DiskUsage> {
        // sizes are read from the trees, which lag behind what boxes wrote until that is written back
        rustix::fs::syncfs(self.dir()).map_err(at("sync", self.root()))?;
        let boxes = self.readable_boxes(None, reporter)?;
        reporter.step("measuring boxes", Some(boxes.len() as u64));
        let unchanging = self.read_only_roots(&boxes)?;
        let mut usage = Vec::with_capacity(boxes.len());
        for (done, record) in boxes.into_iter().enumerate() {
            if reporter.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            usage.extend(self.box_usage(record, &unchanging)?);
            reporter.advance(done as u64 + 1);
        }
        let space = self.space()?;
        Ok(DiskUsage {
            total_bytes: ByteSize(space.total),
            used_bytes: ByteSize(space.total - space.free.min(space.total)),
            free_bytes: ByteSize(space.available),
            boxes: usage,
            stored: self.stored_usage(reporter)?,
        })
    }

    /// None when the box was deleted meanwhile.
    fn box_usage(&self, record: BoxRecord, unchanging: &HashSet<Uuid>) -> Result<Option<BoxUsage>> {
        let root = match self.open_box_root(&record.name) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            root => root?,
        };
        let size = measure::tree_size(&root, unchanging)?;
        let logical = match record.meta.kind {
            BoxKind::Container => size.logical,
            BoxKind::Vm => size.stored,
        };
        Ok(Some(BoxUsage {
            name: record.name,
            logical_bytes: ByteSize(logical),
            exclusive_bytes: ByteSize(size.exclusive),
        }))
    }

    /// The UUIDs of every base's, snapshot's, image's and cached disk's root.
    fn read_only_roots(&self, boxes: &[BoxRecord]) -> Result<HashSet<Uuid>> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for version in names_in::<BaseVersion>(&self.layout().bases())? {
            paths.push(self.base_root_path(&version));
        }
        paths.extend(self.image_tags()?.iter().map(|tag| self.layout().image(tag).join(ROOT)));
        paths.extend(self.disk_names()?.iter().map(|name| self.disk_dir(name).join(ROOT)));
        for BoxRecord { name, .. } in boxes {
            // a box that was deleted meanwhile has no snapshots
            let names = self.snapshot_names(name).unwrap_or_default();
            paths.extend(names.iter().map(|snapshot| self.snapshot_root_path(name, snapshot)));
        }
        let uuid = |path: &PathBuf| Some(btrfs::subvolume_info(open_dir(path).ok()?.as_fd()).ok()?.uuid);
        Ok(paths.iter().filter_map(uuid).collect())
    }
}
