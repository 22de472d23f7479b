//! Differences between two disk images, by the rules of those between trees.
//!
//! A guest's disk has no record of what changed, so every name of both is looked at; content that both images share
//! in the pool is not read.

use super::{
    Changes, Found, HiddenPaths,
    compare::difference,
    file::{answer, invalid},
    object::Object,
    visible,
};
use crate::{
    Result, StoreError,
    disk::{Image, Inode, PIECE, Same, Stretch, Stretches, Visits},
};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    os::unix::ffi::OsStrExt,
};
use tine_model::{ChangeKind, DiffFile, RawPath};
use tine_sys::tree::{Kind, LastLink, Meta, Xattr};

/// The most that paths of differences may take, in bytes: they are kept in memory.
const FOUND_MAX: usize = 1 << 30;
/// The kernel's bound of a path, a closing NUL included.
const PATH_MAX: usize = 4096;

/// Which paths differ between two disk images. They must be files of one file system that nobody writes to.
///
/// # Errors
/// `Corrupt` when an image contradicts itself, `TooLarge` for one with more names than can be kept or with paths
/// longer than the kernel's bound; the kernel's.
pub fn status(older: &Image, newer: &Image) -> Result<Changes> {
    let same = Same::between(older, newer);
    let mut walk = Walk {
        images: Images { older, newer, same: &same },
        visits: (Visits::default(), Visits::default()),
        found: Found::new(),
        kept: 0,
        todo: Vec::new(),
        linked: HashMap::new(),
    };
    walk.both(b"/".to_vec(), older.root()?, newer.root()?)?;
    while let Some(look) = walk.todo.pop() {
        walk.look(look)?;
    }
    Ok(visible(walk.found, &HiddenPaths::none()))
}

/// How the object at `path` (absolute or from the root) differs between two disk images, as
/// [`file`](super::file()) says it for trees.
///
/// # Errors
/// `InvalidPath` for a directory and for a path that leads through too many links; `NotFound` when neither image has
/// it; `TooLarge` when either side has more than 1 MiB; `Corrupt`; the kernel's.
pub fn file(older: &Image, newer: &Image, path: &RawPath) -> Result<DiffFile> {
    let same = Same::default();
    let images = Images { older, newer, same: &same };
    let (was, is) = (side(images, older, path)?, side(images, newer, path)?);
    // images may resolve links differently; the newer one's answer is the path as a user sees it now
    let shown = if is.1.is_some() || was.1.is_none() { is.0 } else { was.0 };
    answer(shown, was.1, is.1)
}

fn side<'a>(
    images: Images<'a>,
    image: &'a Image,
    asked: &RawPath,
) -> Result<(RawPath, Option<DiskObject<'a>>)> {
    if asked.as_bytes().is_empty() || asked.as_bytes().contains(&0) {
        return Err(invalid(asked, "is empty or holds a NUL"));
    }
    let found = image.resolve(asked, LastLink::Keep)?;
    if found.inode.as_ref().is_some_and(|inode| inode.meta().kind == Kind::Dir) {
        return Err(invalid(asked, "is a directory"));
    }
    let object = found.inode.map(|inode| DiskObject { images, image, inode });
    Ok((RawPath::new(found.path.as_os_str().as_bytes()), object))
}

/// Two images and what they share.
#[derive(Clone, Copy)]
struct Images<'a> {
    older: &'a Image,
    newer: &'a Image,
    same: &'a Same,
}

/// An object of one of the images.
struct DiskObject<'a> {
    images: Images<'a>,
    image: &'a Image,
    inode: Inode,
}

impl Object for DiskObject<'_> {
    fn meta(&self) -> &Meta {
        self.inode.meta()
    }

    fn xattrs(&self) -> Result<Vec<Xattr>> {
        self.image.xattrs(&self.inode)
    }

    fn read_link(&self) -> Result<OsString> {
        self.image.read_link(&self.inode)
    }

    fn read(&self, limit: u64) -> Result<Option<Vec<u8>>> {
        self.image.read_file(&self.inode, limit)
    }

    fn same_content(&self, newer: &Self) -> Result<bool> {
        let size = self.meta().size;
        if size != newer.meta().size {
            return Ok(false);
        }
        Contents::new(self, newer)?.same(size)
    }
}

