//! `registry.json`: which packages a hub has, in which versions, and where each lies.
//!
//! Schema 1, as others write it: `schema_version`, and `packages` from `<owner>/<name>` to a `description` and
//! `versions`, one of which is `latest`. Whatever else stands in it is kept when it is written again. Tine's own
//! additions lie under one more key, `tine`, at the top and in a version. Knows nothing of files and signatures.

mod edit;
mod entry;
mod find;
mod strict;

pub use edit::Added;
pub use entry::{PackExtras, SidecarEntry, VersionEntry};
pub use find::{Listing, Resolved};

use crate::error::{HubError, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tine_model::{KeyId, PackageName, Timestamp, VersionName};

/// What stands in a document beside the fields known here.
type Rest = Map<String, Value>;

/// A registry, all of whose names and locations have been checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Registry {
    schema_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tine: Option<Freshness>,
    #[serde(flatten)]
    rest: Rest,
    packages: BTreeMap<PackageName, Package>,
}

/// The key `tine` of a signed registry: what keeps an old one from being served for the present one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Freshness {
    /// Rises by one with each publication, and never goes back.
    pub serial: u64,
    /// After this moment the registry is stale.
    pub expires_at: Timestamp,
    /// The key whose signature lies beside it.
    pub signed_by: KeyId,
    #[serde(flatten)]
    rest: Rest,
}

impl Freshness {
    /// The key `tine` of a registry that `signed_by` signs.
    #[must_use]
    pub fn new(serial: u64, expires_at: Timestamp, signed_by: KeyId) -> Self {
        Self { serial, expires_at, signed_by, rest: Rest::new() }
    }
}

/// One package.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Package {
    /// One line about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(flatten)]
    rest: Rest,
    versions: BTreeMap<VersionName, VersionEntry>,
}

impl Registry {
    /// More bytes than this are refused. Some 30,000 versions fit.
    pub const MAX_BYTES: u64 = 16 << 20;
    const SCHEMA: u64 = 1;

    /// A registry without packages.
    #[must_use]
    pub fn empty() -> Self {
        Self { schema_version: Self::SCHEMA, tine: None, rest: Rest::new(), packages: BTreeMap::new() }
    }

    /// Reads a registry, whoever wrote it.
    ///
    /// # Errors
    /// `too_large` above [`Self::MAX_BYTES`], before anything is read; `incompatible` for another schema;
    /// `invalid_input` for what is no JSON, has a key twice, a name outside its grammar, a package without
    /// `latest`, or a version whose fields are not of their form.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > Self::MAX_BYTES {
            let message = format!("the registry is {} bytes long: at most {}", bytes.len(), Self::MAX_BYTES);
            return Err(HubError::TooLarge(message));
        }
        let bad = |why: String| HubError::invalid(format!("the registry is refused: {}", shortened(&why)));
        let mut rest = strict::object(bytes).map_err(bad)?;
        check_schema(rest.remove("schema_version"))?;
        let tine = rest.remove("tine").map(freshness).transpose().map_err(bad)?;
        let packages = match rest.remove("packages") {
            Some(Value::Object(packages)) => packages,
            _ => return Err(bad("it has no object \"packages\"".to_owned())),
        };
        let packages = packages.into_iter().map(package).collect::<Result<_, _>>().map_err(bad)?;
        Ok(Self { schema_version: Self::SCHEMA, tine, rest, packages })
    }

    /// The document: indented, packages and versions sorted, the same bytes for the same registry.
    ///
    /// # Errors
    /// `too_large` when [`Self::parse`] would refuse it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let unwritable =
            |e: serde_json::Error| HubError::invalid(format!("the registry can't be written: {e}"));
        let mut bytes = serde_json::to_vec_pretty(self).map_err(unwritable)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > Self::MAX_BYTES {
            let message =
                format!("the registry would be {} bytes long: at most {}", bytes.len(), Self::MAX_BYTES);
            return Err(HubError::TooLarge(message));
        }
        // of very small entries there can be too many before the bytes are
        strict::object(&bytes)
            .map_err(|why| HubError::TooLarge(format!("the registry would be too large: {why}")))?;
        Ok(bytes)
    }

    /// What a signer has said of its age, if one has.
    #[must_use]
    pub fn freshness(&self) -> Option<&Freshness> {
        self.tine.as_ref()
    }

    /// Sets or takes away what [`Self::freshness`] tells.
    pub fn set_freshness(&mut self, freshness: Option<Freshness>) {
        self.tine = freshness;
    }

    /// Every package by its name, in order.
    pub fn packages(&self) -> impl Iterator<Item = (&PackageName, &Package)> {
        self.packages.iter()
    }
}

impl Package {
    /// Every version by its name, `latest` among them.
    pub fn versions(&self) -> impl Iterator<Item = (&VersionName, &VersionEntry)> {
        self.versions.iter()
    }
}

/// What is wrong may quote the document, which may be long.
fn shortened(why: &str) -> String {
    let mut short: String = why.chars().take(400).collect();
    if short.len() < why.len() {
        short.push('…');
    }
    short
}

fn check_schema(found: Option<Value>) -> Result<()> {
    match found {
        Some(Value::Number(n)) if n.as_u64() == Some(Registry::SCHEMA) => Ok(()),
        Some(Value::Number(n)) => Err(HubError::Incompatible(format!(
            "the registry has schema_version {n}; this version of Tine reads schema_version {}",
            Registry::SCHEMA
        ))),
        _ => Err(HubError::invalid("the registry is refused: it has no number \"schema_version\"")),
    }
}

fn freshness(value: Value) -> Result<Freshness, String> {
    serde_json::from_value(value).map_err(|e| format!("its key \"tine\": {e}"))
}

fn package((name, value): (String, Value)) -> Result<(PackageName, Package), String> {
    let name: PackageName = name.parse().map_err(|e: tine_model::Error| e.message)?;
    let Value::Object(mut rest) = value else { return Err(format!("package {name} is no object")) };
    let description = match rest.remove("description") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err(format!("the description of package {name} is no text")),
    };
    let Some(Value::Object(versions)) = rest.remove("versions") else {
        return Err(format!("package {name} has no object \"versions\""));
    };
    let read = |version| entry::read(version).map_err(|why| format!("package {name}: {why}"));
    let versions: BTreeMap<_, _> = versions.into_iter().map(read).collect::<Result<_, String>>()?;
    if !versions.contains_key(&VersionName::latest()) {
        return Err(format!("package {name} has no version \"latest\""));
    }
    Ok((name, Package { description, rest, versions }))
}

#[cfg(test)]
mod tests;
