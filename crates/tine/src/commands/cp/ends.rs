//! The two ends of a copy: a path in a box, or one of this machine.

use super::landing::{Copied, Ending, Place, missing, trimmed};
use crate::{
    args::{Side, box_path},
    failure::local_error,
};
use std::{
    ffi::OsStr,
    fs,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};
use tine_archive::{Limits, Policy};
use tine_model::{
    BoxPath, BoxRef, Error, ErrorCode, PathKind, ProjectName, RawPath, Reporter, Result, Service,
};
use tine_sys::tree::Tree;

/// What the first member of a stream is called when its real name does not matter.
const ANY_NAME: &str = "copied";

/// Where a copy comes from.
pub enum Source<'a> {
    /// A path in a box.
    Box {
        /// Who reads it.
        service: &'a dyn Service,
        /// What is read.
        path: BoxPath,
        /// How the path ended.
        ending: Ending,
    },
    /// A path of this machine.
    Local {
        /// What is read.
        path: Vec<u8>,
        /// How the path ended.
        ending: Ending,
    },
}

impl<'a> Source<'a> {
    /// The source a side names; a stream is none.
    pub fn new(service: &'a dyn Service, project: &ProjectName, side: &Side) -> Self {
        match side {
            Side::Box { name, path } => Self::in_box(service, name.within(project), path),
            Side::Local(path) => Self::local(path.as_os_str().as_bytes()),
            Side::Stream => Self::local(b"-"),
        }
    }

    /// A path in a box.
    pub fn in_box(service: &'a dyn Service, name: BoxRef, path: &[u8]) -> Self {
        let (path, ending) = trimmed(path);
        Self::Box { service, path: box_path(&name, &path), ending }
    }

    fn local(path: &[u8]) -> Self {
        let (path, ending) = trimmed(path);
        Self::Local { path, ending }
    }

    /// What lies there.
    ///
    /// # Errors
    /// `not_found` when nothing does.
    pub fn existing(&self) -> Result<Copied> {
        let (kind, ending, shown) = match self {
            Self::Box { service, path, ending } => (service.stat_path(path)?, *ending, shown_in(path)),
            Self::Local { path, ending } => {
                (local_kind(path, *ending != Ending::Plain)?, *ending, shown(path))
            }
        };
        match (kind, ending) {
            (PathKind::Missing, _) => Err(missing(&shown)),
            (PathKind::File, Ending::Slash | Ending::Dot) => {
                Err(Error::new(ErrorCode::InvalidPath, format!("{shown} is no folder")))
            }
            _ => Ok(Copied { kind, contents: ending == Ending::Dot, shown }),
        }
    }

    /// Writes it as a tar.
    pub fn send(&self, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()> {
        match self {
            Self::Box { service, path, .. } => service.copy_out(path, out, reporter),
            Self::Local { path, ending } => send_local(path, *ending, out, reporter),
        }
    }
}

fn send_local(path: &[u8], ending: Ending, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()> {
    let path = as_path(path);
    let failed =
        |e: tine_archive::ArchiveError| Error::from(e).context(format_args!("reading {}", path.display()));
    let open =
        |folder: &Path| Tree::open(folder).map_err(|e| local_error("opening", folder, &io::Error::other(e)));
    let (tree, start, name) = match (path.file_name(), ending) {
        (Some(name), Ending::Plain) => (open(folder_of(path))?, Path::new(name), name),
        (Some(name), _) => (open(path)?, Path::new("/"), name),
        (None, _) => (open(path)?, Path::new("/"), OsStr::new(ANY_NAME)),
    };
    tine_archive::write(&tree, start, Some(name), out, reporter).map(|_| ()).map_err(failed)
}

/// Where a copy goes.
pub enum Target<'a> {
    /// A path in a box.
    Box {
        /// Who writes it.
        service: &'a dyn Service,
        /// The box.
        name: BoxRef,
        /// The path in it.
        path: Vec<u8>,
        /// How the path ended.
        ending: Ending,
    },
    /// A path of this machine.
    Local {
        /// The path.
        path: Vec<u8>,
        /// How the path ended.
        ending: Ending,
        /// What may be made.
        policy: Policy,
    },
}

impl<'a> Target<'a> {
    /// The target a side names; a stream is none.
    pub fn new(service: &'a dyn Service, project: &ProjectName, side: &Side, archive: bool) -> Self {
        let local = |path: &[u8]| {
            let (path, ending) = trimmed(path);
            Self::Local {
                path,
                ending,
                policy: if archive { Policy::archive_copy() } else { Policy::copy() },
            }
        };
        match side {
            Side::Box { name, path } => Self::in_box(service, name.within(project), path),
            Side::Local(path) => local(path.as_os_str().as_bytes()),
            Side::Stream => local(b"-"),
        }
    }

    /// A path in a box.
    pub fn in_box(service: &'a dyn Service, name: BoxRef, path: &[u8]) -> Self {
        let (path, ending) = trimmed(path);
        Self::Box { service, name, path, ending }
    }

    /// What lies there.
    pub fn place(&self) -> Result<Place> {
        let (path, kind, ending, shown) = match self {
            Self::Box { service, name, path, ending } => {
                let at = box_path(name, path);
                (path, service.stat_path(&at)?, ending, shown_in(&at))
            }
            Self::Local { path, ending, .. } => (path, local_kind(path, true)?, ending, shown(path)),
        };
        Ok(Place { path: path.clone(), kind, folder_meant: *ending != Ending::Plain, shown })
    }

    /// Extracts a tar in `folder` of the target.
    pub fn receive(&self, folder: &[u8], tar: &mut (dyn Read + Send), reporter: &dyn Reporter) -> Result<()> {
        match self {
            Self::Box { service, name, .. } => service.copy_in(&box_path(name, folder), tar, reporter),
            Self::Local { policy, .. } => {
                let folder = as_path(folder);
                let tree =
                    Tree::open(folder).map_err(|e| local_error("opening", folder, &io::Error::other(e)))?;
                tine_archive::extract(tar, &tree, &Limits::default(), policy, reporter)
                    .map(|_| ())
                    .map_err(|e| Error::from(e).context(format_args!("writing {}", folder.display())))
            }
        }
    }

    /// Extracts a tar in the target itself, which must be a folder.
    pub fn receive_as_it_is(&self, tar: &mut (dyn Read + Send), reporter: &dyn Reporter) -> Result<()> {
        let place = self.place()?;
        match place.kind {
            PathKind::Directory => self.receive(&place.path, tar, reporter),
            PathKind::File => {
                Err(Error::new(ErrorCode::InvalidPath, format!("{} is no folder", place.shown)))
            }
            PathKind::Missing => Err(missing(&place.shown)),
        }
    }
}

fn local_kind(path: &[u8], follow: bool) -> Result<PathKind> {
    let path = as_path(path);
    let meta = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) };
    match meta {
        Ok(meta) if meta.is_dir() => Ok(PathKind::Directory),
        Ok(_) => Ok(PathKind::File),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(PathKind::Missing),
        Err(e) => Err(local_error("looking at", path, &e)),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn shown(path: &[u8]) -> String {
    RawPath::new(path).to_string()
}

fn shown_in(path: &BoxPath) -> String {
    format!("{}:{}", path.name, path.path)
}