/// The names of one directory on either side.
struct Look {
    path: Vec<u8>,
    older: Option<u32>,
    newer: Option<u32>,
}

struct Walk<'a> {
    images: Images<'a>,
    visits: (Visits, Visits),
    found: Found,
    /// Bytes of the paths found.
    kept: usize,
    todo: Vec<Look>,
    /// Whether files that have several names on both sides differ, so that it is found out once.
    linked: HashMap<(u32, u32), bool>,
}

impl Walk<'_> {
    fn look(&mut self, look: Look) -> Result<()> {
        let older = look.older.map(|number| self.images.older.inode(number)).transpose()?;
        let newer = look.newer.map(|number| self.images.newer.inode(number)).transpose()?;
        match (older, newer) {
            (Some(older), Some(newer)) => self.both(look.path, older, newer),
            (Some(older), None) => self.whole(look.path, &older, ChangeKind::Deleted),
            (None, Some(newer)) => self.whole(look.path, &newer, ChangeKind::Added),
            (None, None) => Ok(()),
        }
    }

    fn both(&mut self, path: Vec<u8>, older: Inode, newer: Inode) -> Result<()> {
        let dirs = (older.meta().kind == Kind::Dir, newer.meta().kind == Kind::Dir);
        let was = DiskObject { images: self.images, image: self.images.older, inode: older };
        let is = DiskObject { images: self.images, image: self.images.newer, inode: newer };
        if self.differ(&was, &is)? {
            self.insert(&path, ChangeKind::Modified)?;
        }
        if dirs.0 || dirs.1 {
            let older = dirs.0.then_some(&was.inode);
            let newer = dirs.1.then_some(&is.inode);
            self.below(&path, older, newer)?;
        }
        Ok(())
    }

    fn differ(&mut self, older: &DiskObject<'_>, newer: &DiskObject<'_>) -> Result<bool> {
        if older.meta().nlink < 2 || newer.meta().nlink < 2 {
            return Ok(difference(older, newer)?.is_some());
        }
        let key = (older.inode.number(), newer.inode.number());
        if let Some(known) = self.linked.get(&key) {
            return Ok(*known);
        }
        let found = difference(older, newer)?.is_some();
        self.linked.insert(key, found);
        Ok(found)
    }

    /// Lists an object that only one image has, with all below it.
    fn whole(&mut self, path: Vec<u8>, inode: &Inode, kind: ChangeKind) -> Result<()> {
        self.insert(&path, kind)?;
        match (inode.meta().kind, kind) {
            (Kind::Dir, ChangeKind::Deleted) => self.below(&path, Some(inode), None),
            (Kind::Dir, _) => self.below(&path, None, Some(inode)),
            _ => Ok(()),
        }
    }

    /// Looks at every name that either of two directories has.
    fn below(&mut self, path: &[u8], older: Option<&Inode>, newer: Option<&Inode>) -> Result<()> {
        let mut looks: BTreeMap<OsString, (Option<u32>, Option<u32>)> = BTreeMap::new();
        if let Some(older) = older {
            for (name, number) in self.visits.0.enter(self.images.older, older)? {
                looks.entry(name).or_default().0 = Some(number);
            }
        }
        if let Some(newer) = newer {
            for (name, number) in self.visits.1.enter(self.images.newer, newer)? {
                looks.entry(name).or_default().1 = Some(number);
            }
        }
        let prefix = path.strip_suffix(b"/").unwrap_or(path);
        for (name, (older, newer)) in looks {
            let path = [prefix, b"/", name.as_bytes()].concat();
            if path.len() > PATH_MAX {
                let message = "the tree has directories nested deeper than a path can say";
                return Err(StoreError::TooLarge { message: message.to_owned() });
            }
            self.todo.push(Look { path, older, newer });
        }
        Ok(())
    }

    fn insert(&mut self, path: &[u8], kind: ChangeKind) -> Result<()> {
        self.kept = self.kept.saturating_add(path.len());
        if self.kept > FOUND_MAX {
            let message = "there are more differences than can be listed".to_owned();
            return Err(StoreError::TooLarge { message });
        }
        self.found.insert(path.to_vec(), kind);
        Ok(())
    }
}

