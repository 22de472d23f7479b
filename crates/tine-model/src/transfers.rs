//! Images between hosts: what is asked of pulling, pushing and keeping a hub, and what these tell.

use crate::{
    bytesize::ByteSize,
    digest::Sha256Digest,
    hub::{KeyName, PackageName, PackageRef, VersionName},
    images::ImageInfo,
    names::ImageTag,
    packs::{PackImage, PackReport, UnpackReport},
};
use serde::{Deserialize, Serialize};

/// What `pull` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullImage {
    /// A URL, `owner/name` or `owner/name@version`.
    pub target: String,
    /// The tag the image gets; the pack's own when none.
    pub tag: Option<ImageTag>,
    /// Whether an image that has the tag is replaced.
    pub force: bool,
    /// The hub's URL; the default one when none.
    pub hub: Option<String>,
}

/// What `pull` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullReport {
    /// The images.
    #[serde(flatten)]
    pub unpacked: UnpackReport,
    /// Where the pack came from, without secrets.
    pub source: String,
    /// The version that was pulled, of a hub's package.
    pub package: Option<PackageRef>,
    /// Bytes that were fetched.
    pub fetched_bytes: ByteSize,
    /// Bytes that were here already, of a pull that had broken off.
    pub reused_bytes: ByteSize,
}

/// What `push` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushImage {
    /// What is packed, and how.
    pub pack: PackImage,
    /// A URL, or `owner/name[@version]` at a hub that can be written to.
    pub target: String,
    /// The hub; the default one when none.
    pub hub: Option<String>,
    /// Where its recipe lies, for readers of a hub.
    #[serde(default)]
    pub recipe_path: Option<String>,
}

/// What `push` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushReport {
    /// What was packed.
    pub pack: PackReport,
    /// Where the pack is now, without secrets.
    pub place: String,
    /// The version it was published as, at a hub.
    pub package: Option<PackageRef>,
    /// Bytes that were sent.
    pub sent_bytes: ByteSize,
    /// Bytes that were there already.
    pub reused_bytes: ByteSize,
}

/// What `hub init` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitHub {
    /// The folder on the pool's host, or the URL of one in a bucket.
    pub folder: String,
    /// Where the folder is served; the registry's URLs are relative when none.
    pub base_url: Option<String>,
    /// The key that signs the registry.
    pub sign: Option<KeyName>,
    /// The password of that key.
    #[serde(default, skip_serializing)]
    pub password: Option<String>,
}

/// What `hub add` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddToHub {
    /// The hub's folder, or its URL; the default one when none.
    pub hub: Option<String>,
    /// The pack's file, on the pool's host; what belongs beside it is taken from there.
    pub file: String,
    /// The package, and its version; the next `v<number>` when none.
    pub package: PackageRef,
    /// One line about the package; the pack's own when none.
    pub description: Option<String>,
    /// Where its recipe lies, for readers.
    pub recipe_path: Option<String>,
    /// The password of the hub's key.
    #[serde(default, skip_serializing)]
    pub password: Option<String>,
}

/// A package that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPack {
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: VersionName,
    /// Whether it was there before, byte for byte.
    pub unchanged: bool,
    /// Where the pack lies: absolute, or relative to the registry.
    pub url: String,
    /// The digest of the pack's file.
    pub sha256: Option<Sha256Digest>,
    /// The length of the pack's file.
    pub size_bytes: Option<ByteSize>,
}

/// What `hub remove` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveFromHub {
    /// The hub's folder, or its URL; the default one when none.
    pub hub: Option<String>,
    /// The package, or one version of it.
    pub package: PackageRef,
    /// The password of the hub's key.
    #[serde(default, skip_serializing)]
    pub password: Option<String>,
}

/// What `hub list` is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListHub {
    /// The hub's folder, or its URL; the default one when none.
    pub hub: Option<String>,
    /// Only packages with this in their name or description.
    pub search: Option<String>,
}

/// A package of a hub, as `hub list` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubPackage {
    /// The package.
    pub package: PackageName,
    /// One line about it.
    pub description: Option<String>,
    /// The version that `latest` stands for.
    pub version: Option<VersionName>,
    /// How many versions there are.
    pub versions: usize,
    /// The length of the latest pack.
    pub size_bytes: Option<ByteSize>,
    /// Memory of its machine, in MiB.
    pub memory_mib: Option<u64>,
    /// When it was made, as its maker wrote it.
    pub created_at: Option<String>,
}

/// Something wrong with a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubFault {
    /// A version, or a file.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// What `hub verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubCheck {
    /// Packages.
    pub packages: usize,
    /// Versions.
    pub versions: usize,
    /// Files that were read and are what the registry says.
    pub files: usize,
    /// Their length together.
    pub bytes: ByteSize,
    /// Entries whose pack lies elsewhere, and was not looked at.
    pub elsewhere: usize,
    /// What is wrong.
    pub problems: Vec<HubFault>,
    /// Files that no entry refers to.
    pub unreferenced: Vec<String>,
}

/// The policy for what lies below a URL; for everything else when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRule {
    /// The URL of a hub, or what it begins with.
    pub hub: Option<String>,
    /// What is asked of signatures there.
    pub policy: crate::hub::TrustPolicy,
}

/// What was pulled, in the order in which it can be used.
impl PullReport {
    /// The image that was meant.
    #[must_use]
    pub fn image(&self) -> Option<&ImageInfo> {
        self.unpacked.images.last().map(|unpacked| &unpacked.image)
    }
}
