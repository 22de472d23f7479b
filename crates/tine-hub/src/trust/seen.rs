//! What was seen of each hub, so that it can't go back on it: one file for a hub, named by the digest of its URL.
//!
//! Written only after something was taken, never after a refusal. Forgetting the oldest of very many versions is
//! harmless: each entry is of a version that was pulled here, which no hub can make happen.

use super::document::FORMAT;
use crate::{
    durable,
    error::{HubError, Result},
    location::HubUrl,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{path::PathBuf, time::Duration};
use tine_model::{KeyId, PackageName, PackageRef, Sha256Digest, TrustPolicy};

/// Pulled versions, and packages, remembered for one hub.
const MOST: usize = 10_000;
/// Longer than a file with [`MOST`] of each.
const MAX_BYTES: u64 = 16 << 20;
const WAIT: Duration = Duration::from_secs(10);
/// The first layout that carries a signature and a contract.
const OWN_LAYOUT: u32 = 3;

/// What was seen, in one directory.
#[derive(Debug, Clone)]
pub struct SeenStore {
    dir: PathBuf,
}

/// What a pack turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackTraits {
    /// The version of its layout: 1, 2 or 3.
    pub layout: u32,
    /// Whether a trusted key's signature of its manifest was verified.
    pub signed: bool,
}

/// The last signed registry of a hub that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SeenRegistry {
    /// None for one that is signed and has no serial.
    pub(super) serial: Option<u64>,
    pub(super) sha256: Sha256Digest,
    pub(super) key_id: KeyId,
}

#[derive(Debug, Serialize, Deserialize)]
struct SeenHub {
    format: u32,
    hub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registry: Option<SeenRegistry>,
    /// Oldest first.
    #[serde(default)]
    versions: Vec<SeenVersion>,
    /// Oldest first.
    #[serde(default)]
    packages: Vec<SeenPackage>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SeenVersion {
    version: PackageRef,
    sha256: Sha256Digest,
}

#[derive(Debug, Serialize, Deserialize)]
struct SeenPackage {
    package: PackageName,
    #[serde(flatten)]
    traits: PackTraits,
}

impl SeenStore {
    /// What was seen, kept in `dir`, which is made when there is something to keep.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Refuses a published version that has another digest than when it was first pulled: call it with what the
    /// registry says before the pack is fetched, and with what it was afterwards. `latest` may change.
    ///
    /// # Errors
    /// `untrusted`.
    pub fn check_version(
        &self,
        policy: TrustPolicy,
        hub: &HubUrl,
        version: &PackageRef,
        sha256: Sha256Digest,
    ) -> Result<()> {
        if policy == TrustPolicy::Off {
            return Ok(());
        }
        let seen = self.read(hub)?;
        match seen.versions.iter().find(|v| v.version == *version) {
            Some(first) if first.sha256 != sha256 => Err(HubError::untrusted(format!(
                "swapped package: {version} at {hub} had SHA-256 {} when it was first pulled and has {sha256} now, \
                 and a published version never changes",
                first.sha256
            ))),
            _ => Ok(()),
        }
    }

    /// Compares a pack with those of the same package that were pulled before; the answer is what to warn of.
    ///
    /// # Errors
    /// `untrusted` under `require`, for a layout below Tine's own where that was seen, and for no signature where
    /// one was seen.
    pub fn check_pack(
        &self,
        policy: TrustPolicy,
        hub: &HubUrl,
        package: &PackageName,
        found: PackTraits,
    ) -> Result<Vec<String>> {
        if policy == TrustPolicy::Off {
            return Ok(Vec::new());
        }
        let seen = self.read(hub)?;
        let Some(before) = seen.packages.iter().find(|p| p.package == *package) else {
            return Ok(Vec::new());
        };
        let complaints = before.traits.complaints(package, found);
        if policy == TrustPolicy::Require && !complaints.is_empty() {
            return Err(HubError::untrusted(complaints.join("; ")));
        }
        Ok(complaints)
    }

    /// Keeps what a pack was that has been pulled and taken. A version that is named `latest` or not at all leaves
    /// no digest behind.
    ///
    /// # Errors
    /// `busy`, or the kernel's.
    pub fn record_pack(
        &self,
        hub: &HubUrl,
        version: &PackageRef,
        sha256: Sha256Digest,
        found: PackTraits,
    ) -> Result<()> {
        self.change(hub, |seen| {
            seen.record_package(&version.package, found);
            let moves = version.version.as_ref().is_none_or(tine_model::VersionName::is_latest);
            if !moves && !seen.versions.iter().any(|v| v.version == *version) {
                push_bounded(&mut seen.versions, SeenVersion { version: version.clone(), sha256 });
            }
        })
    }

    /// The last signed registry that was taken.
    pub(super) fn registry(&self, hub: &HubUrl) -> Result<Option<SeenRegistry>> {
        Ok(self.read(hub)?.registry)
    }

    /// Keeps a signed registry that was taken, unless another process has taken a newer one meanwhile.
    pub(super) fn record_registry(&self, hub: &HubUrl, taken: SeenRegistry) -> Result<()> {
        self.change(hub, |seen| {
            let newer = seen.registry.as_ref().is_some_and(|there| there.serial > taken.serial);
            if !newer {
                seen.registry = Some(taken);
            }
        })
    }

    fn change(&self, hub: &HubUrl, change: impl FnOnce(&mut SeenHub)) -> Result<()> {
        durable::make_dir(&self.dir, 0o700)?;
        let _lock = durable::lock(&self.dir, WAIT)?;
        let mut seen = self.read(hub)?;
        change(&mut seen);
        durable::write_json(&self.dir, &file_name(hub), 0o600, &seen)
    }

    fn read(&self, hub: &HubUrl) -> Result<SeenHub> {
        let path = self.dir.join(file_name(hub));
        let Some(seen) = durable::read_json::<SeenHub>(&path, MAX_BYTES)? else {
            let hub = hub.to_string();
            return Ok(SeenHub { format: FORMAT, hub, registry: None, versions: vec![], packages: vec![] });
        };
        if seen.format != FORMAT {
            return Err(HubError::Incompatible(format!("{} has format {}", path.display(), seen.format)));
        }
        Ok(seen)
    }
}

impl SeenHub {
    fn record_package(&mut self, package: &PackageName, found: PackTraits) {
        match self.packages.iter_mut().find(|p| p.package == *package) {
            Some(there) => there.traits = there.traits.best(found),
            None => push_bounded(&mut self.packages, SeenPackage { package: package.clone(), traits: found }),
        }
    }
}

impl PackTraits {
    fn best(self, other: Self) -> Self {
        Self { layout: self.layout.max(other.layout), signed: self.signed || other.signed }
    }

    fn complaints(self, package: &PackageName, found: Self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.signed && !found.signed {
            complaints.push(format!(
                "stripped signature: a pack of {package} was signed by a trusted key before, and this one is not"
            ));
        }
        if self.layout >= OWN_LAYOUT && found.layout < OWN_LAYOUT {
            complaints.push(format!(
                "downgraded layout: a pack of {package} had layout v{} before, and this one has v{}",
                self.layout, found.layout
            ));
        }
        complaints
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    let over = (list.len() + 1).saturating_sub(MOST);
    list.drain(..over);
    list.push(item);
}

fn file_name(hub: &HubUrl) -> String {
    let digest: [u8; 32] = Sha256::digest(hub.registry().as_bytes()).into();
    format!("{}.json", Sha256Digest(digest))
}

#[cfg(test)]
mod tests;
