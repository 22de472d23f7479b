//! What a pack says of itself: one value for all layouts.
//!
//! Only what can be true is made: a manifest that was read has passed every check that needs no content.

mod check;
mod closing;
mod document;

use crate::error::{PackError, Result};
use serde::{Deserialize, Serialize};
pub use tine_model::PackLayout as Layout;
use tine_model::{BaseVersion, Contract, ImageTag, Sha256Digest, Timestamp};

pub(crate) use check::SNAPSHOT_JSON_MAX;

/// The most bytes a manifest may have.
pub const MANIFEST_MAX: u64 = 1 << 20;
/// The most links a chain may have.
pub const LINKS_MAX: usize = 64;

/// The most bytes of a signature.
pub(crate) const SIGNATURE_MAX: u64 = 4096;

/// The name of the manifest in the tar.
pub(crate) const MANIFEST: &str = "manifest.toml";
/// The name of the signature over the manifest.
pub(crate) const SIGNATURE: &str = "manifest.toml.minisig";

/// What a file of a link is. The order is that of the files in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// What the writer noted of the machine.
    SnapshotJson,
    /// The state of processors and devices.
    Vmstate,
    /// The disk.
    Rootfs,
    /// The memory.
    Memory,
}

impl Role {
    /// Every role, in the order of the files.
    pub const ALL: [Self; 4] = [Self::SnapshotJson, Self::Vmstate, Self::Rootfs, Self::Memory];

    /// The name of the file.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::SnapshotJson => "snapshot.json",
            Self::Vmstate => "vmstate",
            Self::Rootfs => "rootfs.ext4",
            Self::Memory => "memory.bin",
        }
    }

    /// The role of the file with exactly this name.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.file_name() == name)
    }

    /// Whether the file has pages, of which some are not stored.
    #[must_use]
    pub fn is_paged(self) -> bool {
        matches!(self, Self::Rootfs | Self::Memory)
    }
}

/// What a pack says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its layout.
    pub layout: Layout,
    /// The tag of the image that is meant: the last link's.
    pub tag: ImageTag,
    /// About it, in a few words.
    pub description: Option<String>,
    /// What it was made from.
    pub base_image: Option<String>,
    /// When the pack was made.
    pub created_at: Timestamp,
    /// Name or version of what made it.
    pub writer: String,
    /// The images, root first; one in [`Layout::V1`].
    pub links: Vec<Link>,
    /// The disk that lies beside the pack.
    pub rootfs: Option<SidecarRef>,
    /// Features that a reader need not know, as [`Layout::V3`] names them.
    pub features: Vec<String>,
}

/// One image of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its tag.
    pub tag: ImageTag,
    /// The tag of the link before it; none for the first.
    pub parent: Option<ImageTag>,
    /// Digest of the parent's memory: of the kind that the layout has for files.
    pub parent_content_hash: Option<Sha256Digest>,
    /// Its files; each role at most once.
    pub files: Vec<FileEntry>,
    /// What Tine knows of it; none in a pack that others made.
    pub facts: Option<Facts>,
}

impl Link {
    /// The file with this role.
    #[must_use]
    pub fn file(&self, role: Role) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.role == role)
    }
}

/// A file of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// What it is.
    pub role: Role,
    /// Bytes of it, holes included.
    pub size: u64,
    /// In [`Layout::V3`], for memory and disk, the digest that the crate `tine-digest` defines; else plain SHA-256. Of
    /// the whole content; in [`Layout::V2`] that of a memory which holds only what differs is taken with zeros elsewhere.
    pub digest: Sha256Digest,
    /// Whether only pages that differ from the parent's are stored. Always false in [`Layout::V2`], where the file
    /// itself tells.
    pub delta: bool,
    /// Bytes of it that are in the pack, before compression; `size` where the layout does not say.
    pub stored: u64,
}

/// A disk that lies beside the pack, as a file named after its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarRef {
    /// Where the writer had it. Information: no file is ever made or looked for there.
    pub target_path: String,
    /// Plain SHA-256 of the disk, not compressed.
    pub sha256: Sha256Digest,
    /// Bytes of the disk, not compressed.
    pub size: u64,
}

/// What Tine knows of an image beyond what the layouts of others have a place for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// 32 hex digits that stay the same when the image is renamed.
    pub id: String,
    /// One line about it.
    pub description: String,
    /// What it was made from, in words.
    pub source: String,
    /// The base version at the root of its ancestry, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseVersion>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What a host must offer to go on from it.
    pub contract: Contract,
}

impl Manifest {
    /// Understands and checks a manifest of any layout.
    ///
    /// # Errors
    /// [`PackError::TooLarge`] beyond [`MANIFEST_MAX`] bytes or [`LINKS_MAX`] links; [`PackError::Newer`] for a layout or
    /// feature that is not known; [`PackError::Malformed`] for all else.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MANIFEST_MAX {
            return Err(too_large());
        }
        let text =
            std::str::from_utf8(bytes).map_err(|_| PackError::malformed("the manifest is not UTF-8"))?;
        let closed = closing::check(text)?;
        let manifest = document::parse(text)?;
        if manifest.layout == Layout::V3 && !closed {
            return Err(PackError::malformed("the manifest is cut off: it has no closing line"));
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// The text of the manifest: the same for equal manifests, and as long whatever its digests are.
    ///
    /// # Errors
    /// [`PackError::Malformed`] or [`PackError::TooLarge`] when it could not be read back.
    pub fn to_toml(&self) -> Result<String> {
        self.check()?;
        let text = closing::close(document::print(self)?);
        if text.len() as u64 > MANIFEST_MAX { Err(too_large()) } else { Ok(text) }
    }

    /// The name that a file has in the tar.
    pub(crate) fn entry_name(&self, link: usize, role: Role) -> String {
        let name = role.file_name();
        let flat = match self.layout {
            Layout::V1 => true,
            Layout::V2 => false,
            Layout::V3 => self.links.len() == 1,
        };
        match self.links.get(link) {
            Some(link) if !flat => format!("{}/{name}", link.tag),
            _ => name.to_owned(),
        }
    }
}

fn too_large() -> PackError {
    PackError::TooLarge(format!("the manifest has more than {MANIFEST_MAX} bytes"))
}
