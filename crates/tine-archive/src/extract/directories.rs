//! Directories: made at once for whoever extracts, given their owner, mode, attributes and time when everything
//! below them is there.

use super::{Extractor, Place, is_portable};
use crate::{
    entry::{Member, MemberKind},
    error::{ArchiveError, Result},
    policy::Conflicts,
};
use rustix::io::Errno;
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};
use tine_sys::{
    SysError,
    tree::{Dir, Kind, LastLink, Meta, Node, Time, Xattr},
};

/// What is kept in memory about directories until the end, in bytes.
const PENDING_MAX: usize = 256 << 20;

/// Directories whose attributes are still to be set.
#[derive(Default)]
pub(super) struct Pending {
    dirs: Vec<PendingDir>,
    bytes: usize,
}

struct PendingDir {
    path: PathBuf,
    /// What was made or met, so that no other object gets these attributes.
    inode: (u64, u64),
    owner: Option<(u32, u32)>,
    mode: u32,
    mtime: Time,
    xattrs: Vec<Xattr>,
}

impl Extractor<'_> {
    pub(super) fn directory(&mut self, member: &Member, dir: &Dir, at: &Place<'_>) -> Result<()> {
        let fail = |e| ArchiveError::tree(&member.name, e);
        if let Err(e) = dir.create_dir(at.name, 0o700) {
            if e.errno() != Errno::EXIST.raw_os_error() {
                return Err(fail(e));
            }
            if dir.stat(at.name).map_err(fail)?.kind != Kind::Dir {
                self.replace_by_directory(member, dir, at.name)?;
            } else if self.policy.conflicts == Conflicts::KeepDirectories {
                // copying into a directory is no reason to change the directory itself
                return Ok(());
            }
        }
        let made = dir.stat(at.name).map_err(fail)?;
        let path = if at.dir.is_empty() { Vec::new() } else { [at.dir.as_slice(), b"/"].concat() };
        let path = [path.as_slice(), at.name.as_bytes()].concat();
        self.defer(member, PathBuf::from(OsString::from_vec(path)), &made)
    }

    fn replace_by_directory(&mut self, member: &Member, dir: &Dir, name: &OsStr) -> Result<()> {
        if self.policy.conflicts == Conflicts::KeepDirectories {
            return Err(ArchiveError::hostile(&member.name, "is a directory and would replace what is none"));
        }
        self.parent = None;
        dir.remove(name)
            .and_then(|()| dir.create_dir(name, 0o700))
            .map_err(|e| ArchiveError::tree(&member.name, e))
    }

    /// A member that stands for the root of the tree; a copy of files leaves its target's own attributes alone.
    pub(super) fn root(&mut self, member: &Member) -> Result<()> {
        if member.kind != MemberKind::Dir {
            return Err(ArchiveError::hostile(&member.name, "stands for the root and is no directory"));
        }
        if self.policy.conflicts == Conflicts::KeepDirectories {
            return Ok(());
        }
        let meta = self.tree.root_dir()?.meta()?;
        self.defer(member, PathBuf::from("."), &meta)
    }

    fn defer(&mut self, member: &Member, path: PathBuf, made: &Meta) -> Result<()> {
        let xattrs: Vec<Xattr> = self.xattrs(member).cloned().collect();
        let values: usize = xattrs.iter().map(|x| x.name.len() + x.value.len() + size_of::<Xattr>()).sum();
        self.pending.bytes += size_of::<PendingDir>() + path.as_os_str().len() + values;
        if self.pending.bytes > PENDING_MAX {
            return Err(ArchiveError::TooLarge("the archive has too many directories".into()));
        }
        self.pending.dirs.push(PendingDir {
            path,
            inode: (made.dev, made.ino),
            owner: self.owner(member),
            mode: self.mode(member),
            mtime: member.mtime,
            xattrs,
        });
        Ok(())
    }

    /// Sets what was put off; a later member of the same name wins.
    pub(super) fn finish_directories(&mut self) -> Result<()> {
        for dir in std::mem::take(&mut self.pending.dirs) {
            self.check_cancelled()?;
            let Some(node) = self.still_there(&dir)? else { continue };
            finish(&dir, &node).map_err(|e| ArchiveError::tree(dir.path.as_os_str().as_bytes(), e))?;
        }
        Ok(())
    }

    /// The directory, unless a later member has replaced it.
    fn still_there(&self, dir: &PendingDir) -> Result<Option<Node>> {
        let found = match self.tree.exact(&dir.path) {
            // below a link that was there before
            Err(e) if e.errno() == Errno::LOOP.raw_os_error() => {
                self.tree.exact(&self.tree.resolve(&dir.path, LastLink::Keep)?.path)
            }
            other => other,
        };
        match found {
            Ok(node) if (node.meta().dev, node.meta().ino) == dir.inode => Ok(Some(node)),
            Ok(_) => Ok(None),
            Err(e) if [Errno::NOENT, Errno::NOTDIR].iter().any(|n| n.raw_os_error() == e.errno()) => Ok(None),
            Err(e) => Err(ArchiveError::tree(dir.path.as_os_str().as_bytes(), e)),
        }
    }
}

fn finish(dir: &PendingDir, node: &Node) -> Result<(), SysError> {
    let meta = node.meta();
    if let Some((uid, gid)) = dir.owner.filter(|owner| *owner != (meta.uid, meta.gid)) {
        node.set_owner(uid, gid)?;
    }
    if meta.mode != dir.mode {
        node.set_mode(dir.mode)?;
    }
    for xattr in dir.xattrs.iter().filter(|x| is_portable(&x.name)) {
        node.set_xattr(xattr)?;
    }
    node.set_mtime(dir.mtime)
}
