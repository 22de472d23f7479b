//! Volumes: data with its own life.

use crate::{
    bytesize::ByteSize,
    error::{Error, ErrorCode, Result},
    names::{BoxName, VolumeName, VolumeRef},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// The volume.
    pub volume: VolumeRef,
    /// Logical size of its tree.
    pub size_bytes: ByteSize,
    /// When it was made.
    pub created_at: Timestamp,
    /// Boxes it is attached to.
    pub attached_to: Vec<BoxName>,
}

/// An absolute path inside a box: normal components only (no `..`, no `.`, no NUL), not `/` itself, at most
/// 4,095 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountPath(String);

impl MountPath {
    /// The path as text, without a closing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MountPath {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(ErrorCode::InvalidPath, format!("mount path {text:?} {why}"));
        if !text.starts_with('/') {
            return Err(bad("is not absolute"));
        }
        if text.len() > 4095 || text.chars().any(char::is_control) {
            return Err(bad("is too long or holds a control character"));
        }
        let parts: Vec<&str> = text.split('/').filter(|p| !p.is_empty()).collect();
        if parts.iter().any(|p| *p == "." || *p == ".." || p.len() > 255) {
            return Err(bad("holds . or .. or a name over 255 bytes"));
        }
        if parts.is_empty() {
            return Err(bad("is the root itself"));
        }
        let path = format!("/{}", parts.join("/"));
        match RESERVED.iter().find(|r| path == **r || path.starts_with(&format!("{r}/"))) {
            Some(reserved) => Err(bad(&format!("lies in {reserved}, which Tine mounts itself"))),
            None => Ok(Self(path)),
        }
    }
}

/// Where Tine or the kernel mounts something itself.
const RESERVED: [&str; 5] = ["/proc", "/sys", "/dev", "/box", "/home"];

impl TryFrom<String> for MountPath {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<MountPath> for String {
    fn from(path: MountPath) -> Self {
        path.0
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A volume attached to a box; text form `VOLUME=/path[:ro]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The volume, in the box's project.
    pub volume: VolumeName,
    /// Where it appears in the box.
    pub path: MountPath,
    /// Whether the box may only read it.
    #[serde(default)]
    pub read_only: bool,
}

impl FromStr for VolumeMount {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (volume, rest) = text.split_once('=').ok_or_else(|| {
            Error::new(ErrorCode::Usage, format!("volume {text:?} is not of the form VOLUME=/path[:ro]"))
        })?;
        let (path, read_only) = match rest.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (rest.strip_suffix(":rw").unwrap_or(rest), false),
        };
        Ok(Self { volume: volume.parse()?, path: path.parse()?, read_only })
    }
}

impl fmt::Display for VolumeMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.volume, self.path, if self.read_only { ":ro" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_read_and_print_one_form() {
        for (text, shown) in [
            ("data=/srv/data", "data=/srv/data"),
            ("data=//srv//data/:ro", "data=/srv/data:ro"),
            ("d=/homework:rw", "d=/homework"),
        ] {
            assert_eq!(text.parse::<VolumeMount>().unwrap().to_string(), shown);
        }
        for bad in [
            "data",
            "data=",
            "data=srv",
            "data=/",
            "data=/a/../b",
            "data=/proc/x",
            "data=/home",
            "data=/box/x",
            "D=/a",
            "data=/a\nb",
        ] {
            assert!(bad.parse::<VolumeMount>().is_err(), "{bad:?}");
        }
    }
}
