//! Images and forks: warmed machines, what is recorded of them, and what makes running boxes of them.

use crate::{
    boxes::{Accel, BoxSource, NetworkMode},
    bytesize::ByteSize,
    digest::Sha256Digest,
    error::{Error, ErrorCode, Result},
    exec::EnvVar,
    names::{BaseVersion, BoxName, BoxRef, ImageTag, KernelName, ProjectName, Tag},
    packs::PackOrigin,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a host must offer for a machine to go on from a saved state. Two machines with equal contracts can load each
/// other's states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// The machine monitor: `qemu`.
    pub engine: String,
    /// Its version, `7.2.22`.
    pub engine_version: String,
    /// What runs the guest's instructions.
    pub accel: Accel,
    /// The versioned machine type, `pc-q35-7.2`.
    pub machine: String,
    /// The processor model as the engine names it.
    pub cpu_model: String,
    /// Features added to or taken from the model, as `+name` or `-name`; for a model that stands for the host's own
    /// processor, that processor's features.
    pub cpu_features: Vec<String>,
    /// Virtual processors.
    pub cpus: u32,
    /// Bytes of guest memory.
    pub memory_bytes: ByteSize,
    /// The guest kernel.
    pub kernel: KernelName,
    /// The digest of its file.
    pub kernel_digest: Sha256Digest,
    /// The devices, in the order of their making, each with the properties that the guest can see.
    pub devices: Vec<String>,
}

/// An image, as `image show` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Its tag.
    pub tag: ImageTag,
    /// 32 hex digits that stay the same when it is renamed.
    pub id: String,
    /// Bytes of data it holds: memory, device state and disk, without holes.
    pub size_bytes: ByteSize,
    /// When it was made.
    pub created_at: Timestamp,
    /// One line about it.
    pub description: String,
    /// Whether it has a disk.
    pub has_rootfs: bool,
    /// What it was made from, in words.
    pub source: String,
    /// The base version at the root of its ancestry, if that is known.
    pub base: Option<BaseVersion>,
    /// The image that the machine it was taken of had come from.
    pub parent: Option<ImageTag>,
    /// Bytes of the machine's memory.
    pub memory_bytes: ByteSize,
    /// What a host must offer to fork it; none where the pack it came in does not tell.
    pub contract: Option<Contract>,
    /// The pack it came in.
    pub pack: Option<PackOrigin>,
    /// Digest of the memory's content, as the crate `tine-digest` defines it: SHA-256 over the sums of its
    /// chunks, what is all zero left out.
    pub memory_digest: Sha256Digest,
    /// SHA-256 of the device state.
    pub vmstate_digest: Sha256Digest,
    /// Digest of the disk's content, as for the memory.
    pub disk_digest: Option<Sha256Digest>,
}

/// What `image bake` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BakeImage {
    /// The new image.
    pub tag: ImageTag,
    /// A base, or a box; a running vm box is captured as it runs.
    pub source: BoxSource,
    /// Bytes of guest memory; 512 MiB when none. Fixed where the source is a running box.
    pub memory_bytes: Option<ByteSize>,
    /// Virtual processors; 1 when none. Fixed where the source is a running box.
    pub cpus: Option<u32>,
    /// Size of the disk, where it has to be made; 10 GiB when none.
    pub disk_bytes: Option<ByteSize>,
    /// The network of the machine while it warms up.
    pub network: NetworkMode,
    /// Forces what runs the guest's instructions.
    pub accel: Option<Accel>,
    /// Set for each command.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Shell commands that warm it up, in order; each must succeed. What they leave running stays.
    #[serde(default)]
    pub run: Vec<String>,
    /// A shell command that is repeated until it succeeds.
    pub ready: Option<String>,
    /// Seconds that each command, and all tries of `ready` together, may take; 600 when none.
    pub timeout_seconds: Option<u32>,
    /// One line about it.
    #[serde(default)]
    pub description: String,
}

/// What is multiplied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkSource {
    /// An image.
    Image(ImageTag),
    /// A running vm box, as it is at this moment.
    Box(BoxRef),
}

impl fmt::Display for ForkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(tag) => write!(f, "image {tag}"),
            Self::Box(name) => write!(f, "box {name}"),
        }
    }
}

/// How the children of one fork are named: `PREFIX-1`, `PREFIX-2`, …, numbers that are taken left out. The grammar of
/// boxes, at most 56 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ForkPrefix(String);

impl ForkPrefix {
    const MAX: usize = 56;

    /// The prefix for children of an image: its tag in lower case, every run of other characters a hyphen.
    #[must_use]
    pub fn of_image(tag: &ImageTag) -> Self {
        let mut text = String::new();
        for c in tag.as_str().chars().map(|c| c.to_ascii_lowercase()) {
            if c.is_ascii_alphanumeric() {
                text.push(c);
            } else if !text.is_empty() && !text.ends_with('-') {
                text.push('-');
            }
        }
        text.truncate(Self::MAX);
        let text = text.trim_matches('-');
        Self(if text.is_empty() { "fork".to_owned() } else { text.to_owned() })
    }

