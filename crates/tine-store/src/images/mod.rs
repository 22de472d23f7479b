//! Images: saved machines with a tag, for the whole pool.
//!
//! An image's directory can be renamed though what is in it is read-only, so its tag stands nowhere else. Who uses an
//! image to make boxes holds its directory by a shared lock; deletion takes it alone. A machine that goes on from one
//! holds no lock: it has the files open, and these live as long as it.

use crate::{
    bases::names_in,
    boxes::{Held, RootOrigin},
    document::{self, Document, or_note},
    error::{Result, StoreError},
    layout::META,
    pool::Pool,
    staging::{self, discard, open_dir, rename_to_free, withdraw},
    state::{Digests, OpenState, SavedState, StateStage},
};
use serde::{Deserialize, Serialize};
use std::{os::fd::AsFd, time::Duration};
use tine_model::{
    BaseVersion, BoxKind, BoxSource, Contract, ImageInfo, ImageTag, KernelName, PackOrigin, Reporter,
    Sha256Digest, Timestamp,
};
use tine_sys::lock::{FileLock, LockMode};

/// Taking an image apart takes milliseconds.
const OPEN_WAIT: Duration = Duration::from_secs(10);

/// `meta.json` of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMeta {
    format: u32,
    /// 32 hex digits that stay the same when it is renamed.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// One line about it.
    pub description: String,
    /// What it was made from, in words.
    pub source: String,
    /// The base version at the root of its ancestry, if that is known.
    pub base: Option<BaseVersion>,
    /// The image that the machine it was taken of had come from.
    pub parent: Option<ImageTag>,
    /// The digest of that image's memory: by then another may have the tag.
    #[serde(default)]
    pub parent_memory: Option<Sha256Digest>,
    /// The pack it came in.
    #[serde(default)]
    pub pack: Option<PackOrigin>,
    /// The machine.
    pub saved: SavedState,
}

impl Document for ImageMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

impl ImageMeta {
    fn into_info(self, tag: ImageTag) -> ImageInfo {
        ImageInfo {
            tag,
            id: self.id,
            size_bytes: self.saved.stored_bytes(),
            created_at: self.created_at,
            description: self.description,
            has_rootfs: self.saved.disk.is_some(),
            source: self.source,
            base: self.base,
            parent: self.parent,
            memory_digest: self.saved.memory.digest,
            vmstate_digest: self.saved.vmstate.digest,
            disk_digest: self.saved.disk.map(|d| d.digest),
            memory_bytes: self.saved.memory.bytes,
            contract: self.saved.contract,
            pack: self.pack,
        }
    }
}

/// What is known of an image before it is published.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// One line about it.
    pub description: String,
    /// What it was made from, in words.
    pub source: String,
    /// The base version at the root of its ancestry, if that is known.
    pub base: Option<BaseVersion>,
    /// The image that the machine had come from.
    pub parent: Option<ImageTag>,
    /// The digest of that image's memory.
    pub parent_memory: Option<Sha256Digest>,
    /// What a host must offer for it to go on, if that is known.
    pub contract: Option<Contract>,
    /// When it was made; now when none.
    pub created_at: Option<Timestamp>,
    /// The pack it came in.
    pub pack: Option<PackOrigin>,
    /// The digests of its files, where these were taken while they were written.
    pub digests: Option<Digests>,
}

/// An image that is open: it is not deleted as long as this is there.
#[derive(Debug)]
pub struct OpenImage {
    /// Its tag when it was opened.
    pub tag: ImageTag,
    /// Its document.
    pub meta: ImageMeta,
    /// The machine. Not verified yet.
    pub state: OpenState,
    lock: FileLock,
}

impl OpenImage {
    /// The root to clone for its children.
    ///
    /// # Errors
    /// `WrongState` when the image has no disk.
    pub fn root_origin(&self) -> Result<RootOrigin<'_>> {
        let root = self.state.files.root.as_ref().ok_or_else(|| no_disk(&self.tag))?;
        let root = root.try_clone().map_err(crate::error::at("open", self.tag.as_ref()))?;
        let source = BoxSource::Image(self.tag.clone()).to_string();
        let origin = RootOrigin::new(BoxKind::Vm, root, source);
        RootOrigin { base: self.meta.base.clone(), kernel: self.kernel(), ..origin }
            .of_image(self.tag.clone())
            .with_disk_length()
    }

    /// As [`OpenImage::root_origin`], keeping the image from being deleted by itself.
    pub(crate) fn into_root_origin<'p>(self) -> Result<RootOrigin<'p>> {
        let (tag, base, kernel) = (self.tag.clone(), self.meta.base.clone(), self.kernel());
        let root = self.state.files.root.ok_or_else(|| no_disk(&tag))?;
        let origin = RootOrigin::new(BoxKind::Vm, root, BoxSource::Image(tag.clone()).to_string());
        RootOrigin { base, kernel, held: Held::Image(self.lock), ..origin }.of_image(tag).with_disk_length()
    }

    fn kernel(&self) -> Option<KernelName> {
        self.meta.saved.contract.as_ref().map(|contract| contract.kernel.clone())
    }
}

