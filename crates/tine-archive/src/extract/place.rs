//! Where members go: opening and making their directories, making room for them, hard links.

use super::{Extractor, place};
use crate::{
    entry::Member,
    error::{ArchiveError, Result},
    policy::Conflicts,
};
use rustix::io::Errno;
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path},
    rc::Rc,
};
use tine_sys::{
    SysResult,
    tree::{Dir, Kind, LastLink},
};

impl Extractor<'_> {
    /// The directory a member lies in, made if it is missing.
    pub(super) fn parent(&mut self, member: &Member, path: &[u8]) -> Result<Rc<Dir>> {
        if let Some((cached, dir)) = &self.parent
            && cached == path
        {
            return Ok(Rc::clone(dir));
        }
        let dir = Rc::new(self.open_parent(member, Path::new(OsStr::from_bytes(path)))?);
        self.parent = Some((path.to_vec(), Rc::clone(&dir)));
        Ok(dir)
    }

    fn open_parent(&self, member: &Member, path: &Path) -> Result<Dir> {
        match self.tree.exact_dir(path) {
            Err(e)
                if [Errno::NOENT, Errno::LOOP, Errno::NOTDIR]
                    .iter()
                    .any(|n| n.raw_os_error() == e.errno()) =>
            {
                self.open_parent_by_parts(member, path)
            }
            other => other.map_err(|e| ArchiveError::tree(&member.name, e)),
        }
    }

    /// Follows links that were there before this archive, and makes what is missing.
    fn open_parent_by_parts(&self, member: &Member, path: &Path) -> Result<Dir> {
        let allow = |link: &tine_sys::tree::Meta| !self.made_links.contains(&(link.dev, link.ino));
        let resolved = self.tree.resolve_with(path, LastLink::Follow, &allow).map_err(|e| {
            if e.errno() == Errno::ACCESS.raw_os_error() {
                ArchiveError::hostile(&member.name, "is written through a link that the archive itself made")
            } else {
                ArchiveError::tree(&member.name, e)
            }
        })?;
        let mut dir = self.tree.root_dir()?;
        for part in resolved.path.components() {
            if let Component::Normal(name) = part {
                dir = open_or_make(member, &dir, name)?;
            }
        }
        Ok(dir)
    }

    /// Makes an object under a name, in the place of what has that name.
    pub(super) fn place<T>(
        &mut self,
        member: &Member,
        dir: &Dir,
        name: &OsStr,
        make: impl Fn(&Dir, &OsStr) -> SysResult<T>,
    ) -> Result<T> {
        let made = match make(dir, name) {
            Err(e) if e.errno() == Errno::EXIST.raw_os_error() => {
                self.make_room(member, dir, name)?;
                make(dir, name)
            }
            other => other,
        };
        made.map_err(|e| ArchiveError::tree(&member.name, e))
    }

    fn make_room(&mut self, member: &Member, dir: &Dir, name: &OsStr) -> Result<()> {
        let fail = |e| ArchiveError::tree(&member.name, e);
        if dir.stat(name).map_err(fail)?.kind != Kind::Dir {
            return dir.remove(name).map_err(fail);
        }
        // the directory that goes may be the one kept open, or hold it
        self.parent = None;
        let refuse = |why| Err(ArchiveError::hostile(&member.name, why));
        if self.policy.conflicts == Conflicts::KeepDirectories {
            return refuse("is no directory and would replace one");
        }
        match dir.remove_dir(name) {
            Err(e) if [Errno::NOTEMPTY, Errno::EXIST].iter().any(|n| n.raw_os_error() == e.errno()) => {
                refuse("is no directory and would replace one that is not empty")
            }
            other => other.map_err(fail),
        }
    }

    /// Gives an existing object of the tree a second name.
    pub(super) fn hard_link(&mut self, member: &Member, dir: &Dir, name: &OsStr) -> Result<()> {
        let refuse = |why: &str| ArchiveError::hostile(&member.name, format!("is a hard link {why}"));
        let Ok(Some(target)) = place(&member.name, &member.link) else {
            return Err(refuse("that leads out of the archive"));
        };
        let allow = |link: &tine_sys::tree::Meta| !self.made_links.contains(&(link.dev, link.ino));
        let path = Path::new(OsStr::from_bytes(&target.dir));
        let resolved = self.tree.resolve_with(path, LastLink::Follow, &allow);
        let from = resolved
            .and_then(|r| self.tree.exact_dir(&r.path))
            .map_err(|_| refuse("to what is not there or lies behind a link"))?;
        let object = from.stat(target.name).map_err(|_| refuse("to what is not there"))?;
        match object.kind {
            Kind::Dir => return Err(refuse("to a directory")),
            Kind::Char | Kind::Block => return Err(refuse("to a device")),
            _ => {}
        }
        if dir.stat(name).is_ok_and(|existing| existing.same_inode(&object)) {
            return Ok(());
        }
        self.place(member, dir, name, |dir, name| dir.create_hard_link(&from, target.name, name))?;
        if object.kind == Kind::Symlink {
            self.made_links.insert((object.dev, object.ino));
        }
        Ok(())
    }
}

fn open_or_make(member: &Member, dir: &Dir, name: &OsStr) -> Result<Dir> {
    let opened = match dir.open_dir(name) {
        Err(e) if e.errno() == Errno::NOENT.raw_os_error() => {
            dir.create_dir(name, 0o755).and_then(|()| dir.open_dir(name))
        }
        other => other,
    };
    opened.map_err(|e| match Errno::from_raw_os_error(e.errno()) {
        Errno::NOTDIR | Errno::LOOP => ArchiveError::hostile(&member.name, "lies below what is no directory"),
        _ => ArchiveError::tree(&member.name, e),
    })
}
