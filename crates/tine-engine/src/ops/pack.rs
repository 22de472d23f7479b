//! `pack`: an image, with the ancestors that its layout takes along, as one verified file.

use crate::{LocalEngine, trust};
use std::fs::File;
use tine_hub::KeyStore;
use tine_model::{
    ByteSize, Error, ErrorCode, ImageTag, NewFiles, PackImage, PackLayout, PackReport, PackedFile, Reporter,
    Result, RootfsOrigin, Sha256Digest,
};
use tine_pack::{Facts, LINKS_MAX, PackError, SidecarRef, Source, SourceFile, SourceLink, sidecar};
use tine_store::{OpenImage, Pool};

/// Where a pack goes: the caller's files, or some in the pool, whose being full is the pool's.
pub(super) enum Output<'f> {
    Outside(&'f dyn NewFiles),
    Pool(&'f dyn NewFiles),
}

impl Output<'_> {
    fn create(&self, name: &str) -> Result<File> {
        let (Self::Outside(files) | Self::Pool(files)) = self;
        files.create(name)
    }

    fn failed(&self, error: PackError) -> Error {
        match self {
            Self::Pool(_) if error.is_output_full() => {
                Error::new(ErrorCode::PoolFull, error.to_string()).hint("tine gc")
            }
            _ => error.into(),
        }
    }
}

