//! Bases: read-only versions and the aliases that move.
//!
//! A version is a directory of its own name and never changes; an alias is a file of one line. What belongs to an
//! alias is written in the version, so that it still does when the alias is gone.

mod delete;
mod publish;

pub use delete::DeletePlan;
pub use publish::BaseStage;

use crate::{
    document::{self, Document, or_note},
    error::{Result, StoreError, at},
    layout::{META, ROOT},
    pool::Pool,
    staging::open_dir,
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    str::FromStr,
};
use tine_model::{
    BaseAlias, BaseInfo, BaseRef, BaseSummary, BaseVersion, BaseVersionInfo, ByteSize, Provenance, Reporter,
    Sha256Digest, Timestamp,
};

/// `meta.json` of a base version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BaseMeta {
    format: u32,
    pub name: BaseVersion,
    pub alias: BaseAlias,
    pub created_at: Timestamp,
    pub size_bytes: ByteSize,
    pub provenance: Provenance,
}

impl Document for BaseMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

impl From<BaseMeta> for BaseVersionInfo {
    fn from(meta: BaseMeta) -> Self {
        Self {
            name: meta.name,
            created_at: meta.created_at,
            size_bytes: meta.size_bytes,
            provenance: meta.provenance,
        }
    }
}

impl Pool {
    /// Every alias and the version it names, by name. One that cannot be read is told of and left out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list_bases(&self, reporter: &dyn Reporter) -> Result<Vec<BaseSummary>> {
        let aliases: Vec<BaseAlias> = names_in(&self.layout().aliases())?;
        Ok(aliases.iter().filter_map(|a| or_note(reporter, "base", a, self.base_summary(a))).collect())
    }

    /// None for an alias that was deleted meanwhile.
    fn base_summary(&self, alias: &BaseAlias) -> Result<Option<BaseSummary>> {
        let Some(version) = self.alias_target(alias)? else { return Ok(None) };
        Ok(self.base_meta(&version)?.map(|meta| {
            let BaseMeta { name: version, created_at, size_bytes, .. } = meta;
            BaseSummary { name: alias.clone(), version, size_bytes, created_at }
        }))
    }

    /// An alias and its versions, newest first; with `tag` only those whose script has that digest.
    ///
    /// # Errors
    /// `NotFound` when there is neither an alias nor a version of that name.
    pub fn base_info(&self, alias: &BaseAlias, tag: Option<&Sha256Digest>) -> Result<BaseInfo> {
        let latest = self.alias_target(alias)?;
        let all = self.versions_of(alias)?;
        if latest.is_none() && all.is_empty() {
            return Err(base_not_found(alias.to_string()));
        }
        let versions: Vec<BaseVersionInfo> =
            all.into_iter().filter(|m| has_tag(m, tag)).map(BaseVersionInfo::from).collect();
        let latest_version = latest.filter(|l| versions.iter().any(|v| v.name == *l));
        Ok(BaseInfo { name: alias.clone(), latest_version, versions })
    }

    /// The exact version a reference stands for now.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn resolve_base(&self, base: &BaseRef) -> Result<BaseVersionInfo> {
        let found = match base {
            BaseRef::Name(name) => self.resolve_name(name)?,
            BaseRef::Pinned { alias, version } => self.base_meta(version)?.filter(|m| m.alias == *alias),
            BaseRef::Script { alias, script_sha256 } => {
                self.versions_of(alias)?.into_iter().find(|m| has_tag(m, Some(script_sha256)))
            }
        };
        found.map(BaseVersionInfo::from).ok_or_else(|| base_not_found(base.to_string()))
    }

    /// The root of a version, opened for reading.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn open_base_root(&self, version: &BaseVersion) -> Result<OwnedFd> {
        open_dir(&self.base_root_path(version))
            .map_err(|e| if e.is_missing() { base_not_found(version.to_string()) } else { e })
    }

    /// Where the root of a version lies.
    #[must_use]
    pub fn base_root_path(&self, version: &BaseVersion) -> PathBuf {
        self.layout().base(version).join(ROOT)
    }

    fn resolve_name(&self, name: &BaseVersion) -> Result<Option<BaseMeta>> {
        if let Ok(alias) = name.as_str().parse::<BaseAlias>()
            && let Some(version) = self.alias_target(&alias)?
        {
            return self.base_meta(&version);
        }
        self.base_meta(name)
    }

    pub(crate) fn base_meta(&self, version: &BaseVersion) -> Result<Option<BaseMeta>> {
        document::read_if_there(&self.layout().base(version).join(META))
    }

    /// The version an alias names.
    pub(crate) fn alias_target(&self, alias: &BaseAlias) -> Result<Option<BaseVersion>> {
        let path = self.layout().alias(alias);
        let bytes = match document::read_bytes(&path) {
            Err(e) if e.is_missing() => return Ok(None),
            bytes => bytes?,
        };
        let version = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
        version.map(Some).ok_or_else(|| StoreError::Corrupt {
            object: path.display().to_string(),
            problem: "not the name of a version".to_owned(),
        })
    }

    /// The versions of an alias, newest first.
    pub(crate) fn versions_of(&self, alias: &BaseAlias) -> Result<Vec<BaseMeta>> {
        let mut versions = Vec::new();
        for name in names_in::<BaseVersion>(&self.layout().bases())? {
            if is_version_of(&name, alias)
                && let Some(meta) = self.base_meta(&name)?.filter(|m| m.alias == *alias)
            {
                versions.push(meta);
            }
        }
        versions.sort_by(|a, b| (b.created_at, &b.name).cmp(&(a.created_at, &a.name)));
        Ok(versions)
    }
}

/// `alias` itself, or `alias` with `-v` and 14 digits.
fn is_version_of(version: &BaseVersion, alias: &BaseAlias) -> bool {
    match version.as_str().strip_prefix(alias.as_str()) {
        Some("") => true,
        Some(suffix) => suffix
            .strip_prefix("-v")
            .is_some_and(|digits| digits.len() == 14 && digits.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    }
}

fn has_tag(meta: &BaseMeta, tag: Option<&Sha256Digest>) -> bool {
    tag.is_none_or(|tag| meta.provenance.build.as_ref().is_some_and(|b| b.script_sha256 == *tag))
}

pub(crate) fn base_not_found(name: String) -> StoreError {
    StoreError::NotFound { kind: "base", name, hint: "tine base list".to_owned() }
}

/// The entries of a directory of the pool that are names of the wanted kind, in order; none when it does not exist.
pub(crate) fn names_in<T: FromStr + Ord>(dir: &Path) -> Result<Vec<T>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at("list", dir))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(at("list", dir))?.file_name();
        names.extend(name.to_str().and_then(|n| n.parse::<T>().ok()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_belongs_to_one_alias_only() {
        let alias: BaseAlias = "deb".parse().unwrap();
        for (name, belongs) in [
            ("deb", true),
            ("deb-v20260101120000", true),
            ("deb-v2026010112000", false),
            ("deb-x-v20260101120000", false),
            ("debian", false),
            ("other", false),
        ] {
            assert_eq!(is_version_of(&name.parse().unwrap(), &alias), belongs, "{name}");
        }
    }
}
