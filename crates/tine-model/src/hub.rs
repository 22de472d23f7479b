//! Names and words of hubs: packages, versions, signing keys, trust.
//!
//! Owns what is typed and shown. The registry, the keys themselves and what is trusted lie elsewhere.

use crate::{
    error::{Error, ErrorCode, Result},
    names::{TAG_GRAMMAR, invalid, is_tag, name_type},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

const PACKAGE_GRAMMAR: &str =
    "<owner>/<name>, each 1 to 64 characters A-Z, a-z, 0-9, _, . and -, the first a letter, digit or _";
const KEY_GRAMMAR: &str = "1 to 64 characters A-Z, a-z, 0-9, _, . and -, the first a letter, digit or _, not 16 hex digits as of a key's id";

fn is_package(text: &str) -> bool {
    text.split_once('/').is_some_and(|(owner, name)| is_tag(owner) && is_tag(name))
}

/// True for the 16 hex digits that a key's id is.
fn is_key_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

name_type!(
    /// The name of a package at a hub: `<owner>/<name>`.
    PackageName, "package", is_package, PACKAGE_GRAMMAR
);
name_type!(
    /// The name of one version of a package: `v1`, or `latest`.
    VersionName, "version", is_tag, TAG_GRAMMAR
);
name_type!(
    /// What a user calls a signing key. Never looks like a key's id.
    KeyName, "key", |t| is_tag(t) && !is_key_id(t), KEY_GRAMMAR
);

impl PackageName {
    /// The part before the slash.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.as_str().split_once('/').map_or("", |(owner, _)| owner)
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.as_str().split_once('/').map_or("", |(_, name)| name)
    }
}

impl VersionName {
    /// The name that moves: `latest`.
    #[must_use]
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// True for `latest`.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        self.0 == "latest"
    }

    /// `v<number>`.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self(format!("v{number}"))
    }

    /// The number in a name of exactly the shape `v<number>` (no leading zero but `v0`).
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let digits = self.0.strip_prefix('v')?;
        let canonical = digits == "0" || !digits.starts_with('0');
        (canonical && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
    }
}

/// A package and, where one is named, its version: `owner/name` or `owner/name@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageRef {
    /// The package.
    pub package: PackageName,
    /// The version; none stands for `latest`.
    pub version: Option<VersionName>,
}

impl FromStr for PackageRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (package, version) = match text.split_once('@') {
            Some((package, version)) => (package, Some(version.parse()?)),
            None => (text, None),
        };
        Ok(Self { package: package.parse()?, version })
    }
}

impl fmt::Display for PackageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.package),
            None => write!(f, "{}", self.package),
        }
    }
}

impl TryFrom<String> for PackageRef {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PackageRef> for String {
    fn from(reference: PackageRef) -> Self {
        reference.to_string()
    }
}

/// The 8 bytes by which a minisign signature says which key made it; text form is 16 upper-case hex digits, of the
/// bytes read as a little-endian number, as the `minisign` tool prints them. Chosen by whoever made the key: it says
/// which key is meant, and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(ErrorCode::Usage, format!("{text:?} is not the id of a key: 16 hex digits"));
        if !is_key_id(text) {
            return Err(bad());
        }
        u64::from_str_radix(text, 16).map(|number| Self(number.to_le_bytes())).map_err(|_| bad())
    }
}

impl TryFrom<String> for KeyId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// A key as a user names it: by its name or by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    /// By name.
    Name(KeyName),
    /// By id.
    Id(KeyId),
}

impl FromStr for KeyRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if is_key_id(text) { text.parse().map(Self::Id) } else { text.parse().map(Self::Name) }
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

/// A signing key, as `key list` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// What it is called here.
    pub name: KeyName,
    /// Its id.
    pub key_id: KeyId,
    /// The public key: one line of base64, as minisign has it.
    pub public_key: String,
    /// Whether its secret half is here, so that it can sign.
    pub can_sign: bool,
    /// When it was made or first trusted here.
    pub added_at: Timestamp,
    /// When it was revoked; a revoked key is never trusted again.
    pub revoked_at: Option<Timestamp>,
}

