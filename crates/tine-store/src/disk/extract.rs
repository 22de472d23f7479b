//! An image's tree into a directory.
//!
//! Everything is made by a single name in a directory that was opened without following links, and nothing is
//! replaced: what the image has twice is damage. Labels of security modules and `trusted.*` attributes are the
//! guest's own and stay behind.

use super::{Image, Inode, Visits, content::PIECE, corrupt};
use crate::{Result, StoreError, error::at};
use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt, unix::fs::FileExt},
    path::{Path, PathBuf},
};
use tine_model::RawPath;
use tine_sys::tree::{Dir, Kind, Node, Tree, Xattr};

/// What is kept in memory about directories and linked files that are still to be met again, in bytes.
const PENDING_MAX: usize = 256 << 20;
/// The kernel's bound of a path.
const PATH_MAX: usize = 4096;
/// Where fsck puts what it finds; mkfs makes it.
const LOST_AND_FOUND: &str = "lost+found";

/// Writes the tree of an image into the empty directory `root`: owners, modes, the attributes that mean the same on
/// every machine, times of the last change of content, hard links, devices, holes. Leaves out an empty `lost+found`.
///
/// # Errors
/// `Corrupt` for an image that contradicts itself, `TooLarge` for one with paths longer than the kernel's bound,
/// `Full`; the kernel's. What was written until then stays for the caller to drop.
pub fn extract(image: &Image, root: BorrowedFd<'_>) -> Result<()> {
    let root = root.try_clone_to_owned().map_err(at("duplicate descriptor of", Path::new("a root")))?;
    let mut extraction = Extraction {
        image,
        tree: Tree::from_fd(root),
        visits: Visits::default(),
        todo: vec![(PathBuf::new(), image.root()?)],
        made: HashMap::new(),
        pending: 0,
        written: 0,
        buffer: vec![0; PIECE],
    };
    while let Some((path, directory)) = extraction.todo.pop() {
        extraction.directory(&path, &directory)?;
    }
    Ok(())
}

struct Extraction<'a> {
    image: &'a Image,
    tree: Tree,
    visits: Visits,
    /// Directories that are made and still empty, by path from the root.
    todo: Vec<(PathBuf, Inode)>,
    /// The first name of each inode that is no directory; none where it is the only one.
    made: HashMap<u32, Option<PathBuf>>,
    pending: usize,
    /// Bytes of content: an honest image has no block in two files, so it has no more of them than its own length.
    written: u64,
    buffer: Vec<u8>,
}

impl Extraction<'_> {
    /// Fills a directory, then gives it what filling it would have changed.
    fn directory(&mut self, path: &Path, directory: &Inode) -> Result<()> {
        let dir = self.tree.exact_dir(path)?;
        for (name, number) in self.visits.enter(self.image, directory)? {
            let inode = self.image.inode(number)?;
            let path = path.join(&name);
            if path.as_os_str().len() >= PATH_MAX {
                return Err(too_large("a path of the disk image is too long"));
            }
            if path != Path::new(LOST_AND_FOUND) || !self.is_empty_dir(&inode)? {
                self.object(&dir, &name, path, inode)?;
            }
        }
        let node = self.tree.exact(path)?;
        self.attributes(&node, directory)
    }

    fn is_empty_dir(&self, inode: &Inode) -> Result<bool> {
        Ok(inode.meta().kind == Kind::Dir && self.image.names(inode)?.is_empty())
    }

    fn object(&mut self, dir: &Dir, name: &OsStr, path: PathBuf, inode: Inode) -> Result<()> {
        if inode.meta().kind == Kind::Dir {
            dir.create_dir(name, 0o700)?;
            self.keep(&path)?;
            self.todo.push((path, inode));
            return Ok(());
        }
        match self.made.get(&inode.number()) {
            Some(Some(first)) => return link(&self.tree, first, dir, name),
            Some(None) => return Err(corrupt("a file has more names than it has links")),
            None => {}
        }
        self.content(dir, name, &inode)?;
        self.attributes(&dir.node(name)?, &inode)?;
        let again = (inode.meta().nlink > 1).then_some(path);
        self.keep(again.as_deref().unwrap_or(Path::new("")))?;
        self.made.insert(inode.number(), again);
        Ok(())
    }

    /// Makes an object that is no directory, for nobody but the owner of the pool until it has its attributes.
    fn content(&mut self, dir: &Dir, name: &OsStr, inode: &Inode) -> Result<()> {
        let meta = inode.meta();
        match meta.kind {
            Kind::File => {
                let file = dir.create_file(name, 0o600)?;
                self.copy(inode, &file, name)
            }
            Kind::Symlink => Ok(dir.create_symlink(&self.image.read_link(inode)?, name)?),
            kind => Ok(dir.create_special(name, kind, 0o600, meta.device)?),
        }
    }

    /// Copies what is not in holes.
    fn copy(&mut self, inode: &Inode, file: &File, name: &OsStr) -> Result<()> {
        let shown = RawPath::new(name.as_bytes()).to_string();
        let shown = Path::new(&shown);
        file.set_len(inode.meta().size).map_err(at("set size of", shown))?;
        for stretch in self.image.stretches(inode)? {
            let stretch = stretch?;
            self.written = self.written.saturating_add(stretch.length);
            if self.written > self.image.source.length() {
                return Err(corrupt("its files have the same blocks"));
            }
            for done in (0..stretch.length).step_by(PIECE) {
                let piece = (stretch.length - done).min(PIECE as u64) as usize;
                let piece = self.buffer.get_mut(..piece).unwrap_or_default();
                self.image.read_at(stretch.place + done, piece)?;
                file.write_all_at(piece, stretch.offset + done).map_err(at("write", shown))?;
            }
        }
        Ok(())
    }

    /// Owner, mode, attributes and time, in the order in which none undoes another.
    fn attributes(&self, node: &Node, inode: &Inode) -> Result<()> {
        let (is, wanted) = (node.meta(), inode.meta());
        if (is.uid, is.gid) != (wanted.uid, wanted.gid) {
            node.set_owner(wanted.uid, wanted.gid)?;
        }
        if wanted.kind != Kind::Symlink && is.mode != wanted.mode {
            node.set_mode(wanted.mode)?;
        }
        for xattr in self.image.xattrs(inode)?.iter().filter(|xattr| is_kept(xattr, wanted.kind)) {
            node.set_xattr(xattr)?;
        }
        Ok(node.set_mtime(wanted.mtime)?)
    }

    fn keep(&mut self, path: &Path) -> Result<()> {
        self.pending += path.as_os_str().len() + 2 * size_of::<(PathBuf, Inode)>();
        if self.pending > PENDING_MAX {
            return Err(too_large("the disk image has too many directories or linked files"));
        }
        Ok(())
    }
}

fn link(tree: &Tree, first: &Path, dir: &Dir, name: &OsStr) -> Result<()> {
    let parent = tree.exact_dir(first.parent().unwrap_or(Path::new("")))?;
    Ok(dir.create_hard_link(&parent, first.file_name().unwrap_or_default(), name)?)
}

/// Attributes that mean the same on every machine: those of users, which only files and directories have, file
/// capabilities and ACLs.
fn is_kept(xattr: &Xattr, kind: Kind) -> bool {
    let exact = ["security.capability", "system.posix_acl_access", "system.posix_acl_default"];
    let of_user = xattr.name.as_bytes().starts_with(b"user.") && matches!(kind, Kind::File | Kind::Dir);
    of_user || exact.iter().any(|name| xattr.name == *name)
}

fn too_large(message: &str) -> StoreError {
    StoreError::TooLarge { message: message.to_owned() }
}
