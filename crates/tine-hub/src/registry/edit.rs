//! Changing a registry: a published version never changes, and `latest` is always there.

use super::{Package, Registry, VersionEntry};
use crate::error::{HubError, Result};
use tine_model::{PackageName, PackageRef, Sha256Digest, VersionName};

/// What adding a version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there now, and `latest` is a copy of it.
    New,
    /// It was there with the same digest; nothing has changed.
    Unchanged,
}

impl Registry {
    /// Publishes a version; `latest` becomes a copy of it.
    ///
    /// # Errors
    /// `already_exists` when the version is there with another digest, or without one; `usage` for the version
    /// `latest`, which moves by itself; `invalid_input` for a `url` that no reader would take.
    pub fn add(
        &mut self,
        package: &PackageName,
        version: &VersionName,
        entry: VersionEntry,
    ) -> Result<Added> {
        crate::location::check_entry(&entry.url)
            .map_err(|why| HubError::invalid(format!("the url of {package}@{version}: {why}")))?;
        if self.admit(package, version, entry.sha256)? == Added::Unchanged {
            return Ok(Added::Unchanged);
        }
        let versions = &mut self.packages.entry(package.clone()).or_default().versions;
        versions.insert(VersionName::latest(), entry.clone());
        versions.insert(version.clone(), entry);
        Ok(Added::New)
    }

    /// What [`Self::add`] would do with a pack of this digest.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn admit(
        &self,
        package: &PackageName,
        version: &VersionName,
        sha256: Option<Sha256Digest>,
    ) -> Result<Added> {
        if version.is_latest() {
            return Err(HubError::Usage(format!(
                "the version latest of {package} moves by itself: name the one to publish, as {package}@{}",
                self.next_version(package)
            )));
        }
        match self.entry(package, version) {
            None => Ok(Added::New),
            Some(there) if there.sha256.is_some() && there.sha256 == sha256 => Ok(Added::Unchanged),
            Some(there) => Err(published(package, version, there)),
        }
    }

    /// Sets what is said of a package; without an effect when there is no such package.
    pub fn describe(&mut self, package: &PackageName, description: &str) {
        if let Some(package) = self.packages.get_mut(package) {
            package.description = Some(description.to_owned());
        }
    }

    /// Takes one version away, or the whole package when none is named. If `latest` was a copy of it, the newest
    /// of those that remain takes its place; with the last version the package goes.
    ///
    /// # Errors
    /// `not_found`; `usage` for `latest` while there are others.
    pub fn remove(&mut self, package: &PackageName, version: Option<&VersionName>) -> Result<()> {
        let Some(version) = version else {
            return self.packages.remove(package).map(drop).ok_or_else(|| self.no_package(package));
        };
        self.resolve(package, Some(version))?;
        let Some(there) = self.packages.get_mut(package) else { return Err(self.no_package(package)) };
        if version.is_latest() && there.versions.len() > 1 {
            return Err(HubError::Usage(format!(
                "the version latest of {package} follows the others: name the one to remove"
            )));
        }
        there.remove(version);
        if there.versions.is_empty() {
            self.packages.remove(package);
        }
        Ok(())
    }

    /// The version that a publication without one gets: `v1`, or the next number above the highest `v<number>`.
    #[must_use]
    pub fn next_version(&self, package: &PackageName) -> VersionName {
        let versions = self.packages.get(package).into_iter().flat_map(|p| p.versions.keys());
        let highest = versions.filter_map(VersionName::number).max().unwrap_or(0);
        VersionName::numbered(highest.saturating_add(1))
    }

    /// The entry of exactly this version.
    #[must_use]
    pub fn entry(&self, package: &PackageName, version: &VersionName) -> Option<&VersionEntry> {
        self.packages.get(package)?.versions.get(version)
    }
}

fn published(package: &PackageName, version: &VersionName, there: &VersionEntry) -> HubError {
    let reference = PackageRef { package: package.clone(), version: Some(version.clone()) };
    let digest = there.sha256.map_or("without a digest".to_owned(), |d| format!("with SHA-256 {d}"));
    HubError::AlreadyExists(format!(
        "{reference} is published {digest}, and a published version never changes: publish another version"
    ))
}

impl Package {
    fn remove(&mut self, version: &VersionName) {
        let Some(gone) = self.versions.remove(version) else { return };
        let latest = VersionName::latest();
        if self.versions.get(&latest).is_some_and(|l| l.same_pack(&gone)) {
            self.versions.remove(&latest);
            if let Some(newest) = self.newest().cloned() {
                self.versions.insert(latest, newest);
            }
        }
    }

    /// The version that was made last; of several made in one second the one with the greatest name, numbers counted.
    fn newest(&self) -> Option<&VersionEntry> {
        let rank = |(name, entry): &(&VersionName, &VersionEntry)| {
            (entry.created(), name.number(), name.as_str().to_owned())
        };
        self.versions.iter().filter(|(name, _)| !name.is_latest()).max_by_key(rank).map(|(_, entry)| entry)
    }
}
