//! The images of a pack that has been received, shown: all of them or none.

use super::{Place, odd};
use crate::LocalEngine;
use tine_model::{
    Error, ErrorCode, ImageInfo, ImageTag, PackOrigin, Result, RootfsOrigin, UnpackImage, UnpackedImage,
};
use tine_pack::{Link, LinkSums, Manifest, Unpacked};
use tine_store::{Digests, NewImage, Pool};

/// Images of one pack that are being shown.
pub(super) struct Publication<'i> {
    engine: &'i LocalEngine,
    pool: &'i Pool,
    request: &'i UnpackImage,
    unpacked: &'i Unpacked,
    /// The name of the key that has signed the pack.
    signed_by: Option<&'i str>,
    /// Those that were not there before.
    done: Vec<ImageTag>,
}

impl<'i> Publication<'i> {
    pub(super) fn new(
        engine: &'i LocalEngine,
        pool: &'i Pool,
        request: &'i UnpackImage,
        unpacked: &'i Unpacked,
        signed_by: Option<&'i str>,
    ) -> Self {
        Self { engine, pool, request, unpacked, signed_by, done: Vec::new() }
    }

    /// Shows the images, the oldest ancestor first; what fails takes the others with it.
    pub(super) fn run(mut self, tags: &[ImageTag], places: Vec<Place<'_>>) -> Result<Vec<UnpackedImage>> {
        let mut images: Vec<UnpackedImage> = Vec::new();
        for (index, (tag, place)) in tags.iter().zip(places).enumerate() {
            let parent = images.last().map(|parent| parent.image.clone());
            match self.show(index, tag, place, parent.as_ref()) {
                Ok(image) => images.push(image),
                Err(error) => {
                    self.withdraw();
                    return Err(error);
                }
            }
        }
        Ok(images)
    }

    fn show(
        &mut self,
        index: usize,
        tag: &ImageTag,
        place: Place<'_>,
        parent: Option<&ImageInfo>,
    ) -> Result<UnpackedImage> {
        let stage = match place {
            Place::Here(image) => {
                return Ok(UnpackedImage { image: self.pool.image_info(&image.tag)?, reused: true });
            }
            Place::Staged(stage) => stage,
        };
        let (manifest, sums) = (&self.unpacked.manifest, self.unpacked.links.get(index));
        let (Some(link), Some(sums)) = (manifest.links.get(index), sums) else { return Err(odd()) };
        let is_head = index + 1 == manifest.links.len();
        let present = self.pool.image_info(tag).ok();
        if let Some(image) = present.clone().filter(|image| !is_head && is_same(image, sums)) {
            return Ok(UnpackedImage { image, reused: true });
        }
        let pack = origin(manifest, sums, self.signed_by, is_head)?;
        let new = new_image(manifest, link, sums, parent, pack);
        let image = if present.is_some() && self.request.force {
            stage.replace_image(tag, new, self.engine.config.wait)?
        } else {
            let image = stage.publish_image(tag, new)?;
            self.done.push(tag.clone());
            image
        };
        Ok(UnpackedImage { image, reused: false })
    }

    fn withdraw(&self) {
        for tag in &self.done {
            // the error that is told is the one that led here
            let _ = self.pool.delete_image(tag, self.engine.config.wait);
        }
    }
}

fn is_same(image: &ImageInfo, sums: &LinkSums) -> bool {
    (image.memory_digest, image.vmstate_digest, image.disk_digest) == (sums.memory, sums.vmstate, sums.disk)
}

fn new_image(
    manifest: &Manifest,
    link: &Link,
    sums: &LinkSums,
    parent: Option<&ImageInfo>,
    pack: PackOrigin,
) -> NewImage {
    let facts = link.facts.as_ref();
    let is_head = link.tag == manifest.tag;
    let told = manifest.description.clone().filter(|_| is_head);
    NewImage {
        description: told.or_else(|| facts.map(|f| f.description.clone())).unwrap_or_default(),
        source: facts.map_or_else(|| format!("a pack of {}", manifest.writer), |f| f.source.clone()),
        base: facts.and_then(|f| f.base.clone()),
        parent: parent.map(|parent| parent.tag.clone()),
        parent_memory: parent.map(|parent| parent.memory_digest),
        contract: facts.map(|f| f.contract.clone()),
        created_at: Some(facts.map_or(manifest.created_at, |f| f.created_at)),
        pack: Some(pack),
        digests: Some(Digests { memory: sums.memory, vmstate: sums.vmstate, disk: sums.disk }),
    }
}

fn origin(
    manifest: &Manifest,
    sums: &LinkSums,
    signed_by: Option<&str>,
    is_head: bool,
) -> Result<PackOrigin> {
    let snapshot_json = sums.snapshot_json.clone().map(String::from_utf8).transpose();
    let snapshot_json =
        snapshot_json.map_err(|_| Error::new(ErrorCode::InvalidInput, "snapshot.json is not UTF-8"))?;
    let rootfs = manifest.rootfs.as_ref().filter(|_| is_head);
    Ok(PackOrigin {
        layout: manifest.layout,
        writer: manifest.writer.clone(),
        base_image: manifest.base_image.clone().filter(|_| is_head),
        rootfs: rootfs.map(|r| RootfsOrigin { path: r.target_path.clone(), sha256: r.sha256 }),
        snapshot_json,
        signed_by: signed_by.map(str::to_owned),
        memory_sha256: sums.memory_plain,
        disk_sha256: sums.disk_plain,
    })
}
