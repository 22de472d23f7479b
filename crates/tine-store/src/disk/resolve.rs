//! Where a path leads to in an image, link by link, as the box itself would see it.

use super::{Image, Inode, corrupt};
use crate::{Result, StoreError};
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};
use tine_model::RawPath;
use tine_sys::tree::{Kind, LastLink};

/// Where a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Absolute, without `.`, `..`, empty components and links (but for a kept last one).
    pub path: PathBuf,
    /// What lies there.
    pub inode: Option<Inode>,
}

/// As many links as the kernel follows in one path.
const LINKS_MAX: usize = 40;
/// More components than any path of the kernel's length can hold.
const COMPONENTS_MAX: usize = 4096;
/// The kernel's bounds of a path, its closing NUL included, and of a name.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

impl Image {
    /// Follows a path by its components, `..` of the root being the root. Past a component that does not exist or is
    /// no directory the rest is taken literally.
    ///
    /// # Errors
    /// `InvalidPath` after 40 links and for paths longer than the kernel's bounds; `Corrupt`; the kernel's.
    pub fn resolve(&self, path: &RawPath, last: LastLink) -> Result<Resolved> {
        let mut walk = Walk { image: self, asked: path, done: Vec::new(), todo: VecDeque::new(), links: 0 };
        walk.push(path.as_path())?;
        walk.run(last)?;
        let inode = match walk.done.last() {
            Some((_, inode)) => inode.clone(),
            None => Some(self.root()?),
        };
        let mut path = PathBuf::from("/");
        path.extend(walk.done.into_iter().map(|(name, _)| name));
        Ok(Resolved { path, inode })
    }
}

struct Walk<'a> {
    image: &'a Image,
    asked: &'a RawPath,
    /// Names from the root on, with what each stands for.
    done: Vec<(OsString, Option<Inode>)>,
    todo: VecDeque<OsString>,
    links: usize,
}

impl Walk<'_> {
    /// Puts a path's components before what is still to be done.
    fn push(&mut self, path: &Path) -> Result<()> {
        let bytes = path.as_os_str().as_bytes();
        let parts = bytes.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
        let mut todo: VecDeque<OsString> = parts.map(|part| OsStr::from_bytes(part).to_os_string()).collect();
        todo.append(&mut self.todo);
        self.todo = todo;
        let too_long = bytes.len() >= PATH_MAX || self.todo.len() > COMPONENTS_MAX;
        if too_long || self.todo.iter().any(|part| part.len() > NAME_MAX) {
            Err(self.refused())
        } else {
            Ok(())
        }
    }

    fn run(&mut self, last: LastLink) -> Result<()> {
        while let Some(part) = self.todo.pop_front() {
            if part == ".." {
                self.done.pop();
            } else {
                self.step(part, last)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, name: OsString, last: LastLink) -> Result<()> {
        let inode = self.below(&name)?;
        let kept = last == LastLink::Keep && self.todo.is_empty();
        let link = inode.as_ref().filter(|inode| inode.meta().kind == Kind::Symlink && !kept);
        let target = link.map(|inode| self.image.read_link(inode)).transpose()?;
        match target {
            Some(target) => self.link(Path::new(&target)),
            None => {
                self.done.push((name, inode));
                Ok(())
            }
        }
    }

    /// What a name stands for where the walk is; nothing below what is no directory.
    fn below(&self, name: &OsStr) -> Result<Option<Inode>> {
        let root;
        let dir = match self.done.last() {
            Some((_, inode)) => inode.as_ref(),
            None => {
                root = self.image.root()?;
                Some(&root)
            }
        };
        let Some(dir) = dir.filter(|dir| dir.meta().kind == Kind::Dir) else { return Ok(None) };
        match self.image.lookup(dir, name)? {
            Some(number) if number == dir.number() => Err(corrupt("a directory holds itself")),
            Some(number) => self.image.inode(number).map(Some),
            None => Ok(None),
        }
    }

    fn link(&mut self, target: &Path) -> Result<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(self.refused());
        }
        if target.is_absolute() {
            self.done.clear();
        }
        self.push(target)
    }

    fn refused(&self) -> StoreError {
        StoreError::InvalidPath {
            path: self.asked.to_string(),
            problem: "is too long or leads through too many links".to_owned(),
        }
    }
}
