//! One version of a package in a registry.

use super::Rest;
use crate::location;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tine_model::{Sha256Digest, Timestamp, VersionName};

/// One version: where its pack lies, and what is said of it. Only `url` is always there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VersionEntry {
    /// Where the pack lies; may be relative to the registry's own folder.
    pub url: String,
    /// The digest of the pack's file.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "any_case")]
    pub sha256: Option<Sha256Digest>,
    /// The length of the pack's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// MiB of guest memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// What the image was made from, in its maker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// Where its recipe lies, in its maker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe_path: Option<String>,
    /// When it was made, as its maker wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// The release it belongs to, in its maker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_tag: Option<String>,
    /// What Tine's own hubs add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tine: Option<PackExtras>,
    /// Whatever else stands in it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The key `tine` of a version.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PackExtras {
    /// Files that lie beside the pack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<SidecarEntry>,
    /// Plain SHA-256 of the pack's manifest, by which parts of the pack can be told to be right without all of it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "any_case")]
    pub manifest_sha256: Option<Sha256Digest>,
    /// Whatever else stands in it.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A file beside a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarEntry {
    /// Its name, in the folder of the pack.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
}

impl VersionEntry {
    /// When it was made; none when that is not said, or not as RFC 3339.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        serde_json::from_value(Value::String(self.created_at.clone()?)).ok()
    }

    /// The files beside the pack, as far as the registry knows them.
    #[must_use]
    pub fn sidecars(&self) -> &[SidecarEntry] {
        self.tine.as_ref().map_or(&[], |tine| &tine.sidecars)
    }

    /// The digest of the pack's manifest, where the registry names it.
    #[must_use]
    pub fn manifest_sha256(&self) -> Option<Sha256Digest> {
        self.tine.as_ref()?.manifest_sha256
    }

    /// The key `tine` of a version with these files beside its pack, and this manifest in it.
    pub(crate) fn set_extras(&mut self, sidecars: Vec<SidecarEntry>, manifest_sha256: Option<Sha256Digest>) {
        let extras = PackExtras { sidecars, manifest_sha256, rest: Rest::new() };
        self.tine = (extras != PackExtras::default()).then_some(extras);
    }

    /// True when both stand for one pack: by digest where both have one, else by location.
    pub(crate) fn same_pack(&self, other: &Self) -> bool {
        match (self.sha256, other.sha256) {
            (Some(own), Some(theirs)) => own == theirs,
            _ => self.url == other.url,
        }
    }
}

/// Reads one version of the object `versions`.
pub(super) fn read((name, value): (String, Value)) -> Result<(VersionName, VersionEntry), String> {
    let name: VersionName = name.parse().map_err(|e: tine_model::Error| e.message)?;
    let entry: VersionEntry = serde_json::from_value(value).map_err(|e| format!("version {name}: {e}"))?;
    location::check_entry(&entry.url).map_err(|why| format!("the url of version {name}: {why}"))?;
    Ok((name, entry))
}

fn any_case<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<Option<Sha256Digest>, D::Error> {
    let text = Option::<String>::deserialize(reader)?;
    let read = |t: String| t.to_ascii_lowercase().parse().map_err(serde::de::Error::custom);
    text.map(read).transpose()
}
