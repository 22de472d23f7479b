//! `unpack`: everything in a pack is verified, and only then are there images.

use crate::{LocalEngine, create_new, io_error, trust, trust::Trust};
use std::{fs::File, io::Read, os::fd::AsFd, path::Path};
use tine_hub::PackTraits;
use tine_model::{
    ByteSize, Error, ErrorCode, ImageInfo, ImageTag, PackLayout, PackOrigin, Reporter, Result, RootfsOrigin,
    Sha256Digest, Siblings, UnpackImage, UnpackReport, UnpackedImage,
};
use tine_pack::{Begin, Limits, Link, LinkSums, Manifest, Receiver, Reused, Role, Unpacked, sidecar};
use tine_store::{Digests, NewImage, OpenImage, Pool, StateStage};

pub fn run(
    engine: &LocalEngine,
    request: &UnpackImage,
    pack: &mut (dyn Read + Send),
    siblings: &Siblings<'_>,
    reporter: &dyn Reporter,
) -> Result<UnpackReport> {
    let pool = engine.pool()?;
    let trust = Trust::of_file(&pool)?;
    let intake = Intake::new(&pool, request, &trust, reporter);
    take(engine, intake, pack, siblings).map(|(report, _)| report)
}

/// Reads a pack and makes images of it.
pub(super) fn take(
    engine: &LocalEngine,
    mut intake: Intake<'_>,
    pack: &mut (dyn Read + Send),
    siblings: &Siblings<'_>,
) -> Result<(UnpackReport, PackTraits)> {
    let reporter = intake.reporter;
    let limits = Limits { max_bytes: intake.pool.room()?.available, ..Limits::default() };
    let mut unpacked = tine_pack::read(pack, &limits, &mut intake, reporter)?;
    intake.disk_from_beside(&mut unpacked, siblings)?;
    let Intake { pool, request, tags, places, signed_by, .. } = intake;
    let publication = Publication {
        engine,
        pool,
        request,
        unpacked: &unpacked,
        signed_by: signed_by.as_deref(),
        done: Vec::new(),
    };
    let images = publication.run(&tags, places)?;
    let traits = trust::traits(&unpacked.manifest, signed_by.is_some());
    Ok((UnpackReport { layout: unpacked.manifest.layout, images, signed_by }, traits))
}

/// Where the files of a pack go, before anybody sees them.
pub(super) struct Intake<'p> {
    pool: &'p Pool,
    request: &'p UnpackImage,
    trust: &'p Trust,
    reporter: &'p dyn Reporter,
    /// The tags that its images get, the oldest ancestor's first.
    tags: Vec<ImageTag>,
    places: Vec<Place<'p>>,
    signed_by: Option<String>,
}

/// Where one image of the pack is.
enum Place<'p> {
    /// It was here before.
    Here(Box<OpenImage>),
    /// It is being made.
    Staged(StateStage<'p>),
}

impl Receiver for Intake<'_> {
    fn begin(&mut self, manifest: &Manifest, raw: &[u8], signature: Option<&str>) -> Result<Begin> {
        self.signed_by = self.trust.check_manifest(manifest, raw, signature, self.reporter)?;
        self.tags = tags(manifest, self.request)?;
        manifest.links.iter().try_for_each(check_contract)?;
        self.refuse_taken()?;
        let mut begin = Begin::default();
        for (index, (link, tag)) in manifest.links.iter().zip(&self.tags).enumerate() {
            let place = match self.present(manifest, link, tag)? {
                Some((image, reused)) => {
                    begin.reuse.insert(index, reused);
                    Place::Here(Box::new(image))
                }
                None => Place::Staged(self.pool.stage_state()?),
            };
            self.places.push(place);
        }
        Ok(begin)
    }

    fn file(&mut self, link: usize, role: Role, _: u64) -> Result<File> {
        let Some(Place::Staged(stage)) = self.places.get(link) else { return Err(odd()) };
        match role {
            Role::Memory => create_new(&stage.memory_path()),
            Role::Vmstate => create_new(&stage.vmstate_path()),
            Role::Rootfs => {
                stage.make_root()?;
                create_new(&stage.disk_path())
            }
            Role::SnapshotJson => Err(odd()),
        }
    }
}

impl<'p> Intake<'p> {
    pub(super) fn new(
        pool: &'p Pool,
        request: &'p UnpackImage,
        trust: &'p Trust,
        reporter: &'p dyn Reporter,
    ) -> Self {
        Self { pool, request, trust, reporter, tags: Vec::new(), places: Vec::new(), signed_by: None }
    }

    /// The image that is meant must be new.
    fn refuse_taken(&self) -> Result<()> {
        match self.tags.last() {
            Some(head) if !self.request.force => self
                .pool
                .check_image_tag(head)
                .map_err(|e| Error::from(e).hint("--force replaces it, --tag gives this one another")),
            _ => Ok(()),
        }
    }

