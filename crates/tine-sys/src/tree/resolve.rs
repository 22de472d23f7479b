//! Where a path leads to, link by link, without opening what lies there.

use super::{Kind, Meta, Tree, shown};
use crate::{SysError, SysResult};
use rustix::io::Errno;
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What to do when the last component is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// Go on to where it leads.
    Follow,
    /// It is itself what the path means.
    Keep,
}

/// Where a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Absolute inside the tree, without `.`, `..`, empty components and links (but for a kept last one).
    pub path: PathBuf,
    /// Whether something lies there.
    pub exists: bool,
}

/// As many links as the kernel follows in one path.
const LINKS_MAX: usize = 40;
/// More components than any path of the kernel's length can hold.
const COMPONENTS_MAX: usize = 4096;

impl Tree {
    /// Follows a path by its components with the root as `/`, `..` of the root being the root. Past a component
    /// that does not exist or is no directory the rest is taken literally.
    ///
    /// The answer holds for as long as nobody changes the tree; what acts on it opens with [`Tree::exact`].
    ///
    /// # Errors
    /// `ELOOP` after 40 links, `ENAMETOOLONG`, and those of `openat2(2)`.
    pub fn resolve(&self, path: &Path, last: LastLink) -> SysResult<Resolved> {
        self.resolve_with(path, last, &|_| true)
    }

    /// As [`Self::resolve`]; a link for which `allow` says false is refused with `EACCES`.
    ///
    /// # Errors
    /// As [`Self::resolve`], and `EACCES`.
    pub fn resolve_with(
        &self,
        path: &Path,
        last: LastLink,
        allow: &dyn Fn(&Meta) -> bool,
    ) -> SysResult<Resolved> {
        let mut walk =
            Walk { tree: self, asked: path, allow, done: Vec::new(), todo: VecDeque::new(), links: 0 };
        walk.push(path)?;
        let exists = walk.run(last)?;
        let mut path = PathBuf::from("/");
        path.extend(walk.done);
        Ok(Resolved { path, exists })
    }
}

struct Walk<'a> {
    tree: &'a Tree,
    asked: &'a Path,
    allow: &'a dyn Fn(&Meta) -> bool,
    done: Vec<OsString>,
    todo: VecDeque<OsString>,
    links: usize,
}

impl Walk<'_> {
    /// Puts a path's components before what is still to be done.
    fn push(&mut self, path: &Path) -> SysResult<()> {
        let bytes = path.as_os_str().as_bytes();
        let parts = bytes.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
        let mut todo: VecDeque<OsString> = parts.map(|part| OsStr::from_bytes(part).to_os_string()).collect();
        todo.append(&mut self.todo);
        self.todo = todo;
        if self.todo.len() > COMPONENTS_MAX { Err(self.error(Errno::NAMETOOLONG)) } else { Ok(()) }
    }

    fn run(&mut self, last: LastLink) -> SysResult<bool> {
        // how many components there were when the first missing one was met
        let mut missing: Option<usize> = None;
        while let Some(part) = self.todo.pop_front() {
            if part == ".." {
                self.done.pop();
                missing = missing.filter(|depth| self.done.len() >= *depth);
                continue;
            }
            self.done.push(part);
            if missing.is_none() && !self.step(last)? {
                missing = Some(self.done.len());
            }
        }
        Ok(missing.is_none())
    }

    /// Looks at the component just taken; false when nothing lies there.
    fn step(&mut self, last: LastLink) -> SysResult<bool> {
        let here: PathBuf = self.done.iter().collect();
        let node = match self.tree.exact(&here) {
            Ok(node) => node,
            Err(e) if [libc::ENOENT, libc::ENOTDIR].contains(&e.errno()) => return Ok(false),
            Err(e) => return Err(e),
        };
        let kept = last == LastLink::Keep && self.todo.is_empty();
        match node.meta().kind {
            Kind::Symlink if !kept => self.link(node.meta(), Path::new(&node.read_link()?))?,
            // below something that is no directory there is nothing
            kind if kind != Kind::Dir && !self.todo.is_empty() => return Ok(false),
            _ => {}
        }
        Ok(true)
    }

    fn link(&mut self, meta: &Meta, target: &Path) -> SysResult<()> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(self.error(Errno::LOOP));
        }
        if !(self.allow)(meta) {
            return Err(self.error(Errno::ACCESS));
        }
        if target.is_absolute() {
            self.done.clear();
        } else {
            self.done.pop();
        }
        self.push(target)
    }

    fn error(&self, errno: Errno) -> SysError {
        SysError::new("resolve", shown(self.asked), errno)
    }
}
