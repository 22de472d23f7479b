//! Bases: what the base verbs are asked and answer.

use crate::{
    bytesize::ByteSize,
    digest::Sha256Digest,
    names::{BaseAlias, BaseRef, BaseVersion, BoxRef},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a base version came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvenanceKind {
    /// From a tar.
    Import,
    /// From a Dockerfile.
    Build,
    /// From a maintained definition in `recipes/`.
    Recipe,
    /// From a box.
    Save,
}

impl fmt::Display for ProvenanceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Import => "import",
            Self::Build => "build",
            Self::Recipe => "recipe",
            Self::Save => "save",
        })
    }
}

/// Where a base version comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// How it came to be.
    pub kind: ProvenanceKind,
    /// What built it, when something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildProvenance>,
}

/// What built a base version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildProvenance {
    /// `docker`, `podman`, `nerdctl`, `mmdebstrap`, or `box` for a script run in a box.
    pub builder: String,
    /// The alias it was built over.
    pub parent_alias: Option<BaseAlias>,
    /// The exact version it was built over.
    pub parent_version: Option<BaseVersion>,
    /// The Dockerfile or script.
    pub script: String,
    /// SHA-256 of the script.
    pub script_sha256: Sha256Digest,
}

/// One version of a base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseVersionInfo {
    /// The exact name.
    pub name: BaseVersion,
    /// When it was made.
    pub created_at: Timestamp,
    /// Logical size of its tree.
    pub size_bytes: ByteSize,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// An alias with its versions, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseInfo {
    /// The alias.
    pub name: BaseAlias,
    /// The version it names; none when a filter left it out.
    pub latest_version: Option<BaseVersion>,
    /// Its versions, newest first.
    pub versions: Vec<BaseVersionInfo>,
}

/// A row of `base list`: an alias and the version it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseSummary {
    /// The alias.
    pub name: BaseAlias,
    /// The version it names.
    pub version: BaseVersion,
    /// Logical size of that version's tree.
    pub size_bytes: ByteSize,
    /// When that version was made.
    pub created_at: Timestamp,
}

/// What `base import` is asked; the tar itself comes as a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportBase {
    /// The alias to write.
    pub name: BaseAlias,
    /// Extract over a clone of this base.
    pub parent: Option<BaseRef>,
}

/// What `base save` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveBase {
    /// The alias to write.
    pub name: BaseAlias,
    /// The box whose root becomes the base.
    #[serde(rename = "box")]
    pub source: BoxRef,
}

/// A container engine that can build images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildEngine {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// nerdctl.
    Nerdctl,
}

impl BuildEngine {
    /// In the order they are looked for.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Podman, Self::Nerdctl];

    /// The program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nerdctl => "nerdctl",
        }
    }
}

impl std::str::FromStr for BuildEngine {
    type Err = crate::Error;
    fn from_str(text: &str) -> crate::Result<Self> {
        Self::ALL.into_iter().find(|e| e.program() == text).ok_or_else(|| {
            crate::Error::new(
                crate::ErrorCode::Usage,
                format!("engine {text:?} is not one of docker, podman, nerdctl"),
            )
        })
    }
}

/// What `base build` is asked. The paths are on the machine the service runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildBase {
    /// The alias to write.
    pub name: BaseAlias,
    /// The build context.
    pub context_dir: String,
    /// The Dockerfile; `Dockerfile` in the context when none.
    pub dockerfile: Option<String>,
    /// The engine; the first that answers when none.
    pub engine: Option<BuildEngine>,
}

/// What `base install` and `base update` are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallBase {
    /// The maintained definition, which is also the alias to write.
    pub name: BaseAlias,
    /// Rebuild even when a version with the same script exists.
    pub rebuild: bool,
}

/// What a verb that writes a base did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenBase {
    /// The alias.
    pub alias: BaseAlias,
    /// The version the alias names now.
    pub version: BaseVersionInfo,
    /// False when `install` found a version with the same script.
    pub created: bool,
}

/// What `base delete` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeleteBase {
    /// The alias; its versions stay.
    Alias {
        /// The alias.
        name: BaseAlias,
    },
    /// One version.
    Version {
        /// The version.
        name: BaseVersion,
        /// Also when an alias names it; that alias then names the next older version, or goes when there is none.
        force: bool,
    },
}

/// What `base delete` did or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteBaseReport {
    /// True when nothing was removed because a plan was asked for.
    pub dry_run: bool,
    /// What goes, as `alias NAME` or `version NAME`.
    pub removed: Vec<String>,
    /// The alias that was moved, and to which version.
    pub moved: Option<(BaseAlias, BaseVersion)>,
}
