//! Looks at candidates in both trees, and at all that lies below where a whole directory came, went or was replaced.

use super::{Found, compare::difference, namespace::Candidates};
use crate::{Result, StoreError};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    os::{fd::AsFd, unix::ffi::OsStrExt, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
};
use tine_model::ChangeKind;
use tine_sys::{
    SysError,
    inode::names_of_inode,
    tree::{Dir, Kind, Node, Tree},
};

/// Gathers differences of two trees.
pub(super) struct Collector<'a> {
    older: &'a Tree,
    newer: &'a Tree,
    found: Found,
    /// Relative paths still to be looked at.
    todo: Vec<Look>,
    /// Inodes whose other names have been asked for.
    linked: HashSet<u64>,
}

/// A path to look at.
struct Look {
    path: PathBuf,
    depth: Depth,
}

/// How much of a directory that both trees have is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Itself; what lies below only when it is not the same directory.
    Candidate,
    /// Everything below it.
    Everything,
}

impl<'a> Collector<'a> {
    pub fn new(older: &'a Tree, newer: &'a Tree) -> Self {
        Self { older, newer, found: Found::new(), todo: Vec::new(), linked: HashSet::new() }
    }

    /// Compares both trees in full.
    pub fn everything(mut self) -> Result<Found> {
        self.todo.push(Look { path: PathBuf::new(), depth: Depth::Everything });
        self.run()?;
        Ok(self.found)
    }

    /// Compares candidates; `None` when they cannot be trusted to be all.
    pub fn candidates(mut self, candidates: Candidates) -> Result<Option<Found>> {
        for path in candidates.paths {
            let path = PathBuf::from(OsString::from_vec(path));
            match self.other_names(&path)? {
                Some(names) => {
                    self.todo.extend(names.into_iter().map(|path| Look { path, depth: Depth::Candidate }));
                }
                None => return Ok(None),
            }
            self.todo.push(Look { path, depth: Depth::Candidate });
            self.run()?;
        }
        self.lists(&candidates.lists)?;
        self.run()?;
        Ok(Some(self.found))
    }

    /// The stream names a changed object by one of its names only. `None` when the others can't be had.
    fn other_names(&mut self, path: &Path) -> Result<Option<Vec<PathBuf>>> {
        let Some(node) = present(self.newer.exact(path))? else { return Ok(Some(Vec::new())) };
        let meta = node.meta();
        if meta.kind == Kind::Dir || meta.nlink < 2 || !self.linked.insert(meta.ino) {
            return Ok(Some(Vec::new()));
        }
        Ok(names_of_inode(self.newer.as_fd(), meta.ino).ok().flatten())
    }

    fn run(&mut self) -> Result<()> {
        while let Some(look) = self.todo.pop() {
            self.look(look)?;
        }
        Ok(())
    }

    fn look(&mut self, look: Look) -> Result<()> {
        let older = present(self.older.exact(&look.path))?;
        let newer = present(self.newer.exact(&look.path))?;
        match (older, newer) {
            (None, None) => Ok(()),
            (Some(older), None) => self.whole(&look.path, &older, ChangeKind::Deleted),
            (None, Some(newer)) => self.whole(&look.path, &newer, ChangeKind::Added),
            (Some(older), Some(newer)) => self.both(look, &older, &newer),
        }
    }

    fn both(&mut self, look: Look, older: &Node, newer: &Node) -> Result<()> {
        if difference(older, newer)?.is_some() {
            self.found.insert(absolute(&look.path), ChangeKind::Modified);
        }
        match (older.meta().kind == Kind::Dir, newer.meta().kind == Kind::Dir) {
            (true, true) => {
                // another directory under the same name shares nothing that the stream would speak of
                let replaced = older.meta().ino != newer.meta().ino;
                if replaced || look.depth == Depth::Everything {
                    self.below(&look.path, older, newer)?;
                }
                Ok(())
            }
            (true, false) => self.contents(&look.path, &older.open_dir()?, ChangeKind::Deleted),
            (false, true) => self.contents(&look.path, &newer.open_dir()?, ChangeKind::Added),
            (false, false) => Ok(()),
        }
    }

    /// Looks at every name that either of two directories has.
    fn below(&mut self, path: &Path, older: &Node, newer: &Node) -> Result<()> {
        for name in names(&older.open_dir()?)?.union(&names(&newer.open_dir()?)?) {
            self.todo.push(Look { path: path.join(name), depth: Depth::Everything });
        }
        Ok(())
    }

