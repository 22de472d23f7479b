//! `unpack`: everything in a pack is verified, and only then are there images.

mod plan;
mod publication;

use crate::{LocalEngine, create_new, trust, trust::Trust};
pub(super) use plan::Plan;
use publication::Publication;
use std::{collections::BTreeSet, fs::File, io::Read, os::fd::AsFd};
use tine_hub::PackTraits;
use tine_model::{
    ByteSize, Error, ErrorCode, ImageTag, PackInput, Reporter, Result, Sha256Digest, Siblings, UnpackImage,
    UnpackReport,
};
use tine_pack::{Begin, Limits, Link, Manifest, Receiver, Role, Unpacked, outline::Parts, sidecar};
use tine_store::{OpenImage, Pool, StateStage};

/// Bytes of memory for what waits for a plain digest, more than a pull can spare beside its download.
const AHEAD: usize = 40 << 20;

pub fn run(
    engine: &LocalEngine,
    request: &UnpackImage,
    mut pack: &mut dyn PackInput,
    siblings: &Siblings<'_>,
    reporter: &dyn Reporter,
) -> Result<UnpackReport> {
    let pool = engine.pool()?;
    let trust = Trust::of_file(&pool)?;
    let intake = Intake::new(&pool, request, &trust, reporter).reading_ahead(AHEAD);
    let received = match Plan::of(&pool, request, pack)? {
        Some(Plan { left_out, parts }) => {
            intake.leaving_out(left_out).receive(&mut Parts::new(pack, parts), siblings)?
        }
        None => intake.receive(&mut pack, siblings)?,
    };
    received.publish(engine).map(|(report, _)| report)
}

/// A pack that has been read and verified, and that nobody sees yet; dropped, it is gone.
pub(super) struct Received<'p> {
    intake: Intake<'p>,
    unpacked: Unpacked,
}

impl Received<'_> {
    /// Makes images of it.
    pub(super) fn publish(self, engine: &LocalEngine) -> Result<(UnpackReport, PackTraits)> {
        let Self { intake: Intake { pool, request, tags, places, signed_by, .. }, unpacked } = self;
        let publication = Publication::new(engine, pool, request, &unpacked, signed_by.as_deref());
        let images = publication.run(&tags, places)?;
        let traits = trust::traits(&unpacked.manifest, signed_by.is_some());
        Ok((UnpackReport { layout: unpacked.manifest.layout, images, signed_by }, traits))
    }
}

/// Where the files of a pack go, before anybody sees them.
pub(super) struct Intake<'p> {
    pool: &'p Pool,
    request: &'p UnpackImage,
    trust: &'p Trust,
    reporter: &'p dyn Reporter,
    /// Links that the stream does not have, because they are here.
    left_out: BTreeSet<usize>,
    /// The tags that its images get, the oldest ancestor's first.
    tags: Vec<ImageTag>,
    places: Vec<Place<'p>>,
    signed_by: Option<String>,
    limits: Limits,
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
        let mut begin = Begin { left_out: self.left_out.clone(), ..Begin::default() };
        for (index, (link, tag)) in manifest.links.iter().zip(&self.tags).enumerate() {
            let place = match plan::find(self.pool, manifest, link, tag)? {
                Some(image) => {
                    begin.reuse.insert(index, plan::reused(&image)?);
                    Place::Here(Box::new(image))
                }
                None if self.left_out.contains(&index) => return Err(gone(tag)),
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
        let (left_out, tags, places) = (BTreeSet::new(), Vec::new(), Vec::new());
        let limits = Limits::default();
        Self { pool, request, trust, reporter, left_out, tags, places, signed_by: None, limits }
    }

    /// Gives reading that much memory for what waits for a plain digest, in bytes.
    fn reading_ahead(self, max_waiting: usize) -> Self {
        Self { limits: Limits { max_waiting, ..self.limits }, ..self }
    }

    /// Expects a stream without these links, as a [`Plan`] has found them here.
    pub(super) fn leaving_out(self, left_out: BTreeSet<usize>) -> Self {
        Self { left_out, ..self }
    }

    /// Reads a pack to its end into places that nobody sees.
    pub(super) fn receive(
        mut self,
        pack: &mut (dyn Read + Send),
        siblings: &Siblings<'_>,
    ) -> Result<Received<'p>> {
        let limits = Limits { max_bytes: self.pool.room()?.available, ..self.limits };
        let reporter = self.reporter;
        let mut unpacked = tine_pack::read(pack, &limits, &mut self, reporter)?;
        self.disk_from_beside(&mut unpacked, siblings)?;
        Ok(Received { intake: self, unpacked })
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

/// An image that was to be made of is here no more, or the pack is another one.
fn gone(tag: &ImageTag) -> Error {
    let message = format!("image {tag}, which the pack builds on, changed while the pack was read");
    Error::new(ErrorCode::Busy, message).hint("try again; what is missing here is read from the pack then")
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
