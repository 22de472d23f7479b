//! Saved machines written as a pack, each byte of them read once and checked against its digest meanwhile.
//!
//! Which pages of a memory are zero must be known before its first byte is written. In what was baked or unpacked they are holes:
//! that is taken to be so, and where it turns out otherwise, the pages are looked at and everything is written once more.
//!
//! Every layout's own part is in a module of its own; here is what the callers see.

mod content;
mod hashing;
mod maps;
mod members;
mod ours;
mod plain;
mod room;
mod snapshot_json;
mod tarfile;

use crate::{
    error::{PackError, Result},
    manifest::{Layout, Manifest, Role, SidecarRef},
};
use std::{
    fs::File,
    io::{Seek, SeekFrom},
    sync::atomic::{AtomicBool, Ordering},
};
use tine_model::{ImageTag, Reporter, Sha256Digest, Timestamp};

pub use crate::manifest::Facts;

/// An open file and its digest.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// The file, open for reading; nobody may write to it meanwhile.
    pub file: &'a File,
    /// Of memory and disk the digest that the crate `tine-digest` defines, of the device state plain SHA-256. Memory and
    /// disk are not summed again while they are packed: that they have it must be known, and every reader looks.
    pub digest: Sha256Digest,
    /// Plain SHA-256 of the whole content, which the older layouts declare; worked out where it is not known. What holds
    /// for the digest holds for this.
    pub sha256: Option<Sha256Digest>,
}

/// A saved machine.
#[derive(Debug, Clone)]
pub struct SourceLink<'a> {
    /// The tag of its image.
    pub tag: ImageTag,
    /// The tag of the link before it; none for the first.
    pub parent: Option<ImageTag>,
    /// What is known of it.
    pub facts: Option<Facts>,
    /// Its memory.
    pub memory: SourceFile<'a>,
    /// The state of its processors and devices.
    pub vmstate: SourceFile<'a>,
    /// Its disk; none for a machine that has none or whose disk lies beside the pack.
    pub disk: Option<SourceFile<'a>>,
    /// What another tool noted of it; made up for the layouts that always have it when there is none.
    pub snapshot_json: Option<Vec<u8>>,
}

/// What is to be packed.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The layout to write.
    pub layout: Layout,
    /// The tag of the last link.
    pub tag: ImageTag,
    /// About it, in a few words.
    pub description: Option<String>,
    /// What it was made from.
    pub base_image: Option<String>,
    /// When the pack is made; the times of the files in it too.
    pub created_at: Timestamp,
    /// Name or version of what makes it.
    pub writer: String,
    /// The images, root first.
    pub links: Vec<SourceLink<'a>>,
    /// The last link's disk, when it lies beside the pack.
    pub rootfs: Option<SidecarRef>,
}

/// Signs the bytes of a manifest: gives the text of a minisign signature.
pub type Sign<'s> = dyn Fn(&[u8]) -> tine_model::Result<String> + 's;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the pack.
    pub file_bytes: u64,
    /// Bytes of the files in it, holes included.
    pub content_bytes: u64,
    /// Bytes of the files that are in the pack, before compression.
    pub stored_bytes: u64,
}

/// Writes a pack to `out`, which is empty and open for writing. Two packs of the same source are byte-identical,
/// whatever the number of threads. Tells `reporter` how many bytes of content are written.
///
/// # Errors
/// [`PackError::Corrupt`] when the device state has not the digest given; [`PackError::Unsuited`] for what the layout has no place
/// for; [`PackError::Malformed`] when the links are no chain; [`PackError::Refused`] when signing failed. What is in `out`
/// then is no pack.
pub fn write(
    source: &Source<'_>,
    sign: Option<&Sign<'_>>,
    out: &File,
    reporter: &dyn Reporter,
) -> Result<Written> {
    write_with(source, sign, out, reporter, crate::crew::threads())
}