impl Pool {
    /// Every image, by tag. One that cannot be read is told of and left out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list_images(&self, reporter: &dyn Reporter) -> Result<Vec<ImageInfo>> {
        let list = self.image_tags()?.into_iter().filter_map(|tag| {
            let info = self.image_meta(&tag).map(|meta| meta.map(|meta| meta.into_info(tag.clone())));
            or_note(reporter, "image", &tag, info)
        });
        Ok(list.collect())
    }

    /// The tags of all images, whatever state they are in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn image_tags(&self) -> Result<Vec<ImageTag>> {
        names_in(&self.layout().images())
    }

    /// One image.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn image_info(&self, tag: &ImageTag) -> Result<ImageInfo> {
        let meta = self.image_meta(tag)?.ok_or_else(|| image_not_found(tag))?;
        Ok(meta.into_info(tag.clone()))
    }

    /// Refuses a tag that is taken: for a caller that is about to begin long work.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn check_image_tag(&self, tag: &ImageTag) -> Result<()> {
        if self.layout().image(tag).exists() { Err(image_taken(tag)) } else { Ok(()) }
    }

    /// Opens an image.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while it is being deleted; `Corrupt` when a file is missing.
    pub fn open_image(&self, tag: &ImageTag) -> Result<OpenImage> {
        let lock = self.lock_image(tag, LockMode::Shared, OPEN_WAIT)?;
        let meta = self.image_meta(tag)?.ok_or_else(|| image_not_found(tag))?;
        let saved = meta.saved.clone();
        let state = OpenState::open(lock.as_fd(), saved, format!("image {tag}"), "bake or pull it again")?;
        Ok(OpenImage { tag: tag.clone(), meta, state, lock })
    }

    /// Gives an image another tag. Durable on return.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`.
    pub fn rename_image(&self, tag: &ImageTag, new_tag: &ImageTag) -> Result<ImageInfo> {
        let path = |tag| self.layout().image(tag);
        match rename_to_free(&path(tag), &path(new_tag), || image_taken(new_tag)) {
            Err(e) if e.is_missing() => return Err(image_not_found(tag)),
            renamed => renamed?,
        }
        self.commit()?;
        self.image_info(new_tag)
    }

    /// Deletes an image, waiting up to `wait` for who is making boxes of it. Machines that came from it go on, and its
    /// space comes back when the last of them ends. Durable on return.
    ///
    /// # Errors
    /// `NotFound`, `Busy`.
    pub fn delete_image(&self, tag: &ImageTag, wait: Duration) -> Result<()> {
        let lock = self.lock_image(tag, LockMode::Exclusive, wait)?;
        let withdrawn = withdraw(self, &self.layout().image(tag))?;
        drop(lock);
        discard(&withdrawn)?;
        self.commit()
    }

    pub(crate) fn image_meta(&self, tag: &ImageTag) -> Result<Option<ImageMeta>> {
        document::read_if_there(&self.layout().image(tag).join(META))
    }

    fn lock_image(&self, tag: &ImageTag, mode: LockMode, wait: Duration) -> Result<FileLock> {
        let path = self.layout().image(tag);
        let dir = open_dir(&path).map_err(|e| if e.is_missing() { image_not_found(tag) } else { e })?;
        let lock = FileLock::acquire_on_within(dir, mode, wait)?
            .ok_or_else(|| StoreError::Busy { what: format!("image {tag}") })?;
        if lock.is_still_at(&path) { Ok(lock) } else { Err(image_not_found(tag)) }
    }
}

impl StateStage<'_> {
    /// Makes it the image `tag`: takes its digests, and shows it. Durable on return. What [`StateStage::freeze`] says
    /// holds here too.
    ///
    /// # Errors
    /// `AlreadyExists`; `Corrupt` when a file is missing; `Full`.
    pub fn publish_image(self, tag: &ImageTag, image: NewImage) -> Result<ImageInfo> {
        let pool = self.pool();
        pool.check_image_tag(tag)?;
        let meta = self.complete_image(image)?;
        self.publish(&pool.layout().image(tag), || image_taken(tag))?;
        pool.commit()?;
        Ok(meta.into_info(tag.clone()))
    }

    /// Makes it the image `tag` in the place of the one that has the tag, if there is one, waiting up to `wait` for who is making boxes
    /// of that. Machines that came from it go on. Durable on return.
    ///
    /// # Errors
    /// `NotFound`, `Busy`; `Corrupt` when a file is missing; `Full`.
    pub fn replace_image(self, tag: &ImageTag, image: NewImage, wait: Duration) -> Result<ImageInfo> {
        let pool = self.pool();
        if !pool.layout().image(tag).exists() {
            return self.publish_image(tag, image);
        }
        let meta = self.complete_image(image)?;
        let _lock = pool.lock_image(tag, LockMode::Exclusive, wait)?;
        self.replace(&pool.layout().image(tag))?;
        pool.commit()?;
        Ok(meta.into_info(tag.clone()))
    }

    fn complete_image(&self, image: NewImage) -> Result<ImageMeta> {
        let meta = ImageMeta {
            format: document::FORMAT,
            id: staging::random_id()?,
            created_at: image.created_at.unwrap_or_else(Timestamp::now),
            description: image.description,
            source: image.source,
            base: image.base,
            parent: image.parent,
            parent_memory: image.parent_memory,
            pack: image.pack,
            saved: self.seal(image.contract, image.digests.as_ref())?,
        };
        document::write_new(&self.path().join(META), &meta)?;
        Ok(meta)
    }
}

fn image_taken(tag: &ImageTag) -> StoreError {
    StoreError::AlreadyExists { kind: "image", name: tag.to_string() }
}

fn image_not_found(tag: &ImageTag) -> StoreError {
    StoreError::NotFound { kind: "image", name: tag.to_string(), hint: "tine images".to_owned() }
}

fn no_disk(tag: &ImageTag) -> StoreError {
    StoreError::WrongState { message: format!("image {tag} has no disk"), hint: None }
}