    /// An ancestor that is here already, by what the manifest says of it. That is looked at again by its content.
    fn present(
        &self,
        manifest: &Manifest,
        link: &Link,
        tag: &ImageTag,
    ) -> Result<Option<(OpenImage, Reused)>> {
        if manifest.layout != PackLayout::V3 || *tag == manifest.tag {
            return Ok(None);
        }
        let image = match self.pool.open_image(tag).map_err(Error::from) {
            Err(error) if error.code == ErrorCode::NotFound => return Ok(None),
            image => image?,
        };
        let digest = |role| link.file(role).map(|file| file.digest);
        let saved = &image.meta.saved;
        let own = (Some(saved.memory.digest), Some(saved.vmstate.digest), saved.disk.map(|disk| disk.digest));
        if own != (digest(Role::Memory), digest(Role::Vmstate), digest(Role::Rootfs)) {
            return Ok(None);
        }
        image.state.verify()?;
        let again = |file: &File| file.try_clone().map_err(|e| io_error("open", Path::new(tag.as_str()), &e));
        let files = &image.state.files;
        let reused = Reused { memory: again(&files.memory)?, disk: files.disk().map(again).transpose()? };
        Ok(Some((image, reused)))
    }

    /// The disk of the image that is meant, where that lies beside the pack or is here already.
    fn disk_from_beside(&self, unpacked: &mut Unpacked, siblings: &Siblings<'_>) -> Result<()> {
        let Some(rootfs) = &unpacked.manifest.rootfs else { return Ok(()) };
        let (Some(Place::Staged(stage)), Some(sums)) = (self.places.last(), unpacked.links.last_mut()) else {
            return Ok(());
        };
        stage.make_root()?;
        let disk = create_new(&stage.disk_path())?;
        if let Some(digest) = self.disk_of_another(&rootfs.sha256, &disk)? {
            sums.disk = Some(digest);
            return Ok(());
        }
        let name = sidecar::name(&rootfs.sha256);
        let mut input = siblings(&name)?.ok_or_else(|| {
            let message = format!("the disk of the pack, {name}, does not lie beside it");
            Error::new(ErrorCode::NotFound, message)
                .hint("fetch it into the folder of the pack; it is published beside it")
        })?;
        let digest = sidecar::read_sidecar(&mut *input, rootfs.sha256, rootfs.size, &disk, self.reporter)?;
        sums.disk = Some(digest);
        Ok(())
    }

    /// Clones the disk of an image here that came with the same one.
    fn disk_of_another(&self, sha256: &Sha256Digest, disk: &File) -> Result<Option<Sha256Digest>> {
        for info in self.pool.list_images(self.reporter)? {
            let is_same =
                info.pack.as_ref().and_then(|pack| pack.rootfs.as_ref()).is_some_and(|r| r.sha256 == *sha256);
            if !is_same {
                continue;
            }
            let image = self.pool.open_image(&info.tag)?;
            image.state.verify()?;
            let (Some(file), Some(sum)) = (image.state.files.disk(), image.meta.saved.disk) else { continue };
            tine_sys::reflink::clone_file(file.as_fd(), disk.as_fd()).map_err(|e| {
                Error::new(ErrorCode::Internal, format!("clone the disk of image {}: {e}", info.tag))
            })?;
            return Ok(Some(sum.digest));
        }
        Ok(None)
    }
}

fn odd() -> Error {
    Error::new(ErrorCode::Internal, "the pack's reader asked for a file that is not there")
}

/// A machine that was promised more memory than it was saved with would run past its end.
fn check_contract(link: &Link) -> Result<()> {
    let (facts, memory) = (link.facts.as_ref(), link.file(Role::Memory));
    match facts.zip(memory) {
        Some((facts, memory)) if facts.contract.memory_bytes.bytes() != memory.size => {
            let (wanted, size) = (facts.contract.memory_bytes, ByteSize(memory.size));
            let message =
                format!("image {} of the pack has {size} of memory and a contract for {wanted}", link.tag);
            Err(Error::new(ErrorCode::InvalidInput, message))
        }
        _ => Ok(()),
    }
}

/// The tags of the images that a pack becomes.
fn tags(manifest: &Manifest, request: &UnpackImage) -> Result<Vec<ImageTag>> {
    match (&request.tag, manifest.links.as_slice()) {
        (Some(tag), [_]) => Ok(vec![tag.clone()]),
        (Some(_), links) => {
            let message = format!("the pack holds {} images, so one tag is ambiguous", links.len());
            Err(Error::new(ErrorCode::Usage, message).hint("without --tag each keeps its own"))
        }
        (None, links) => Ok(links.iter().map(|link| link.tag.clone()).collect()),
    }
}

/// Images of one pack that are being shown: all of them or none.
struct Publication<'i> {
    engine: &'i LocalEngine,
    pool: &'i Pool,
    request: &'i UnpackImage,
    unpacked: &'i Unpacked,
    /// The name of the key that has signed the pack.
    signed_by: Option<&'i str>,
    /// Those that were not there before.
    done: Vec<ImageTag>,
}

impl Publication<'_> {
    fn run(mut self, tags: &[ImageTag], places: Vec<Place<'_>>) -> Result<Vec<UnpackedImage>> {
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
    })
}