/// [`write`] with a number of threads of each kind.
#[doc(hidden)]
pub fn write_with(
    source: &Source<'_>,
    sign: Option<&Sign<'_>>,
    out: &File,
    reporter: &dyn Reporter,
    threads: usize,
) -> Result<Written> {
    let mut job =
        Job { source, out, reporter, threads, trusts_holes: true, has_zeros: AtomicBool::new(false) };
    let (content_bytes, stored_bytes) = match job.write(sign) {
        Err(_) if job.has_zeros.load(Ordering::Relaxed) => {
            job.begin_again()?;
            job.write(sign)?
        }
        written => written?,
    };
    let file_bytes = out.metadata().map_err(PackError::io("look at", "the pack"))?.len();
    Ok(Written { file_bytes, content_bytes, stored_bytes })
}

/// What is being written, where, and who hears of it.
struct Job<'a> {
    source: &'a Source<'a>,
    out: &'a File,
    reporter: &'a dyn Reporter,
    threads: usize,
    /// Zeros of a memory are taken to be holes.
    trusts_holes: bool,
    /// That was wrong.
    has_zeros: AtomicBool,
}

impl<'a> Job<'a> {
    /// Writes it all; gives the bytes of content, and those that are stored.
    fn write(&self, sign: Option<&Sign<'_>>) -> Result<(u64, u64)> {
        match (self.source.layout, sign) {
            (Layout::V3, sign) => ours::write(self, sign),
            (_, None) => plain::write(self),
            (layout, Some(_)) => {
                let number = layout.number();
                Err(PackError::Unsuited(format!("a pack of layout {number} has no place for a signature")))
            }
        }
    }

    /// Empties the pack, and looks at every page from now on.
    fn begin_again(&mut self) -> Result<()> {
        self.trusts_holes = false;
        let mut out = self.out;
        let emptied = out.set_len(0).and_then(|()| out.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(PackError::io("empty", "the pack"))
    }

    /// The manifest, as far as it is known before anything is read to its end.
    fn manifest(&self, maps: &mut maps::Maps) -> Result<Manifest> {
        let source = self.source;
        self.reporter.step(&format!("looking at the pages of {}", source.tag), None);
        let links = (0..source.links.len()).map(|index| maps.link(self, index));
        Ok(Manifest {
            layout: source.layout,
            tag: source.tag.clone(),
            description: source.description.clone(),
            base_image: source.base_image.clone(),
            created_at: source.created_at,
            writer: source.writer.clone(),
            links: links.collect::<Result<_>>()?,
            rootfs: source.rootfs.clone(),
            features: Vec::new(),
        })
    }

    /// Begins the step that writes the files; gives their bytes and how many of them are stored.
    fn begin(&self, manifest: &Manifest) -> (u64, u64) {
        let files = || manifest.links.iter().flat_map(|link| &link.files);
        let content = files().map(|file| file.size).sum();
        let stored = files().map(|file| file.stored).sum();
        self.reporter.step(&format!("packing {}", manifest.tag), Some(stored));
        (content, stored)
    }

    fn link(&self, index: usize) -> Result<&'a SourceLink<'a>> {
        self.source.links.get(index).ok_or_else(|| PackError::malformed("there is no such image"))
    }

    fn parent(&self, index: usize) -> Option<&'a SourceLink<'a>> {
        self.source.links.get(index.checked_sub(1)?)
    }
}

impl<'a> SourceLink<'a> {
    /// The file with this role, where it is one.
    fn file(&self, role: Role) -> Option<SourceFile<'a>> {
        match role {
            Role::SnapshotJson => None,
            Role::Vmstate => Some(self.vmstate),
            Role::Rootfs => self.disk,
            Role::Memory => Some(self.memory),
        }
    }

    fn what(&self, role: Role) -> String {
        format!("{} of image {}", role.file_name(), self.tag)
    }

    /// Bytes of a file.
    fn size(&self, role: Role, file: SourceFile<'_>) -> Result<u64> {
        Ok(file.file.metadata().map_err(PackError::io("look at", self.what(role)))?.len())
    }
}