/// Where two files' content lies, side by side.
struct Contents<'a> {
    images: Images<'a>,
    older: Side<'a>,
    newer: Side<'a>,
    /// Most files are never read, so these grow when they are needed.
    buffers: (Vec<u8>, Vec<u8>),
}

/// One file's stretches.
struct Side<'a> {
    image: &'a Image,
    stretches: Stretches<'a>,
    /// The one at or after the place that is being compared.
    current: Option<Stretch>,
}

impl<'a> Contents<'a> {
    fn new(older: &DiskObject<'a>, newer: &DiskObject<'a>) -> Result<Self> {
        let side = |object: &DiskObject<'a>| -> Result<Side<'a>> {
            let mut stretches = object.image.stretches(&object.inode)?;
            let current = stretches.next().transpose()?;
            Ok(Side { image: object.image, stretches, current })
        };
        let (images, older, newer) = (older.images, side(older)?, side(newer)?);
        Ok(Self { images, older, newer, buffers: (Vec::new(), Vec::new()) })
    }

    fn same(mut self, size: u64) -> Result<bool> {
        let mut at = 0;
        while at < size {
            self.older.forward(at)?;
            self.newer.forward(at)?;
            let end = self.older.until(at).min(self.newer.until(at)).min(size);
            if !self.same_between(at, end)? {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    /// Compares a part that is one stretch or one hole on either side.
    fn same_between(&mut self, from: u64, to: u64) -> Result<bool> {
        let (older, newer) = (self.older.place(from), self.newer.place(from));
        let images = (self.images.older, self.images.newer);
        match (older, newer) {
            (None, None) => return Ok(true),
            (Some(a), Some(b)) if a == b && self.images.same.covers(images, a, to - from) => return Ok(true),
            _ => {}
        }
        for done in (0..to - from).step_by(PIECE) {
            let length = (to - from - done).min(PIECE as u64) as usize;
            let older = self.older.read(older, done, sized(&mut self.buffers.0, length))?;
            let newer = self.newer.read(newer, done, sized(&mut self.buffers.1, length))?;
            if older != newer {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Side<'_> {
    /// Goes on to the stretch that `at` lies in or before.
    fn forward(&mut self, at: u64) -> Result<()> {
        while self.current.is_some_and(|stretch| stretch.offset + stretch.length <= at) {
            self.current = self.stretches.next().transpose()?;
        }
        Ok(())
    }

    /// Where the stretch or hole that `at` lies in ends.
    fn until(&self, at: u64) -> u64 {
        match self.current {
            Some(stretch) if stretch.offset <= at => stretch.offset + stretch.length,
            Some(stretch) => stretch.offset,
            None => u64::MAX,
        }
    }

    /// Where `at` lies on the disk; none in a hole.
    fn place(&self, at: u64) -> Option<u64> {
        self.current
            .filter(|stretch| stretch.offset <= at)
            .map(|stretch| stretch.place + (at - stretch.offset))
    }

    /// What lies `done` bytes behind a place; zeros in a hole.
    fn read<'b>(&self, place: Option<u64>, done: u64, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
        match place {
            Some(place) => self.image.read_at(place + done, buffer)?,
            None => buffer.fill(0),
        }
        Ok(buffer)
    }
}

fn sized(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    buffer.resize(length, 0);
    buffer
}
