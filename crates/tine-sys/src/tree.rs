//! A directory of an untrusted tree, and everything one may do below it.
//!
//! [`Tree`] resolves paths of several components and never leaves its root, [`Dir`] acts on single names in an
//! open directory and never follows a link, [`Node`] is one object held by an `O_PATH` descriptor. A device or
//! FIFO is never opened. Decides nothing: which links may be followed is the caller's choice.

mod dir;
mod node;
mod resolve;

pub use dir::{Dir, DirEntry};
pub use node::{Kind, Meta, Node, Time, Xattr};
pub use resolve::{LastLink, Resolved};

use crate::{SysError, SysResult};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    ffi::OsStr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// An open root directory; every path given to it is resolved inside it, absolute paths and `..` included.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// How links met in a path are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// Followed, with the tree's root as `/`.
    InRoot,
    /// Refused with `ELOOP`, in every position.
    None,
}

impl Tree {
    /// Opens the directory at a path the caller trusts; its last component must not be a link.
    ///
    /// # Errors
    /// Whatever `open(2)` gives.
    pub fn open(path: &Path) -> SysResult<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| SysError::new("open directory", shown(path), e))?;
        Ok(Self { root })
    }

    /// Takes an open directory as root.
    #[must_use]
    pub fn from_fd(root: OwnedFd) -> Self {
        Self { root }
    }

    /// A second handle on the same root.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn try_clone(&self) -> SysResult<Self> {
        let root =
            self.root.try_clone().map_err(|e| SysError::new("duplicate descriptor of", "a root", e))?;
        Ok(Self { root })
    }

    /// The root as a [`Dir`].
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn root_dir(&self) -> SysResult<Dir> {
        Ok(Dir::from_fd(self.try_clone()?.root))
    }

    /// The object at `path`, links followed inside the root, the last one too.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP` and the others of `openat2(2)`.
    pub fn follow(&self, path: &Path) -> SysResult<Node> {
        Node::from_fd(self.open_at(path, OFlags::PATH, Links::InRoot)?, path)
    }

    /// The object at `path`; links in the middle are followed inside the root, a last one is itself the object.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP` and the others of `openat2(2)`.
    pub fn node(&self, path: &Path) -> SysResult<Node> {
        Node::from_fd(self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Links::InRoot)?, path)
    }

    /// The object at `path`, of whose components none but the last may be a link, which is itself the object.
    ///
    /// # Errors
    /// `ELOOP` when a link is in the way; else as [`Self::node`].
    pub fn exact(&self, path: &Path) -> SysResult<Node> {
        Node::from_fd(self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Links::None)?, path)
    }

    /// The directory at `path`, links followed inside the root.
    ///
    /// # Errors
    /// `ENOTDIR` when it is something else; else as [`Self::node`].
    pub fn dir(&self, path: &Path) -> SysResult<Dir> {
        self.open_at(path, OFlags::DIRECTORY, Links::InRoot).map(Dir::from_fd)
    }

    /// The directory at `path`, of whose components none may be a link.
    ///
    /// # Errors
    /// `ELOOP` when a link is in the way, `ENOTDIR` when it is something else; else as [`Self::node`].
    pub fn exact_dir(&self, path: &Path) -> SysResult<Dir> {
        self.open_at(path, OFlags::DIRECTORY, Links::None).map(Dir::from_fd)
    }

    /// The content of the regular file at `path`, links followed inside the root; `None` when it has more than
    /// `limit` bytes.
    ///
    /// # Errors
    /// `EINVAL` when it is not a regular file; else as [`Self::follow`] and `read(2)`.
    pub fn read_file(&self, path: &Path, limit: u64) -> SysResult<Option<Vec<u8>>> {
        self.follow(path)?.read(limit)
    }

    fn open_at(&self, path: &Path, flags: OFlags, links: Links) -> SysResult<OwnedFd> {
        let resolve = match links {
            Links::InRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::None => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        };
        let relative = relative(path);
        // a directory that is moved while the kernel walks through `..` makes it give up with EAGAIN
        for _ in 0..RACE_RETRIES {
            match rustix::fs::openat2(&self.root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.map_err(|e| SysError::new("open", shown(path), e)),
            }
        }
        Err(SysError::new("open", shown(path), Errno::AGAIN))
    }
}

const RACE_RETRIES: usize = 64;

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// The path without its leading slashes, `.` for the root.
fn relative(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let rest = bytes.get(start..).unwrap_or_default();
    Path::new(OsStr::from_bytes(if rest.is_empty() { b"." } else { rest }))
}

/// A path as an error shows it: control characters escaped, as they may come from a hostile tree.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests;