pub fn run(
    engine: &LocalEngine,
    request: &PackImage,
    output: &Output<'_>,
    reporter: &dyn Reporter,
) -> Result<PackReport> {
    let pool = engine.pool()?;
    let line = Line::open(&pool, &request.tag)?;
    let layout = line.layout(request)?;
    let images = line.images(layout);
    images.iter().try_for_each(|image| image.state.verify())?;
    let name = format!("{}{}", request.tag, layout.file_ending());
    let out = output.create(&name)?;
    let (rootfs, beside) = sidecar_of(line.head(), layout, output, reporter)?.unzip();
    let source = source(request, layout, images, rootfs)?;
    let keys = trust::keys(&pool);
    let sign = |manifest: &[u8]| signature(&keys, request, manifest);
    let sign = request.sign.as_ref().map(|_| &sign as &tine_pack::Sign<'_>);
    let written = tine_pack::write(&source, sign, &out, reporter).map_err(|e| output.failed(e))?;
    let pack = PackedFile { name, bytes: ByteSize(written.file_bytes) };
    Ok(PackReport {
        layout,
        images: images.iter().map(|image| image.tag.clone()).collect(),
        files: [Some(pack), beside].into_iter().flatten().collect(),
        content_bytes: ByteSize(written.content_bytes),
        stored_bytes: ByteSize(written.stored_bytes),
        signed_by: request.sign.clone().map(String::from),
    })
}

fn signature(keys: &KeyStore, request: &PackImage, manifest: &[u8]) -> Result<String> {
    let Some(key) = &request.sign else { return Err(Error::new(ErrorCode::Internal, "there is no key")) };
    let comment = format!("manifest of {}", request.tag);
    Ok(keys.sign(key, request.password.as_deref(), manifest, &comment)?)
}

/// An image with its ancestors in the pool, the oldest first.
struct Line(Vec<OpenImage>);

impl Line {
    /// Ancestors are followed as long as they are the very images: a tag may stand for another by now.
    fn open(pool: &Pool, tag: &ImageTag) -> Result<Self> {
        let mut line = vec![pool.open_image(tag)?];
        while let Some(parent) = parent_of(pool, line.last())? {
            let is_new = line.iter().all(|image| image.tag != parent.tag);
            if !is_new || line.len() == LINKS_MAX {
                break;
            }
            line.push(parent);
        }
        line.reverse();
        Ok(Self(line))
    }

    fn head(&self) -> &OpenImage {
        // a line has its head from the beginning
        &self.0[self.0.len() - 1]
    }

    /// The layout asked for; else the one that the image came in, as far as it holds it; else Tine's own.
    fn layout(&self, request: &PackImage) -> Result<PackLayout> {
        let origin = self.head().meta.pack.as_ref().map(|pack| pack.layout);
        let layout = request.layout.or(origin).unwrap_or(PackLayout::V3);
        if request.sign.is_some() && layout != PackLayout::V3 {
            let message = format!("a pack of layout {layout} has no place for a signature");
            return Err(Error::new(ErrorCode::Usage, message).hint("--format v3"));
        }
        Ok(layout)
    }

    /// What goes into a pack of this layout.
    fn images(&self, layout: PackLayout) -> &[OpenImage] {
        let from = if layout == PackLayout::V1 { self.0.len() - 1 } else { 0 };
        &self.0[from..]
    }
}

fn parent_of(pool: &Pool, child: Option<&OpenImage>) -> Result<Option<OpenImage>> {
    let Some((tag, memory)) = child.and_then(|c| c.meta.parent.as_ref().zip(c.meta.parent_memory)) else {
        return Ok(None);
    };
    match pool.open_image(tag).map_err(Error::from) {
        Ok(parent) => Ok(Some(parent).filter(|parent| parent.meta.saved.memory.digest == memory)),
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where another tool keeps the disk beside the pack, it is kept there.
fn sidecar_of(
    head: &OpenImage,
    layout: PackLayout,
    output: &Output<'_>,
    reporter: &dyn Reporter,
) -> Result<Option<(SidecarRef, PackedFile)>> {
    let origin = head.meta.pack.as_ref().and_then(|pack| pack.rootfs.as_ref());
    let (Some(origin), Some(disk)) = (origin, head.state.files.disk()) else { return Ok(None) };
    if layout == PackLayout::V3 {
        return Ok(None);
    }
    write_sidecar(origin, disk, output, reporter).map(Some)
}

fn write_sidecar(
    origin: &RootfsOrigin,
    disk: &File,
    output: &Output<'_>,
    reporter: &dyn Reporter,
) -> Result<(SidecarRef, PackedFile)> {
    let name = sidecar::name(&origin.sha256);
    let out = output.create(&name)?;
    let written = sidecar::write_sidecar(disk, &out, reporter).map_err(|e| output.failed(e))?;
    if written.sha256 != origin.sha256 {
        let message = format!("the disk has SHA-256 {} and came with {}", written.sha256, origin.sha256);
        return Err(Error::new(ErrorCode::Corrupt, message).hint("tine check --read-data"));
    }
    let reference =
        SidecarRef { target_path: origin.path.clone(), sha256: origin.sha256, size: written.bytes };
    Ok((reference, PackedFile { name, bytes: ByteSize(written.stored) }))
}

fn source<'a>(
    request: &PackImage,
    layout: PackLayout,
    images: &'a [OpenImage],
    rootfs: Option<SidecarRef>,
) -> Result<Source<'a>> {
    let head = images.last().ok_or_else(|| Error::new(ErrorCode::Internal, "there is nothing to pack"))?;
    let origin = head.meta.pack.as_ref();
    let own = Some(head.meta.description.clone()).filter(|text| !text.is_empty());
    let is_beside = |image: &OpenImage| rootfs.is_some() && image.tag == head.tag;
    let parents = std::iter::once(None).chain(images.iter().map(|image| Some(image.tag.clone())));
    let links = images.iter().zip(parents).map(|(image, parent)| link(image, parent, is_beside(image)));
    let links = links.collect();
    Ok(Source {
        layout,
        tag: request.tag.clone(),
        description: request.description.clone().or(own),
        base_image: request.base_image.clone().or_else(|| origin?.base_image.clone()),
        created_at: head.meta.created_at,
        writer: format!("tine {}", env!("CARGO_PKG_VERSION")),
        links,
        rootfs,
    })
}

fn link(image: &OpenImage, parent: Option<ImageTag>, disk_is_beside: bool) -> SourceLink<'_> {
    let (meta, files, saved) = (&image.meta, &image.state.files, &image.meta.saved);
    let disk = files.disk().zip(saved.disk).filter(|_| !disk_is_beside);
    let origin = meta.pack.as_ref();
    SourceLink {
        tag: image.tag.clone(),
        parent,
        facts: saved.contract.as_ref().map(|contract| Facts {
            id: meta.id.clone(),
            description: meta.description.clone(),
            source: meta.source.clone(),
            base: meta.base.clone(),
            created_at: meta.created_at,
            contract: contract.clone(),
        }),
        memory: source_file(&files.memory, saved.memory.digest, origin.and_then(|pack| pack.memory_sha256)),
        vmstate: source_file(&files.vmstate, saved.vmstate.digest, None),
        disk: disk.map(|(file, sum)| source_file(file, sum.digest, origin.and_then(|pack| pack.disk_sha256))),
        snapshot_json: origin.and_then(|pack| Some(pack.snapshot_json.clone()?.into_bytes())),
    }
}

fn source_file(file: &File, digest: Sha256Digest, sha256: Option<Sha256Digest>) -> SourceFile<'_> {
    SourceFile { file, digest, sha256 }
}
