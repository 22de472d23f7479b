//! Disks made of trees: once for a base version at a size, kept; each time for a container box, not kept.
//!
//! A cached disk is garbage when its base version is gone. Making one takes seconds, so whoever does it holds the base
//! version's directory by a lock, and others wait for the result.

use crate::{
    bases::{base_not_found, names_in},
    boxes::{Held, RootOrigin},
    disk,
    document::{self, Document},
    error::{Result, StoreError, at},
    layout::{DISK, META, ROOT},
    pool::Pool,
    root::guest_mount_points,
    staging::{Staging, discard, open_dir},
    state::{FileSum, SubvolumeSeal, freeze_subvolume, of_data, open_file},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};
use tine_model::{BaseVersion, BoxKind, ByteSize, Timestamp};
use tine_sys::{
    btrfs,
    lock::{FileLock, LockMode},
};

/// The length of a disk that has to be made when none is asked for.
pub const DEFAULT_DISK: ByteSize = ByteSize::gib(10);

/// The writable tree that a disk is made of.
const TREE: &str = "tree";
/// A large base on a slow host.
const MAKE_WAIT: Duration = Duration::from_secs(15 * 60);

/// The name of a cached disk: `<version>.<bytes>`. Versions have no dots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DiskName {
    pub base: BaseVersion,
    pub bytes: u64,
}

impl fmt::Display for DiskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.base, self.bytes)
    }
}

impl FromStr for DiskName {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('.').and_then(|(base, bytes)| {
            let name = Self { base: base.parse().ok()?, bytes: bytes.parse().ok()? };
            Some(name).filter(|name| name.to_string() == text)
        });
        parts.ok_or_else(|| StoreError::Usage { message: format!("{text:?} is not the name of a disk") })
    }
}

/// `meta.json` of a cached disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DiskMeta {
    format: u32,
    created_at: Timestamp,
    pub sum: FileSum,
    pub seal: SubvolumeSeal,
}

impl Document for DiskMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Pool {
    /// The root that holds the disk of a base version at a size, opened for reading; made when it is not there.
    /// Durable on return.
    ///
    /// # Errors
    /// `NotFound` for the version; `Busy` when another makes it and does not get done; what `mkfs.ext4` says; `Full`.
    pub fn disk_of_base(&self, base: &BaseVersion, size: ByteSize) -> Result<OwnedFd> {
        let name = DiskName { base: base.clone(), bytes: size.bytes() };
        if let Some(root) = self.open_disk_root(&name)? {
            return Ok(root);
        }
        let dir = self.layout().base(base);
        let missing = || base_not_found(base.to_string());
        let file = open_dir(&dir).map_err(|e| if e.is_missing() { missing() } else { e })?;
        let lock = FileLock::acquire_on_within(file, LockMode::Exclusive, MAKE_WAIT)?
            .ok_or_else(|| StoreError::Busy { what: format!("the disk of base {base}") })?;
        if !lock.is_still_at(&dir) {
            return Err(missing());
        }
        if let Some(root) = self.open_disk_root(&name)? {
            return Ok(root);
        }
        self.make_disk_of_base(&name)?;
        self.open_disk_root(&name)?.ok_or_else(missing)
    }

    fn make_disk_of_base(&self, name: &DiskName) -> Result<()> {
        let staging = self.stage()?;
        let file = make_disk(&staging, &self.open_base_root(&name.base)?, ByteSize(name.bytes))?;
        freeze_subvolume(&staging.path().join(ROOT), &[&file])?;
        let path = self.disk_dir(name);
        let sum = of_data(&file).map_err(at("read", &path))?;
        let seal = SubvolumeSeal::of(file.as_fd())?;
        let meta = DiskMeta { format: document::FORMAT, created_at: Timestamp::now(), sum, seal };
        document::write_new(&staging.path().join(META), &meta)?;
        staging.publish(&path, || StoreError::AlreadyExists { kind: "disk", name: name.to_string() })?;
        self.commit()
    }

    /// Makes a disk of the tree of a container box. It goes with the origin.
    pub(crate) fn disk_of_tree<'p>(&'p self, tree: RootOrigin<'p>, size: ByteSize) -> Result<RootOrigin<'p>> {
        let staging = self.stage()?;
        make_disk(&staging, &tree.root, size)?;
        let root = open_dir(&staging.path().join(ROOT))?;
        let held = Held::Stage(staging);
        RootOrigin { root, kind: BoxKind::Vm, size_bytes: None, held, ..tree }.with_disk_length()
    }

    pub(crate) fn disk_names(&self) -> Result<Vec<DiskName>> {
        names_in(&self.layout().disks())
    }

    pub(crate) fn disk_dir(&self, name: &DiskName) -> PathBuf {
        self.layout().disks().join(name.to_string())
    }

    pub(crate) fn open_disk_root(&self, name: &DiskName) -> Result<Option<OwnedFd>> {
        match open_dir(&self.disk_dir(name).join(ROOT)) {
            Err(e) if e.is_missing() => Ok(None),
            root => root.map(Some),
        }
    }
}

/// Makes `root/disk.img` in a staging directory of a clone of `source`, to which the mount points of a guest are added.
fn make_disk(staging: &Staging<'_>, source: &OwnedFd, size: ByteSize) -> Result<File> {
    staging.snapshot(source, TREE, false)?;
    let tree = staging.path().join(TREE);
    guest_mount_points(open_dir(&tree)?.as_fd())?;
    staging.subvolume(ROOT)?;
    let root = staging.path().join(ROOT);
    // what it is made of tells the file system apart from others; each tree has a UUID that no other ever gets
    let identity = btrfs::subvolume_info(source.as_fd())?.uuid.0;
    disk::make(&tree, &root.join(DISK), size, identity)?;
    discard(&tree)?;
    open_file(open_dir(&root)?.as_fd(), DISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_disks_have_one_form() {
        let name: DiskName = "deb-v20260101120000.10737418240".parse().unwrap();
        assert_eq!((name.base.as_str(), name.bytes), ("deb-v20260101120000", 10 << 30));
        assert_eq!(name.to_string(), "deb-v20260101120000.10737418240");
        for bad in ["", "deb", "deb.", "deb.x", "deb.+1", "deb.01", ".1", "deb.1.2", "De.1", "deb.-1"] {
            assert!(bad.parse::<DiskName>().is_err(), "{bad}");
        }
    }
}