    /// The prefix for children of a box: its name, as far as it fits.
    #[must_use]
    pub fn of_box(name: &BoxName) -> Self {
        let end = name.as_str().len().min(Self::MAX);
        Self(name.as_str()[..end].trim_end_matches('-').to_owned())
    }

    /// The name of a child.
    ///
    /// # Errors
    /// `InvalidName` for a number of more than six digits.
    pub fn child(&self, number: u32) -> Result<BoxName> {
        format!("{}-{number}", self.0).parse()
    }
}

impl FromStr for ForkPrefix {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let name: BoxName = text.parse()?;
        if text.len() > Self::MAX {
            let message = format!("prefix {text:?} is longer than {} characters", Self::MAX);
            return Err(Error::new(ErrorCode::InvalidName, message));
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for ForkPrefix {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ForkPrefix> for String {
    fn from(prefix: ForkPrefix) -> Self {
        prefix.0
    }
}

impl fmt::Display for ForkPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The most children of one `fork`.
pub const MAX_FORK: u32 = 10_000;

/// What `fork` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkRequest {
    /// What is multiplied.
    pub source: ForkSource,
    /// How many children, 1 to [`MAX_FORK`].
    pub count: u32,
    /// The project they are made in.
    pub project: ProjectName,
    /// How they are named; by the source when none.
    pub prefix: Option<ForkPrefix>,
    /// Their network.
    pub network: NetworkMode,
    /// Set for every program started in them.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// The user's marks.
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// Whether each is deleted when it stops.
    #[serde(default)]
    pub remove_on_stop: bool,
    /// Boots the image's disk instead of going on from its memory.
    #[serde(default)]
    pub cold: bool,
}

/// When a child got where, in microseconds since its making began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkClocks {
    /// Its machine's process was started.
    pub process_started_us: u64,
    /// The device state was loaded.
    pub state_loaded_us: u64,
    /// Its processors went on.
    pub resumed_us: u64,
    /// Its agent had acknowledged the new identity, and its programs went on.
    pub agent_acknowledged_us: u64,
    /// The box was published: the child was ready.
    pub ready_us: u64,
}

/// A child that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedBox {
    /// The box.
    #[serde(rename = "box")]
    pub name: BoxRef,
    /// Its times.
    pub clocks: ForkClocks,
    /// Microseconds from the beginning of the whole fork until it was ready.
    pub since_start_us: u64,
}

/// A child that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkFailure {
    /// The box that is not there.
    #[serde(rename = "box")]
    pub name: BoxRef,
    /// Why.
    pub error: crate::error::ErrorFields,
}

/// What `fork` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkReport {
    /// Children that run, in the order they became ready.
    pub ready: Vec<ForkedBox>,
    /// Children that could not be made; nothing of them is left.
    pub failed: Vec<ForkFailure>,
    /// Children that were not begun, because the user asked to stop.
    pub cancelled: u32,
    /// Microseconds from the beginning to the end.
    pub wall_us: u64,
    /// Microseconds for which the source stood still; none for an image.
    pub pause_us: Option<u64>,
    /// Guest memory that a child holds for itself alone, the mean over the children.
    pub private_bytes: Option<ByteSize>,
    /// Memory of a child's whole process, shared pages counted in proportion, the mean over the children.
    pub proportional_bytes: Option<ByteSize>,
}

/// A guest kernel in the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelInfo {
    /// Its name: the release as `uname -r` tells it.
    pub name: KernelName,
    /// SHA-256 of the kernel's file.
    pub digest: Sha256Digest,
    /// Bytes of the kernel and its modules.
    pub size_bytes: ByteSize,
    /// When it was put into the pool.
    pub created_at: Timestamp,
    /// Where it came from, in words.
    pub source: String,
    /// Whether new machines boot it: the one put there last.
    pub default: bool,
}

/// What `kernel import` is asked. The paths are on the pool's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportKernel {
    /// The kernel: a bzImage.
    pub vmlinuz: String,
    /// Its modules: a directory with `kernel/` and `modules.dep` in it, as `/lib/modules/6.1.0-1-amd64`.
    pub modules: String,
    /// Its name; by the directory's when none.
    pub name: Option<KernelName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_follow_the_grammar_of_boxes() {
        let prefix = |tag: &str| ForkPrefix::of_image(&tag.parse().unwrap()).to_string();
        assert_eq!(prefix("python-numpy"), "python-numpy");
        assert_eq!(prefix("Web_1.0"), "web-1-0");
        assert_eq!(prefix("__"), "fork");
        for tag in ["_._a._", &"x-".repeat(30), &"Z".repeat(64)] {
            let prefix = ForkPrefix::of_image(&tag.parse().unwrap());
            assert!(prefix.child(999_999).is_ok(), "{tag}");
            assert!(prefix.to_string().parse::<ForkPrefix>().is_ok(), "{tag}");
        }
        let long: BoxName = "a".repeat(63).parse().unwrap();
        assert!(ForkPrefix::of_box(&long).child(100_000).is_ok());
        for bad in ["", "-a", "A", &"a".repeat(57)] {
            assert!(bad.parse::<ForkPrefix>().is_err(), "{bad}");
        }
    }
}
