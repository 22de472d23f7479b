//! A pack read and verified in one pass: each byte is read once, and nothing in it is believed before its digest is.
//!
//! Files are made by whoever receives the pack; here they are filled. Nothing is made durable or visible here.

mod chain;
mod hashing;
mod layers;
mod laying;
mod members;
mod order;
mod tail;

use crate::{
    crew::Crew,
    error::{PackError, Result},
    frames::FrameReader,
    manifest::{Layout, Manifest, Role},
};
use members::{Reading, read_manifest};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    sync::Mutex,
    thread,
};
use tail::Tail;
use tine_archive::TarReader;
use tine_model::{Reporter, Sha256Digest};

/// Bounds of what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that may be written; the free space of the pool is a good bound. Zeros take none.
    pub max_bytes: u64,
    /// Bytes of one file, holes included.
    pub max_file: u64,
    /// Bytes of memory for content of the older layouts that waits for its plain digest: the one thread of that takes long
    /// over holes, and has where nothing is a hole what was read meanwhile. Taken only as needed.
    pub max_waiting: usize,
}

impl Default for Limits {
    /// Files of 1 TiB, as many as there is room for; 20 MiB wait.
    fn default() -> Self {
        Self { max_bytes: u64::MAX, max_file: 1 << 40, max_waiting: 20 << 20 }
    }
}

/// Who gets what a pack holds.
pub trait Receiver {
    /// Learns what comes, before any file does: the manifest, its bytes, and the signature over these if there is
    /// one, of which nothing has been checked here. May refuse.
    ///
    /// # Errors
    /// Whatever speaks against it; reading ends with this error.
    fn begin(
        &mut self,
        manifest: &Manifest,
        raw: &[u8],
        signature: Option<&str>,
    ) -> tine_model::Result<Begin>;

    /// A file for a role of the link with this number, to hold `size` bytes: empty, open for reading and writing. On the
    /// file system of the other files, so that what links share is stored once. Never called for
    /// [`Role::SnapshotJson`], which is handed over with the sums.
    ///
    /// # Errors
    /// Whatever prevents it; reading ends with this error.
    fn file(&mut self, link: usize, role: Role, size: u64) -> tine_model::Result<File>;
}

/// What the receiver has already.
#[derive(Debug, Default)]
pub struct Begin {
    /// Links, by number, that it has and that are not written again. They must be what the manifest says: their digests
    /// are checked, and links after them are made of their files.
    pub reuse: BTreeMap<usize, Reused>,
    /// Those of them whose files the stream does not have, because it is read through [`crate::outline::Parts`].
    pub left_out: BTreeSet<usize>,
}

/// The files of a link that is there already, open for reading.
#[derive(Debug)]
pub struct Reused {
    /// Its memory.
    pub memory: File,
    /// Its disk, if the manifest declares one.
    pub disk: Option<File>,
}

/// A pack that has been read: all of it has been verified.
#[derive(Debug)]
pub struct Unpacked {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The digests of what was written, link by link.
    pub links: Vec<LinkSums>,
    /// Bytes of the pack.
    pub consumed: u64,
}

/// The digests of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSums {
    /// Digest of the memory's whole content, as the crate `tine-digest` defines it.
    pub memory: Sha256Digest,
    /// Plain SHA-256 of the memory's whole content, where the layout has it.
    pub memory_plain: Option<Sha256Digest>,
    /// Plain SHA-256 of the device state.
    pub vmstate: Sha256Digest,
    /// Digest of the disk's whole content, as for the memory.
    pub disk: Option<Sha256Digest>,
    /// Plain SHA-256 of the disk's whole content, as for the memory.
    pub disk_plain: Option<Sha256Digest>,
    /// What `snapshot.json` holds. The paths in it are those of another host.
    pub snapshot_json: Option<Vec<u8>>,
}

/// Reads a pack of any layout. Tells `reporter` how many bytes of content have been read.
///
/// # Errors
/// Any [`PackError`]; what the receiver's files hold then is worth nothing.
pub fn read(
    input: &mut (dyn Read + Send),
    limits: &Limits,
    receiver: &mut dyn Receiver,
    reporter: &dyn Reporter,
) -> Result<Unpacked> {
    let tail = Mutex::default();
    let threads = crate::crew::threads();
    let unpacked = thread::scope(|scope| {
        let frames = FrameReader::new(scope, Tail::new(input, &tail), threads)
            .map_err(PackError::io("start", "threads that decompress"))?;
        let crew = Crew::start(threads)?;
        Reading::new(TarReader::plain(frames), crew, limits, reporter)?.run(receiver)
    })?;
    if unpacked.manifest.layout == Layout::V3 {
        tail::check(&tail)?;
    }
    Ok(unpacked)
}

/// The manifest of a pack of any layout, and its bytes. Reads little more of `input`, and trusts none of it.
///
/// # Errors
/// Any [`PackError`] of what was read.
pub fn manifest_of(input: &mut (dyn Read + Send)) -> Result<(Manifest, Vec<u8>)> {
    let raw = thread::scope(|scope| {
        let frames =
            FrameReader::new(scope, input, 1).map_err(PackError::io("start", "threads that decompress"))?;
        read_manifest(&mut TarReader::plain(frames))
    })?;
    Ok((Manifest::parse(&raw)?, raw))
}

impl Limits {
    /// Whether files may be as large as a manifest declares them.
    fn check_sizes(&self, manifest: &Manifest) -> Result<()> {
        let mut files = manifest.links.iter().flat_map(|link| &link.files);
        if let Some(file) = files.find(|file| file.size > self.max_file) {
            let (name, size, most) = (file.role.file_name(), file.size, self.max_file);
            return Err(PackError::TooLarge(format!(
                "the pack declares {name} with {size} bytes; at most {most} are read"
            )));
        }
        Ok(())
    }

    /// Whether there is room for what a manifest declares and is not there already.
    fn check_room(&self, manifest: &Manifest, reuse: &BTreeMap<usize, Reused>) -> Result<()> {
        let links = manifest.links.iter().enumerate().filter(|(number, _)| !reuse.contains_key(number));
        let files = links.flat_map(|(_, link)| &link.files);
        // the older layouts tell sizes with holes, which take no room
        let known = files.filter(|file| manifest.layout == Layout::V3 || !file.role.is_paged());
        let needed = known.fold(0u64, |sum, file| sum.saturating_add(file.stored));
        if needed > self.max_bytes {
            return Err(PackError::Full { needed, free: self.max_bytes });
        }
        Ok(())
    }
}
