//! Where the root of a new box comes from: a subvolume that can be cloned, and what is known of it.

use super::box_not_found;
use crate::{
    disks::DEFAULT_DISK,
    error::{Result, StoreError},
    pool::Pool,
    staging::Staging,
    state::disk_length,
};
use std::os::fd::{AsFd, OwnedFd};
use tine_model::{BaseVersion, BoxKind, BoxRef, BoxSource, ByteSize, ImageTag, KernelName, SnapshotName};
use tine_sys::lock::FileLock;

/// A root that can be cloned, and what is known of it.
#[derive(Debug)]
pub struct RootOrigin<'p> {
    /// The root, opened for reading.
    pub root: OwnedFd,
    /// How boxes made of it run.
    pub kind: BoxKind,
    /// Where it is from, in words.
    pub source: String,
    /// The base version at the root of its ancestry, if that is known.
    pub base: Option<BaseVersion>,
    /// Its size, if that is known: the lengths of its files, or what its disk holds.
    pub size_bytes: Option<ByteSize>,
    /// The kernel of the machine it is from.
    pub kernel: Option<KernelName>,
    /// The image it is from.
    pub image: Option<ImageTag>,
    /// Length of the disk of a vm box.
    pub disk_bytes: Option<ByteSize>,
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) held: Held<'p>,
}

/// What keeps a root from going away before it is cloned.
#[derive(Debug)]
pub(crate) enum Held<'p> {
    /// Nothing: it belongs to something that only `gc` or the user removes.
    Nothing,
    /// It was made for this.
    #[expect(dead_code, reason = "held for its drop")]
    Stage(Staging<'p>),
    /// The lock on an image.
    #[expect(dead_code, reason = "held for its drop")]
    Image(FileLock),
}

impl RootOrigin<'_> {
    pub(crate) fn new(kind: BoxKind, root: OwnedFd, source: String) -> Self {
        let (base, size_bytes, kernel, image, disk_bytes) = (None, None, None, None, None);
        Self { root, kind, source, base, size_bytes, kernel, image, disk_bytes, held: Held::Nothing }
    }

    pub(crate) fn of_image(self, tag: ImageTag) -> Self {
        Self { image: Some(tag), ..self }
    }

    /// Looks at how long its disk is.
    pub(crate) fn with_disk_length(self) -> Result<Self> {
        let disk_bytes = Some(disk_length(self.root.as_fd())?);
        Ok(Self { disk_bytes, ..self })
    }

    /// Refuses a wish for another size than the disk has.
    fn expect_disk(self, wanted: Option<ByteSize>) -> Result<Self> {
        match (wanted, self.disk_bytes) {
            (Some(wanted), Some(length)) if wanted != length => Err(StoreError::Usage {
                message: format!("the disk of {} is {length} and cannot become {wanted}", self.source),
            }),
            _ => Ok(self),
        }
    }
}

impl Pool {
    /// What kind of box a source makes unless told otherwise: a vm box and its snapshots, and images, make vm boxes.
    ///
    /// # Errors
    /// `NotFound` for a box; other sources are not looked at.
    pub fn kind_of_source(&self, source: &BoxSource) -> Result<BoxKind> {
        match source {
            BoxSource::Base(_) => Ok(BoxKind::Container),
            BoxSource::Box(name) | BoxSource::Snapshot { name, .. } => Ok(self.box_meta(name)?.kind),
            BoxSource::Image(_) => Ok(BoxKind::Vm),
        }
    }

    /// The root that `source` stands for, for a box of kind container.
    ///
    /// # Errors
    /// `NotFound`; `WrongState` when the source is a machine, whose root is a disk.
    pub fn root_origin(&self, source: &BoxSource) -> Result<RootOrigin<'_>> {
        match source {
            BoxSource::Base(base) => {
                let version = self.resolve_base(base)?;
                let root = self.open_base_root(&version.name)?;
                let origin = RootOrigin::new(BoxKind::Container, root, source.to_string());
                Ok(RootOrigin { base: Some(version.name), size_bytes: Some(version.size_bytes), ..origin })
            }
            BoxSource::Box(name) | BoxSource::Snapshot { name, .. } => {
                let origin = self.origin_of_box(name, source)?;
                if origin.kind == BoxKind::Vm { Err(root_is_a_disk(source, name)) } else { Ok(origin) }
            }
            BoxSource::Image(tag) => Err(StoreError::WrongState {
                message: format!("image {tag} is a machine: only boxes of kind vm can be made of it"),
                hint: Some(format!("tine create NAME --vm --image {tag}")),
            }),
        }
    }

    /// The root that `source` stands for, for a box of kind vm: a directory that holds a disk. Made now where the
    /// source is a tree: once for a base at each size, each time for a container box. `disk` is the length wanted;
    /// without it, that of the disk there is, or [`DEFAULT_DISK`].
    ///
    /// # Errors
    /// `NotFound`; `Usage` when there is a disk of another length; `Busy` when another makes the disk and does not
    /// get done; what `mkfs.ext4` says; `Full`.
    pub fn vm_root_origin(&self, source: &BoxSource, disk: Option<ByteSize>) -> Result<RootOrigin<'_>> {
        let size = disk.unwrap_or(DEFAULT_DISK);
        match source {
            BoxSource::Base(base) => {
                let version = self.resolve_base(base)?.name;
                let root = self.disk_of_base(&version, size)?;
                let origin = RootOrigin::new(BoxKind::Vm, root, source.to_string());
                RootOrigin { base: Some(version), ..origin }.with_disk_length()
            }
            BoxSource::Image(tag) => self.open_image(tag)?.into_root_origin()?.expect_disk(disk),
            BoxSource::Box(name) | BoxSource::Snapshot { name, .. } => {
                let origin = self.origin_of_box(name, source)?;
                match origin.kind {
                    BoxKind::Vm => origin.with_disk_length()?.expect_disk(disk),
                    BoxKind::Container => self.disk_of_tree(origin, size),
                }
            }
        }
    }

    /// A box's root, or that of the snapshot that `source` names.
    fn origin_of_box(&self, name: &BoxRef, source: &BoxSource) -> Result<RootOrigin<'_>> {
        let root = match source {
            BoxSource::Snapshot { snapshot, .. } => self.root_of_snapshot(name, snapshot)?,
            _ => self.open_box_root(name)?,
        };
        let meta = self.box_meta(name)?;
        let origin = RootOrigin::new(meta.kind, root, source.to_string());
        Ok(RootOrigin {
            base: meta.base,
            size_bytes: meta.size_bytes,
            kernel: meta.kernel,
            image: meta.image,
            ..origin
        })
    }

    fn root_of_snapshot(&self, name: &BoxRef, snapshot: &SnapshotName) -> Result<OwnedFd> {
        if !self.layout().box_dir(name).exists() {
            return Err(box_not_found(name));
        }
        self.open_snapshot_root(name, snapshot)
    }
}

fn root_is_a_disk(source: &BoxSource, name: &BoxRef) -> StoreError {
    StoreError::WrongState {
        message: format!("{source} is of kind vm, and a box of kind container cannot be made of its disk"),
        hint: Some(format!("tine base save NEWBASE {name}, then tine create NAME --base NEWBASE")),
    }
}
