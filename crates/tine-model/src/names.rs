//! One grammar per kind of name, parsed once at the edge into a type.

use crate::{
    digest::Sha256Digest,
    error::{Error, ErrorCode, Result},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

const GRAMMAR: &str = "1 to 63 characters a-z, 0-9 and -, the first and last a letter or digit, no --";

/// True for 1–63 characters of `a-z0-9-`, first and last alphanumeric, no `--`. Looks at the whole string.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && edge(bytes.first())
        && edge(bytes.last())
        && !text.contains("--")
}

pub(crate) const TAG_GRAMMAR: &str =
    "1 to 64 characters A-Z, a-z, 0-9, _, . and -, the first a letter, digit or _";

/// True for `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`. Looks at the whole string.
pub(crate) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=64).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// True when `text` ends in `-v` plus 14 digits, the mark of a base version.
fn has_version_suffix(text: &str) -> bool {
    text.len() > 16
        && text.is_char_boundary(text.len() - 16)
        && text[text.len() - 16..].strip_prefix("-v").is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()))
}

pub(crate) fn invalid(kind: &str, text: &str, grammar: &str) -> Error {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    Error::new(ErrorCode::InvalidName, format!("{kind} name {shown:?} is not allowed: {grammar}"))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:expr, $grammar:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl FromStr for $type {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(invalid($kind, text, $grammar)) }
            }
        }
        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> { text.parse() }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self { name.0 }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(&self.0) }
        }
        impl AsRef<std::path::Path> for $type {
            fn as_ref(&self) -> &std::path::Path { std::path::Path::new(&self.0) }
        }
    };
}

pub(crate) use name_type;

name_type!(
    /// The name of a box.
    BoxName, "box", is_name, GRAMMAR
);
name_type!(
    /// The name of a project.
    ProjectName, "project", is_name, GRAMMAR
);
name_type!(
    /// The name of a snapshot of one box.
    SnapshotName, "snapshot", is_name, GRAMMAR
);
name_type!(
    /// The name of a volume.
    VolumeName, "volume", is_name, GRAMMAR
);
name_type!(
    /// The moving name of a base: at most 47 characters, not ending in `-v` plus 14 digits.
    BaseAlias, "base", |t| is_name(t) && t.len() <= 47 && !has_version_suffix(t),
    "1 to 47 characters a-z, 0-9 and -, the first and last a letter or digit, no --, not ending in -v and 14 digits"
);
name_type!(
    /// The exact name of one base version: an alias, or an alias with `-v` and 14 digits (and `-2`, `-3`, … never:
    /// two versions in one second differ in the digits, the later one takes the next free second).
    BaseVersion, "base version", is_name, GRAMMAR
);

name_type!(
    /// The tag of an image.
    ImageTag, "image", is_tag, TAG_GRAMMAR
);
name_type!(
    /// The name of a guest kernel: its release, as `uname -r` tells it.
    KernelName, "kernel", is_tag, TAG_GRAMMAR
);

impl ProjectName {
    /// The project `default`.
    #[must_use]
    pub fn default_project() -> Self {
        Self("default".to_owned())
    }
}

impl BaseAlias {
    /// The alias of the base that `create` uses when none is named: `box-base`.
    #[must_use]
    pub fn box_base() -> Self {
        Self("box-base".to_owned())
    }

    /// The version with exactly this name, as the first write of an alias makes.
    #[must_use]
    pub fn first_version(&self) -> BaseVersion {
        BaseVersion(self.0.clone())
    }

    /// `NAME-v20260101120000`.
    #[must_use]
    pub fn version_at(&self, time: crate::Timestamp) -> BaseVersion {
        BaseVersion(format!("{}-v{}", self.0, time.compact()))
    }
}

impl SnapshotName {
    /// The automatic name `v<number>`.
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

/// Which base version a box is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BaseRef {
    /// `NAME`: the newest version of the alias of that name, else the exact version of that name.
    Name(BaseVersion),
    /// `ALIAS@VERSION`: that version, which must belong to the alias.
    Pinned {
        /// The alias.
        alias: BaseAlias,
        /// The exact version.
        version: BaseVersion,
    },
    /// `ALIAS:SHA256`: the newest version of the alias whose build script has that digest.
    Script {
        /// The alias.
        alias: BaseAlias,
        /// SHA-256 of the build script.
        script_sha256: Sha256Digest,
    },
}

impl BaseRef {
    /// The base that `create` uses when none is named.
    #[must_use]
    pub fn box_base() -> Self {
        Self::Name(BaseAlias::box_base().first_version())
    }
}

impl FromStr for BaseRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if let Some((alias, version)) = text.split_once('@') {
            return Ok(Self::Pinned { alias: alias.parse()?, version: version.parse()? });
        }
        if let Some((alias, digest)) = text.split_once(':') {
            return Ok(Self::Script { alias: alias.parse()?, script_sha256: digest.parse()? });
        }
        text.parse().map(Self::Name).map_err(|_: Error| invalid("base", text, GRAMMAR))
    }
}

impl fmt::Display for BaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(version) => write!(f, "{version}"),
            Self::Pinned { alias, version } => write!(f, "{alias}@{version}"),
            Self::Script { alias, script_sha256 } => write!(f, "{alias}:{script_sha256}"),
        }
    }
}

impl TryFrom<String> for BaseRef {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<BaseRef> for String {
    fn from(base: BaseRef) -> Self {
        base.to_string()
    }
}

/// A box and the project it lives in; text form `project:box`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BoxRef {
    /// The project.
    pub project: ProjectName,
    /// The box.
    pub name: BoxName,
}

