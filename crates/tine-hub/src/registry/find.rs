//! Finding a package, with names that come near when there is none.

use super::{Package, Registry, VersionEntry};
use crate::error::{HubError, Result};
use tine_model::{PackageName, PackageRef, VersionName};

/// As alike as this, and a name is offered (1 is equal).
const NEAR: f64 = 0.75;
const MOST_OFFERED: usize = 5;

/// What a reference stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved<'a> {
    /// The package.
    pub package: &'a PackageName,
    /// The version that never changes: for `latest` the one it is a copy of, none when it is of no other.
    pub version: Option<&'a VersionName>,
    /// What the registry says of it.
    pub entry: &'a VersionEntry,
}

/// One package in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing<'a> {
    /// The package.
    pub package: &'a PackageName,
    /// One line about it.
    pub description: Option<&'a str>,
    /// The version that `latest` is a copy of, none when it is of no other.
    pub version: Option<&'a VersionName>,
    /// The entry `latest`.
    pub latest: &'a VersionEntry,
    /// How many versions there are beside `latest`.
    pub versions: usize,
}

impl Registry {
    /// Finds a version, `latest` when none is named.
    ///
    /// # Errors
    /// `not_found`, with names that come near, or the versions there are.
    pub fn resolve(&self, package: &PackageName, version: Option<&VersionName>) -> Result<Resolved<'_>> {
        let (name, found) = self.packages.get_key_value(package).ok_or_else(|| self.no_package(package))?;
        let latest = VersionName::latest();
        let wanted = version.unwrap_or(&latest);
        let (key, entry) =
            found.versions.get_key_value(wanted).ok_or_else(|| found.no_version(package, wanted))?;
        let version = if key.is_latest() { found.source_of_latest() } else { Some(key) };
        Ok(Resolved { package: name, version, entry })
    }

    /// Every package, by name.
    pub fn list(&self) -> impl Iterator<Item = Listing<'_>> {
        self.packages.iter().filter_map(|(name, package)| package.listing(name))
    }

    /// The packages with `text` in their name or description, whatever its case.
    #[must_use]
    pub fn search(&self, text: &str) -> Vec<Listing<'_>> {
        let text = text.to_lowercase();
        let holds = |field: &str| field.to_lowercase().contains(&text);
        self.list().filter(|l| holds(l.package.as_str()) || l.description.is_some_and(holds)).collect()
    }

    pub(super) fn no_package(&self, package: &PackageName) -> HubError {
        let near = nearest(package.as_str(), self.packages.keys().map(PackageName::as_str));
        let message = match near.as_slice() {
            [] => format!("the hub has no package {package}"),
            near => format!("the hub has no package {package}; there is {}", near.join(", ")),
        };
        let hint = near.first().map(|name| format!("tine pull {name}"));
        HubError::NotFound { message, hint: hint.or_else(|| Some("tine hub list".to_owned())) }
    }
}

impl Package {
    fn listing<'a>(&'a self, package: &'a PackageName) -> Option<Listing<'a>> {
        let latest = self.versions.get(&VersionName::latest())?;
        Some(Listing {
            package,
            description: self.description.as_deref(),
            version: self.source_of_latest(),
            latest,
            versions: self.versions.len() - 1,
        })
    }

    /// The version that `latest` is a copy of; of several with the same pack the one with the same entry.
    fn source_of_latest(&self) -> Option<&VersionName> {
        let latest = self.versions.get(&VersionName::latest())?;
        let others = || self.versions.iter().filter(|(name, _)| !name.is_latest());
        let equal = others().find(|(_, entry)| *entry == latest);
        equal.or_else(|| others().find(|(_, entry)| entry.same_pack(latest))).map(|(name, _)| name)
    }

    fn no_version(&self, package: &PackageName, wanted: &VersionName) -> HubError {
        let names = || self.versions.keys().map(VersionName::as_str);
        let mut offered = nearest(wanted.as_str(), names());
        if offered.is_empty() {
            offered = names().take(MOST_OFFERED).collect();
        }
        let more = if offered.len() < self.versions.len() { ", …" } else { "" };
        let version = offered.first().and_then(|name| name.parse().ok());
        HubError::NotFound {
            message: format!("{package} has no version {wanted}; it has {}{more}", offered.join(", ")),
            hint: Some(format!("tine pull {}", PackageRef { package: package.clone(), version })),
        }
    }
}

/// The names most like `wanted`, best first.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // another owner's package of the same name is near, however the owners differ
    let package = |name: &'a str| name.split_once('/').map(|(_, package)| package);
    let wanted_package = wanted.split_once('/').map(|(_, package)| package);
    let mut near: Vec<(f64, &str)> = names
        .map(|name| (strsim::normalized_damerau_levenshtein(wanted, name), name))
        .filter(|(likeness, name)| {
            *likeness >= NEAR || package(name).is_some_and(|p| wanted_package == Some(p))
        })
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(MOST_OFFERED).map(|(_, name)| name).collect()
}
