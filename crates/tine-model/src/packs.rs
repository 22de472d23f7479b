//! Packs: what is asked of making and reading one, and what an image remembers of the pack it came in.

use crate::{
    bytesize::ByteSize,
    digest::Sha256Digest,
    error::{Error, ErrorCode, Result},
    hub::KeyName,
    images::ImageInfo,
    names::ImageTag,
};
use serde::{Deserialize, Serialize};
use std::{fmt, fs::File, str::FromStr};

/// How the files of an image lie in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackLayout {
    /// One image, by a tar in one zstd frame.
    V1,
    /// An image with all its ancestors, likewise.
    V2,
    /// Tine's own: frames that can be fetched alone, no zero pages, a contract, a signature.
    V3,
}

impl PackLayout {
    /// Its number in a manifest.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// The ending of a pack's file name.
    #[must_use]
    pub fn file_ending(self) -> &'static str {
        match self {
            Self::V1 | Self::V2 => ".forkd-snapshot.tar.zst",
            Self::V3 => ".tine.tar.zst",
        }
    }
}

impl fmt::Display for PackLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        })
    }
}

impl FromStr for PackLayout {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            "v3" => Ok(Self::V3),
            _ => Err(Error::new(ErrorCode::Usage, format!("{text:?} is no layout of a pack; v1, v2 or v3"))),
        }
    }
}

/// What an image remembers of the pack it came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackOrigin {
    /// The pack's layout.
    pub layout: PackLayout,
    /// The program that wrote it, with its version.
    pub writer: String,
    /// The container image it was made from, as the pack names it.
    pub base_image: Option<String>,
    /// The disk's image, where it came beside the pack.
    pub rootfs: Option<RootfsOrigin>,
    /// The writer's `snapshot.json`, byte for byte.
    pub snapshot_json: Option<String>,
    /// The key that signed it, by its name here.
    pub signed_by: Option<String>,
    /// SHA-256 of all bytes of the memory, as the older layouts declare it; not worked out again when it is packed for them.
    pub memory_sha256: Option<Sha256Digest>,
    /// SHA-256 of all bytes of a disk that came within the pack, likewise.
    pub disk_sha256: Option<Sha256Digest>,
}

/// A disk that came beside a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsOrigin {
    /// Where the writer kept it. Means nothing here.
    pub path: String,
    /// SHA-256 of all its bytes.
    pub sha256: Sha256Digest,
}

/// What `pack` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackImage {
    /// The image.
    pub tag: ImageTag,
    /// One line about it; the image's own when none.
    pub description: Option<String>,
    /// The container image it was made from, for whoever reads the pack.
    pub base_image: Option<String>,
    /// The layout; that of the pack the image came in, or v3, when none.
    pub layout: Option<PackLayout>,
    /// The key that signs it.
    pub sign: Option<KeyName>,
    /// The password of that key, where it has one.
    #[serde(default, skip_serializing)]
    pub password: Option<String>,
}

/// Where the files of a pack are written to: the pack, and what belongs beside it.
pub trait NewFiles: Sync {
    /// Begins a file of this name. It is shown only when everything has succeeded.
    ///
    /// # Errors
    /// Whatever keeps the file from being made.
    fn create(&self, name: &str) -> Result<File>;
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: ByteSize,
}

/// What `pack` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackReport {
    /// The layout.
    pub layout: PackLayout,
    /// The images in it, the oldest ancestor first.
    pub images: Vec<ImageTag>,
    /// The pack, and what belongs beside it.
    pub files: Vec<PackedFile>,
    /// Bytes of all files of the images, holes counted.
    pub content_bytes: ByteSize,
    /// Bytes of them that are in the pack before it is compressed.
    pub stored_bytes: ByteSize,
    /// The key that signed it.
    pub signed_by: Option<String>,
}

/// What `unpack` is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackImage {
    /// The tag the image gets; the pack's own when none.
    pub tag: Option<ImageTag>,
    /// Whether an image that has the tag is replaced.
    pub force: bool,
}

/// Where a pack is read from. What cannot be read at any place, as a pipe, says so when it is asked to.
pub trait PackInput: std::io::Read + std::io::Seek + Send {}

impl<T: std::io::Read + std::io::Seek + Send> PackInput for T {}

/// Finds a file beside a pack, by its name. None when there is none.
pub type Siblings<'s> = dyn Fn(&str) -> Result<Option<Box<dyn std::io::Read + Send>>> + Sync + 's;

/// An image that was in a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackedImage {
    /// The image, as it is in the pool now.
    pub image: ImageInfo,
    /// Whether it was there before, with the same content.
    pub reused: bool,
}

/// What `unpack` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackReport {
    /// The pack's layout.
    pub layout: PackLayout,
    /// The images in it, the oldest ancestor first.
    pub images: Vec<UnpackedImage>,
    /// The key that signed it.
    pub signed_by: Option<String>,
}