    /// Lists an object that only one tree has, with all below it.
    fn whole(&mut self, path: &Path, node: &Node, kind: ChangeKind) -> Result<()> {
        let key = absolute(path);
        // listed before means that what lies below is too
        if self.found.insert(key, kind).is_none() && node.meta().kind == Kind::Dir {
            self.contents(path, &node.open_dir()?, kind)?;
        }
        Ok(())
    }

    /// Lists all below a directory that only one tree has.
    fn contents(&mut self, path: &Path, dir: &Dir, kind: ChangeKind) -> Result<()> {
        let tree = if kind == ChangeKind::Deleted { self.older } else { self.newer };
        let mut todo = self.list(path, dir, kind)?;
        while let Some(path) = todo.pop() {
            let below = tree.exact_dir(&path).map_err(too_deep)?;
            todo.extend(self.list(&path, &below, kind)?);
        }
        Ok(())
    }

    /// Lists the names of one directory and gives those of them that are directories.
    fn list(&mut self, path: &Path, dir: &Dir, kind: ChangeKind) -> Result<Vec<PathBuf>> {
        let mut below = Vec::new();
        for entry in dir.entries()? {
            let path = path.join(&entry.name);
            self.found.insert(absolute(&path), kind);
            let is_dir = match entry.kind {
                Some(known) => known == Kind::Dir,
                None => dir.stat(&entry.name)?.kind == Kind::Dir,
            };
            if is_dir {
                below.push(path);
            }
        }
        Ok(below)
    }

    /// Finds names the stream does not speak of: a snapshot has an empty directory where a subvolume was nested.
    ///
    /// btrfs counts twice the length of every name in a directory's size, so a sum that does not come out right
    /// gives them away without a look at the names.
    fn lists(&mut self, dirs: &[Vec<u8>]) -> Result<()> {
        let grown = self.grown();
        for dir in dirs {
            let path = Path::new(OsStr::from_bytes(dir));
            let (Some(older), Some(newer)) =
                (present(self.older.exact(path))?, present(self.newer.exact(path))?)
            else {
                continue;
            };
            let (was, is) = (older.meta(), newer.meta());
            if was.kind != Kind::Dir || is.kind != Kind::Dir || was.ino != is.ino {
                continue;
            }
            let expected = grown.get(&absolute(path)).copied().unwrap_or(0);
            if i128::from(is.size) - i128::from(was.size) != expected {
                self.unspoken(path, &older, &newer)?;
            }
        }
        Ok(())
    }

    /// By how much each directory has grown by the names found so far.
    fn grown(&self) -> HashMap<Vec<u8>, i128> {
        let mut grown = HashMap::new();
        for (path, kind) in &self.found {
            let slash = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
            let name = path.len() - slash - 1;
            let by = match kind {
                ChangeKind::Added => 2 * name as i128,
                ChangeKind::Deleted => -2 * name as i128,
                ChangeKind::Modified => continue,
            };
            let parent = path.get(..slash.max(1)).unwrap_or_default().to_vec();
            *grown.entry(parent).or_insert(0) += by;
        }
        grown
    }

    fn unspoken(&mut self, path: &Path, older: &Node, newer: &Node) -> Result<()> {
        let (older, newer) = (names(&older.open_dir()?)?, names(&newer.open_dir()?)?);
        for name in older.symmetric_difference(&newer) {
            self.todo.push(Look { path: path.join(name), depth: Depth::Candidate });
        }
        Ok(())
    }
}

fn names(dir: &Dir) -> Result<BTreeSet<OsString>> {
    Ok(dir.entries()?.into_iter().map(|entry| entry.name).collect())
}

/// An object, or `None` where there is none; behind a link or below a file there is none.
fn present(node: Result<Node, SysError>) -> Result<Option<Node>> {
    use rustix::io::Errno;
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    match node {
        Ok(node) => Ok(Some(node)),
        Err(e) if absent.iter().any(|n| n.raw_os_error() == e.errno()) => Ok(None),
        Err(e) => Err(too_deep(e)),
    }
}

fn too_deep(error: SysError) -> StoreError {
    if error.errno() == rustix::io::Errno::NAMETOOLONG.raw_os_error() {
        StoreError::TooLarge { message: "the tree has directories nested deeper than a path can say".into() }
    } else {
        error.into()
    }
}

fn absolute(path: &Path) -> Vec<u8> {
    [b"/", path.as_os_str().as_bytes()].concat()
}
