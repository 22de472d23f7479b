//! What images, kernels and cached disks take of the pool.

use super::Pool;
use crate::{
    document::or_note,
    error::{Result, StoreError, at},
    images::ImageMeta,
    layout::{ROOT, STATE},
    root::measure,
    staging::open_dir,
};
use std::{collections::HashSet, os::fd::AsFd, path::Path};
use tine_model::{ByteSize, ImageTag, KernelName, Reporter, StoredKind, StoredUsage};
use tine_sys::extents::each_extent;

/// Files of a kernel that are counted.
const MOST_FILES: usize = 10_000;

/// Bytes held, and held alone.
#[derive(Default)]
struct Bytes {
    stored: u64,
    exclusive: u64,
}

impl Bytes {
    fn usage(self, kind: StoredKind, name: String) -> StoredUsage {
        let (logical_bytes, exclusive_bytes) = (ByteSize(self.stored), ByteSize(self.exclusive));
        StoredUsage { kind, name, logical_bytes, exclusive_bytes }
    }

    fn add(self, other: Self) -> Self {
        Self {
            stored: self.stored.saturating_add(other.stored),
            exclusive: self.exclusive.saturating_add(other.exclusive),
        }
    }
}

impl Pool {
    /// Bytes of images, kernels and cached disks, by kind and name. One that cannot be read is told of and left out.
    pub(super) fn stored_usage(&self, reporter: &dyn Reporter) -> Result<Vec<StoredUsage>> {
        let mut list = Vec::new();
        for tag in self.image_tags()? {
            let bytes = if_there(self.image_bytes(&tag));
            let found = or_note(reporter, "image", &tag, bytes);
            list.extend(found.map(|b| b.usage(StoredKind::Image, tag.to_string())));
        }
        for name in self.kernel_names()? {
            let found = or_note(reporter, "kernel", &name, if_there(self.kernel_bytes(&name)));
            list.extend(found.map(|b| b.usage(StoredKind::Kernel, name.to_string())));
        }
        for name in self.disk_names()? {
            let bytes = if_there(subvolume_bytes(&self.disk_dir(&name).join(ROOT)));
            let found = or_note(reporter, "disk", &name, bytes);
            list.extend(found.map(|b| b.usage(StoredKind::Disk, name.to_string())));
        }
        Ok(list)
    }

    fn image_bytes(&self, tag: &ImageTag) -> Result<Bytes> {
        let dir = self.layout().image(tag);
        let state = subvolume_bytes(&dir.join(STATE))?;
        let has_disk = self.image_meta(tag)?.is_some_and(|ImageMeta { saved, .. }| saved.disk.is_some());
        Ok(if has_disk { state.add(subvolume_bytes(&dir.join(ROOT))?) } else { state })
    }

    fn kernel_bytes(&self, name: &KernelName) -> Result<Bytes> {
        let record = self.kernel(name)?;
        let modules = plain_files(&record.modules)?;
        let vmlinuz = plain_file(&record.vmlinuz)?;
        Ok(vmlinuz.add(modules))
    }
}

/// None for what was deleted meanwhile.
fn if_there(bytes: Result<Bytes>) -> Result<Option<Bytes>> {
    match bytes {
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(e) if e.is_missing() => Ok(None),
        bytes => bytes.map(Some),
    }
}

fn subvolume_bytes(path: &Path) -> Result<Bytes> {
    let size = measure::tree_size(&open_dir(path)?, &HashSet::new())?;
    Ok(Bytes { stored: size.stored, exclusive: size.exclusive })
}

fn plain_files(dir: &Path) -> Result<Bytes> {
    let mut sum = Bytes::default();
    for entry in std::fs::read_dir(dir).map_err(at("list", dir))?.take(MOST_FILES) {
        sum = sum.add(plain_file(&entry.map_err(at("list", dir))?.path())?);
    }
    Ok(sum)
}

fn plain_file(path: &Path) -> Result<Bytes> {
    let file = std::fs::File::open(path).map_err(at("open", path))?;
    let mut bytes = Bytes { stored: file.metadata().map_err(at("stat", path))?.len(), exclusive: 0 };
    each_extent(file.as_fd(), |extent| {
        if extent.place.is_some() && !extent.shared {
            bytes.exclusive = bytes.exclusive.saturating_add(extent.length);
        }
    })?;
    Ok(bytes)
}