/// What is asked of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustPolicy {
    /// Only what a trusted key has signed.
    Require,
    /// What is not signed is told of and taken; a signature that is wrong is refused.
    #[default]
    Warn,
    /// Signatures are not looked at.
    Off,
}

impl FromStr for TrustPolicy {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "require" => Ok(Self::Require),
            "warn" => Ok(Self::Warn),
            "off" => Ok(Self::Off),
            _ => Err(Error::new(
                ErrorCode::Usage,
                format!("{text:?} is no policy for signatures: require, warn or off"),
            )),
        }
    }
}

impl fmt::Display for TrustPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Require => "require",
            Self::Warn => "warn",
            Self::Off => "off",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_an_owner_and_a_name_and_nothing_else() {
        let good: PackageName = "tine/python-numpy".parse().unwrap();
        assert_eq!((good.owner(), good.name()), ("tine", "python-numpy"));
        let long = format!("a/{}", "b".repeat(65));
        for bad in
            ["", "a", "/", "a/", "/a", "a/b/c", "../b", "a/..", "a/b@c", "a b/c", "a/b\n", "ä/b", &long]
        {
            assert_eq!(bad.parse::<PackageName>().unwrap_err().code, ErrorCode::InvalidName, "{bad:?}");
        }
    }

    #[test]
    fn a_reference_has_at_most_one_version() {
        let bare: PackageRef = "a/b".parse().unwrap();
        assert!(bare.version.is_none() && bare.to_string() == "a/b");
        let exact: PackageRef = "a/b@v1.2".parse().unwrap();
        assert_eq!(
            (exact.version.as_ref().unwrap().as_str(), exact.to_string()),
            ("v1.2", "a/b@v1.2".into())
        );
        for bad in ["a/b@", "@v1", "a@v1/b", "a/b@v1@v2", "a/b@v/1"] {
            assert_eq!(bad.parse::<PackageRef>().unwrap_err().code, ErrorCode::InvalidName, "{bad:?}");
        }
        let json = serde_json::to_string(&exact).unwrap();
        assert_eq!(serde_json::from_str::<PackageRef>(&json).unwrap(), exact);
    }

    #[test]
    fn versions_count_in_one_shape() {
        let number = |t: &str| t.parse::<VersionName>().unwrap().number();
        assert_eq!(
            (number("v7"), number("v07"), number("latest"), number("v1.0")),
            (Some(7), None, None, None)
        );
        assert!(VersionName::latest().is_latest() && !VersionName::numbered(1).is_latest());
    }

    #[test]
    fn a_key_is_named_or_known_by_its_id_and_never_both() {
        let id = KeyId([0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]);
        assert_eq!(id.to_string(), "0123456789ABCDEF");
        assert_eq!("0123456789abcdef".parse::<KeyRef>().unwrap(), KeyRef::Id(id));
        assert!(matches!("release".parse::<KeyRef>().unwrap(), KeyRef::Name(_)));
        assert!("0123456789abcdef".parse::<KeyName>().is_err() && "../x".parse::<KeyRef>().is_err());
        assert!("0123456789abcde".parse::<KeyId>().is_err() && "+123456789abcdef".parse::<KeyId>().is_err());
    }

    #[test]
    fn policies_are_three_words() {
        for policy in [TrustPolicy::Require, TrustPolicy::Warn, TrustPolicy::Off] {
            assert_eq!(policy.to_string().parse::<TrustPolicy>().unwrap(), policy);
            assert_eq!(serde_json::to_string(&policy).unwrap(), format!("\"{policy}\""));
        }
        assert_eq!("Require".parse::<TrustPolicy>().unwrap_err().code, ErrorCode::Usage);
    }
}
