//! Looking a hub over: every pack it names is there, and is what it says.

use super::{
    Content, Hub, HubConfig, HubStorage, REGISTRY, SIGNATURE, StoredFile,
    names::{self, PACKS},
};
use crate::{
    error::Result,
    registry::{Registry, VersionEntry},
    trust::{KeyStore, MAX_SIGNATURES},
};
use std::collections::BTreeMap;
use tine_model::{KeyRef, PackageRef, Sha256Digest, Timestamp};

/// What a look at a whole hub has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HubReport {
    /// Packages.
    pub packages: usize,
    /// Versions, without `latest`.
    pub versions: usize,
    /// Files here that were read, and are what the registry says.
    pub files: usize,
    /// Their length together.
    pub bytes: u64,
    /// Entries whose pack lies elsewhere, and was not looked at.
    pub elsewhere: usize,
    /// What is wrong.
    pub problems: Vec<HubProblem>,
    /// Files below `packs/` that no entry refers to.
    pub unreferenced: Vec<StoredFile>,
}

/// Something wrong with a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubProblem {
    /// A version, or a file.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// What an entry says of a file.
struct Expected {
    name: String,
    size_bytes: Option<u64>,
    sha256: Option<Sha256Digest>,
}

impl<S: HubStorage> Hub<S> {
    /// Reads every file that the registry refers to, and the registry's signature if the hub has a signing key.
    ///
    /// # Errors
    /// When the registry or a file can't be read; what is wrong with them is in the report.
    pub fn verify(&self, keys: Option<&KeyStore>, now: Timestamp) -> Result<HubReport> {
        let (config, registry) = (self.config()?, self.registry()?);
        let mut report = HubReport { packages: registry.packages().count(), ..HubReport::default() };
        self.verify_signature(&config, &registry, keys, now, &mut report)?;
        self.verify_files(&config, &registry, &mut report)?;
        let referenced = names::referenced(&registry, &config);
        // a name that is no hub's is of no interest here, and may hold what a terminal would obey
        let all = self.storage.list(PACKS)?.into_iter().filter(|file| names::is_file(&file.name));
        report.unreferenced = all.filter(|file| !referenced.contains(&file.name)).collect();
        Ok(report)
    }

    fn verify_files(&self, config: &HubConfig, registry: &Registry, report: &mut HubReport) -> Result<()> {
        // latest names a file that another version names too
        let mut looked_at = BTreeMap::new();
        for (package, found) in registry.packages() {
            for (version, entry) in found.versions() {
                let what = PackageRef { package: package.clone(), version: Some(version.clone()) };
                report.versions += usize::from(!version.is_latest());
                let Some(pack) = names::of_url(&entry.url, config) else {
                    report.elsewhere += 1;
                    continue;
                };
                for file in expected(pack, entry) {
                    self.verify_file(&what, &file, &mut looked_at, report)?;
                }
            }
        }
        Ok(())
    }

    fn verify_file(
        &self,
        what: &PackageRef,
        file: &Expected,
        looked_at: &mut BTreeMap<String, Option<Content>>,
        report: &mut HubReport,
    ) -> Result<()> {
        let first = !looked_at.contains_key(&file.name);
        if first {
            looked_at.insert(file.name.clone(), self.storage.content(&file.name)?);
        }
        let content = looked_at.get(&file.name).copied().flatten();
        match file.objection(content) {
            Some(why) => report.problem(what, why),
            None if first => {
                report.files += 1;
                report.bytes += content.map_or(0, |content| content.size_bytes);
            }
            None => {}
        }
        Ok(())
    }

    fn verify_signature(
        &self,
        config: &HubConfig,
        registry: &Registry,
        keys: Option<&KeyStore>,
        now: Timestamp,
        report: &mut HubReport,
    ) -> Result<()> {
        let Some(key) = &config.signing_key else { return Ok(()) };
        match registry.freshness() {
            None => report.problem(
                &REGISTRY,
                format!("it is not signed; the hub's key is {}", KeyRef::Name(key.clone())),
            ),
            Some(freshness) if freshness.expires_at < now => {
                report.problem(&REGISTRY, format!("it expired at {}", freshness.expires_at));
            }
            Some(_) => {}
        }
        let Some(text) = self.storage.read(SIGNATURE, MAX_SIGNATURES as u64)? else {
            report.problem(&SIGNATURE, "it is not there".to_owned());
            return Ok(());
        };
        if let (Some(keys), Some(there)) = (keys, self.storage.read(REGISTRY, Registry::MAX_BYTES)?)
            && let Err(error) = keys.verify(&there.bytes, &String::from_utf8_lossy(&text.bytes))
        {
            report.problem(&SIGNATURE, error.to_string());
        }
        Ok(())
    }
}

impl HubReport {
    /// True when nothing is wrong. Files that nothing refers to are no harm.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, what: &dyn std::fmt::Display, why: String) {
        self.problems.push(HubProblem { what: what.to_string(), why });
    }
}

impl Expected {
    fn objection(&self, content: Option<Content>) -> Option<String> {
        let Some(content) = content else { return Some(format!("{} is not there", self.name)) };
        if let Some(size) = self.size_bytes.filter(|size| *size != content.size_bytes) {
            return Some(format!("{} is {} bytes long, not {size}", self.name, content.size_bytes));
        }
        let sha256 = self.sha256.filter(|sha256| *sha256 != content.sha256)?;
        Some(format!("{} has SHA-256 {}, not {sha256}", self.name, content.sha256))
    }
}

/// The files of one entry.
fn expected(pack: String, entry: &VersionEntry) -> Vec<Expected> {
    let folder = pack.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let sidecars =
        entry.sidecars().iter().filter(|sidecar| names::is_part(&sidecar.name)).map(|sidecar| Expected {
            name: format!("{folder}{}", sidecar.name),
            size_bytes: Some(sidecar.size_bytes),
            sha256: Some(sidecar.sha256),
        });
    let mut files: Vec<_> = sidecars.collect();
    files.push(Expected { name: pack, size_bytes: entry.size_bytes, sha256: entry.sha256 });
    files
}