impl BoxRef {
    /// Reads `box` or `project:box`; a bare box is in `default_project`.
    ///
    /// # Errors
    /// `invalid_name` when either part is outside its grammar.
    pub fn parse(text: &str, default_project: &ProjectName) -> Result<Self> {
        match text.split_once(':') {
            Some((project, name)) => Ok(Self { project: project.parse()?, name: name.parse()? }),
            None => Ok(Self { project: default_project.clone(), name: text.parse()? }),
        }
    }
}

/// `box` in the project `default`, else `project:box`: what a user would type.
impl fmt::Display for BoxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.project.as_str() == "default" {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}:{}", self.project, self.name)
        }
    }
}

/// A volume and the project it lives in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeRef {
    /// The project.
    pub project: ProjectName,
    /// The volume.
    pub name: VolumeName,
}

impl fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.project.as_str() == "default" {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}:{}", self.project, self.name)
        }
    }
}

/// A user's `key=value` mark on a box. Keys are 1–63 of `A-Za-z0-9._/-`; values at most 255 characters without
/// control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag {
    /// The key.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
}

impl FromStr for Tag {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let key_ok = (1..=63).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'));
        let value_ok = value.chars().count() <= 255 && !value.chars().any(char::is_control);
        if key_ok && value_ok {
            return Ok(Self { key: key.to_owned(), value: value.to_owned() });
        }
        Err(Error::new(
            ErrorCode::Usage,
            format!(
                "tag {text:?} is not of the form key=value: a key is 1 to 63 of A-Za-z0-9._/-, a value at most 255 characters on one line"
            ),
        ))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl TryFrom<String> for Tag {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_names_are_refused_by_every_kind() {
        let long = "a".repeat(64);
        for bad in [
            "", &long, "Web", "a--b", "web\n", "\nweb", ".", "..", "a/b", "a.b", "a_b", "-a", "a-", "ä",
            "a\0", " a", "ａ",
        ] {
            assert_eq!(bad.parse::<BoxName>().unwrap_err().code, ErrorCode::InvalidName, "{bad:?}");
            assert!(bad.parse::<ProjectName>().is_err() && bad.parse::<SnapshotName>().is_err(), "{bad:?}");
            assert!(bad.parse::<VolumeName>().is_err() && bad.parse::<BaseAlias>().is_err(), "{bad:?}");
        }
        for good in ["a", "0", "web-1", &"a".repeat(63)] {
            assert_eq!(good.parse::<BoxName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_alias_is_shorter_and_never_looks_like_a_version() {
        assert!("a".repeat(47).parse::<BaseAlias>().is_ok() && "a".repeat(48).parse::<BaseAlias>().is_err());
        assert!("deb-v20260101120000".parse::<BaseAlias>().is_err());
        assert!(
            "deb-v2026010112000".parse::<BaseAlias>().is_ok()
                && "deb-v2026010112000x".parse::<BaseAlias>().is_ok()
        );
        assert!(
            "a".repeat(47)
                .parse::<BaseAlias>()
                .unwrap()
                .version_at(crate::Timestamp::from_second(0))
                .as_str()
                .parse::<BaseVersion>()
                .is_ok()
        );
    }

    #[test]
    fn snapshot_numbers_have_exactly_one_shape() {
        let number = |t: &str| t.parse::<SnapshotName>().unwrap().number();
        assert_eq!(
            (number("v0"), number("v17"), number("v01"), number("v"), number("v1a"), number("w1")),
            (Some(0), Some(17), None, None, None, None)
        );
        assert_eq!(number(&format!("v{}", "9".repeat(40))), None);
    }

    #[test]
    fn base_references_have_three_shapes() {
        let digest = "ab".repeat(32);
        assert!(matches!("deb".parse().unwrap(), BaseRef::Name(_)));
        assert!(matches!("deb@deb-v20260101120000".parse().unwrap(), BaseRef::Pinned { .. }));
        assert!(matches!(format!("deb:{digest}").parse().unwrap(), BaseRef::Script { .. }));
        for bad in ["", "@", ":", "deb@", "@deb", "deb:xyz", "deb@a@b"] {
            assert!(bad.parse::<BaseRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn box_references_default_to_the_project_given() {
        let project: ProjectName = "p".parse().unwrap();
        assert_eq!(BoxRef::parse("b", &project).unwrap().to_string(), "p:b");
        assert_eq!(BoxRef::parse("default:b", &project).unwrap().to_string(), "b");
        assert!(BoxRef::parse("a:b:c", &project).is_err() && BoxRef::parse(":b", &project).is_err());
    }

    proptest! {
        #[test]
        fn names_accepted_match_the_grammar(text in "\\PC{0,70}") {
            let by_regex = regex_like(&text);
            prop_assert_eq!(text.parse::<BoxName>().is_ok(), by_regex);
        }
        #[test]
        fn json_round_trips(text in "[a-z][a-z0-9]{0,20}") {
            let name: BoxName = text.parse().unwrap();
            let json = serde_json::to_string(&name).unwrap();
            prop_assert_eq!(serde_json::from_str::<BoxName>(&json).unwrap(), name);
        }
    }

    /// The grammar, spelled a second way: segments of letters and digits joined by single hyphens.
    fn regex_like(text: &str) -> bool {
        text.chars().count() <= 63
            && text.split('-').all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            })
    }
}
