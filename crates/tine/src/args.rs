//! Arguments that are neither plain text nor a model's type: parsed here, once.

use crate::failure::local_error;
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};
use tine_model::{
    BoxName, BoxPath, BoxRef, Change, Error, ErrorCode, ProjectName, RawPath, Result, SnapshotName,
};

/// `box` or `project:box` as typed; the project may still be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxArg {
    project: Option<ProjectName>,
    name: BoxName,
}

impl BoxArg {
    /// The box, in `project` unless one was typed.
    pub fn within(&self, project: &ProjectName) -> BoxRef {
        let project = self.project.as_ref().unwrap_or(project);
        BoxRef { project: project.clone(), name: self.name.clone() }
    }
}

impl FromStr for BoxArg {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((project, name)) => Ok(Self { project: Some(project.parse()?), name: name.parse()? }),
            None => Ok(Self { project: None, name: text.parse()? }),
        }
    }
}

/// `BOX/SNAPSHOT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotArg {
    /// The box.
    pub name: BoxArg,
    /// Its snapshot.
    pub snapshot: SnapshotName,
}

impl FromStr for SnapshotArg {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let (name, snapshot) = text.split_once('/').ok_or_else(|| {
            Error::new(ErrorCode::Usage, format!("{text:?} is not of the form BOX/SNAPSHOT"))
        })?;
        Ok(Self { name: name.parse()?, snapshot: snapshot.parse()? })
    }
}

/// A new value, or `none` to remove the one there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeArg<T>(Option<T>);

impl<T: FromStr> FromStr for ChangeArg<T> {
    type Err = T::Err;
    fn from_str(text: &str) -> std::result::Result<Self, T::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// What an option that may be missing changes.
pub fn change<T: Copy>(arg: Option<ChangeArg<T>>) -> Change<T> {
    match arg {
        None => Change::Keep,
        Some(ChangeArg(None)) => Change::Clear,
        Some(ChangeArg(Some(value))) => Change::Set(value),
    }
}

/// One side of `cp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// `-`: a tar on stdin or stdout.
    Stream,
    /// `box:/path` or `project:box:/path`.
    Box {
        /// The box.
        name: BoxArg,
        /// The path in it, any bytes.
        path: Vec<u8>,
    },
    /// A path of this machine.
    Local(PathBuf),
}

impl Side {
    /// Reads one side: what has a colon before its first slash is a box's, so a local `a:b` is written `./a:b`.
    ///
    /// # Errors
    /// `invalid_name` for a bad box or project, `invalid_path` for an empty path.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        let head = bytes.iter().position(|b| *b == b'/').unwrap_or(bytes.len());
        let Some(colon) = bytes[..head].iter().rposition(|b| *b == b':') else {
            return local(text);
        };
        let name = String::from_utf8_lossy(&bytes[..colon]);
        match &bytes[colon + 1..] {
            b"" => {
                Err(Error::new(ErrorCode::InvalidPath, format!("{:?} names no path", text.to_string_lossy())))
            }
            path => Ok(Self::Box { name: name.parse()?, path: path.to_vec() }),
        }
    }
}

fn local(text: &OsStr) -> Result<Side> {
    if text.is_empty() {
        return Err(Error::new(ErrorCode::InvalidPath, "an empty path names nothing"));
    }
    Ok(Side::Local(text.into()))
}

/// A path of a box.
pub fn box_path(name: &BoxRef, path: &[u8]) -> BoxPath {
    BoxPath { name: name.clone(), path: RawPath::new(path) }
}

/// The path as the service needs it: absolute, and text.
pub fn absolute(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(|e| local_error("finding", path, &e))?;
    // `.` at the end would survive and show up in the engine's command line
    let clean: PathBuf = absolute.components().collect();
    clean
        .into_os_string()
        .into_string()
        .map_err(|odd| Error::new(ErrorCode::InvalidPath, format!("{} is not UTF-8", odd.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_argument_takes_the_project_typed_before_the_one_chosen() {
        let chosen: ProjectName = "p".parse().unwrap();
        let shown = |text: &str| text.parse::<BoxArg>().unwrap().within(&chosen).to_string();
        assert_eq!((shown("b"), shown("q:b"), shown("default:b")), ("p:b".into(), "q:b".into(), "b".into()));
        for bad in ["", ":b", "b:", "a:b:c", "B"] {
            assert_eq!(bad.parse::<BoxArg>().unwrap_err().code, ErrorCode::InvalidName, "{bad:?}");
        }
        assert_eq!("web".parse::<SnapshotArg>().unwrap_err().code, ErrorCode::Usage);
    }

    #[test]
    fn a_change_is_a_value_or_none() {
        let parse = |text: &str| change(Some(text.parse::<ChangeArg<u32>>().unwrap()));
        assert_eq!(
            (parse("none"), parse("7"), change::<u32>(None)),
            (Change::Clear, Change::Set(7), Change::Keep)
        );
        assert!("x".parse::<ChangeArg<u32>>().is_err());
    }

    #[test]
    fn sides_of_a_copy_are_told_apart() {
        let side = |text: &str| Side::parse(OsStr::new(text));
        let in_box = |name: &str, path: &str| Side::Box { name: name.parse().unwrap(), path: path.into() };
        assert_eq!(side("-").unwrap(), Side::Stream);
        assert_eq!(side("web:/etc/a:b").unwrap(), in_box("web", "/etc/a:b"));
        assert_eq!(side("p:web:rel").unwrap(), in_box("p:web", "rel"));
        for path in ["./a:b", "/tmp/a:b", "plain", "a/b:c"] {
            assert_eq!(side(path).unwrap(), Side::Local(path.into()));
        }
        for bad in ["web:", ":/x", "Web:/x", "a:b:c:/x", ""] {
            assert!(side(bad).is_err(), "{bad:?}");
        }
        let odd = OsStr::from_bytes(b"web:/\xff");
        assert_eq!(
            Side::parse(odd).unwrap(),
            Side::Box { name: "web".parse().unwrap(), path: b"/\xff".to_vec() }
        );
    }

    #[test]
    fn a_context_becomes_absolute_without_dots_at_the_end() {
        assert_eq!(absolute(Path::new("/a/./b/.")).unwrap(), "/a/b");
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new(".")).unwrap(), here.to_str().unwrap());
    }
}
