//! Members into a tree.
//!
//! Every member is made by a single name in a directory that was opened without following links, so nothing
//! outside the tree can be reached. A link that lay in the tree before (such as `/lib` of a merged-usr root) is
//! followed inside the tree when a member lies below it; one that this archive made never is, since the only
//! archives that write through their own links are attacks. Existing objects are replaced, never opened.

mod directories;
mod place;

use crate::{
    decompress::decompress,
    entry::{Member, MemberKind},
    error::{ArchiveError, Result},
    policy::{Devices, Limits, Ownership, Policy, Privileges},
    reader::TarReader,
};
use directories::Pending;
use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::File,
    io::{BufRead, Read, Write},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};
use tine_model::{RawPath, Reporter};
use tine_sys::{
    SysError,
    tree::{Dir, Kind, Meta, Node, Time, Tree, Xattr},
};

/// What an extraction made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtractStats {
    /// Members read.
    pub members: u64,
    /// Bytes of content written, holes not counted.
    pub bytes: u64,
}

/// Extracts a tar (plain, gzip, zstd or xz) into `tree`. Tells `reporter` how many bytes of `input` have been read.
///
/// # Errors
/// [`ArchiveError`]; what was extracted before it stays for the caller to drop.
pub fn extract(
    input: &mut (dyn Read + Send),
    tree: &Tree,
    limits: &Limits,
    policy: &Policy,
    reporter: &dyn Reporter,
) -> Result<ExtractStats> {
    let consumed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let data = decompress(scope, input, &consumed)?;
        let mut extractor = Extractor {
            tree,
            limits,
            policy,
            reporter,
            consumed: &consumed,
            stats: ExtractStats::default(),
            parent: None,
            made_links: HashSet::new(),
            pending: Pending::default(),
        };
        let mut reader = TarReader::new(data);
        extractor.run(&mut reader)?;
        Ok(extractor.stats)
    })
}

struct Extractor<'a> {
    tree: &'a Tree,
    limits: &'a Limits,
    policy: &'a Policy,
    reporter: &'a dyn Reporter,
    consumed: &'a AtomicU64,
    stats: ExtractStats,
    /// The directory of the last member: the next one mostly lies in the same.
    parent: Option<(Vec<u8>, Rc<Dir>)>,
    /// Device and inode of the links this archive made.
    made_links: HashSet<(u64, u64)>,
    pending: Pending,
}

/// Where a member goes: its directory's path with `/` between the components, and its own name.
struct Place<'m> {
    dir: Vec<u8>,
    name: &'m OsStr,
}

impl Extractor<'_> {
    fn run<R: BufRead>(&mut self, reader: &mut TarReader<R>) -> Result<()> {
        while let Some(member) = reader.next()? {
            self.count(&member)?;
            match place(&member.name, &member.name)? {
                Some(place) => self.member(reader, &member, &place)?,
                None => self.root(&member)?,
            }
        }
        self.finish_directories()?;
        self.report();
        Ok(())
    }

    /// Refuses what would pass a limit before anything of it is written.
    fn count(&mut self, member: &Member) -> Result<()> {
        self.stats.members += 1;
        if self.stats.members > self.limits.members {
            return Err(ArchiveError::TooLarge(format!(
                "the archive has more than {} members",
                self.limits.members
            )));
        }
        if member.stored > self.limits.bytes.saturating_sub(self.stats.bytes) {
            let (name, limit) =
                (RawPath::new(member.name.as_slice()), tine_model::ByteSize(self.limits.bytes));
            return Err(ArchiveError::TooLarge(format!(
                "with {name} the archive has more content than {limit}"
            )));
        }
        self.stats.bytes += member.stored;
        if self.stats.members.is_multiple_of(REPORT_EVERY) {
            self.report();
        }
        self.check_cancelled()
    }

    fn report(&self) {
        self.reporter.advance(self.consumed.load(Ordering::Relaxed));
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.reporter.is_cancelled() { Err(ArchiveError::Cancelled) } else { Ok(()) }
    }

    fn member<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        member: &Member,
        at: &Place<'_>,
    ) -> Result<()> {
        let dir = self.parent(member, &at.dir)?;
        match member.kind {
            MemberKind::File => self.file(reader, member, &dir, at.name),
            MemberKind::Dir => self.directory(member, &dir, at),
            MemberKind::Symlink => self.symlink(member, &dir, at.name),
            MemberKind::HardLink => self.hard_link(member, &dir, at.name),
            MemberKind::Fifo => self.special(member, &dir, at.name, (Kind::Fifo, (0, 0))),
            MemberKind::Char(major, minor) => {
                self.device(member, &dir, at.name, (Kind::Char, (major, minor)))
            }
            MemberKind::Block(major, minor) => {
                self.device(member, &dir, at.name, (Kind::Block, (major, minor)))
            }
        }
    }

    fn file<R: BufRead>(
        &mut self,
        reader: &mut TarReader<R>,
        member: &Member,
        dir: &Dir,
        name: &OsStr,
    ) -> Result<()> {
        let mode = self.mode(member);
        // set-id bits come last, when the content and the owner are right
        let mut file = self.place(member, dir, name, |dir, name| dir.create_file(name, mode & 0o777))?;
        match &member.sparse {
            None => self.content(reader, member, &mut file)?,
            Some(map) => self.sparse_content(reader, member, &file, map)?,
        }
        self.finish_file(member, &file)
    }

    fn content<R: BufRead>(&self, reader: &mut TarReader<R>, member: &Member, file: &mut File) -> Result<()> {
        loop {
            let piece = reader.content()?;
            let length = piece.len();
            if length == 0 {
                return Ok(());
            }
            file.write_all(piece).map_err(|e| failed(member, "write", e))?;
            reader.consume(length);
            self.after_piece()?;
        }
    }

    fn sparse_content<R: BufRead>(
        &self,
        reader: &mut TarReader<R>,
        member: &Member,
        file: &File,
        map: &crate::entry::SparseMap,
    ) -> Result<()> {
        file.set_len(map.size).map_err(|e| failed(member, "set size of", e))?;
        for (offset, length) in &map.data {
            let (mut at, mut left) = (*offset, *length);
            while left > 0 {
                let piece = reader.content()?;
                let take = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                file.write_all_at(piece.get(..take).unwrap_or_default(), at)
                    .map_err(|e| failed(member, "write", e))?;
                reader.consume(take);
                (at, left) = (at + take as u64, left - take as u64);
                self.after_piece()?;
            }
        }
        Ok(())
    }

    fn after_piece(&self) -> Result<()> {
        self.report();
        self.check_cancelled()
    }

    /// Owner, mode, attributes and time, in the order in which none undoes another.
    fn finish_file(&self, member: &Member, file: &File) -> Result<()> {
        let fail = |what, e: rustix::io::Errno| failed(member, what, e.into());
        let stat = rustix::fs::fstat(file).map_err(|e| fail("stat", e))?;
        let mut mode = stat.st_mode & 0o7777;
        if let Some((uid, gid)) = self.owner(member).filter(|owner| *owner != (stat.st_uid, stat.st_gid)) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|e| fail("set owner of", e))?;
            mode &= 0o777;
        }
        if mode != self.mode(member) {
            rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(self.mode(member)))
                .map_err(|e| fail("set mode of", e))?;
        }
        for xattr in self.xattrs(member) {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(file, xattr.name.as_os_str(), &xattr.value, flags)
                .map_err(|e| fail("set attribute of", e))?;
        }
        rustix::fs::futimens(file, &times(member.mtime)).map_err(|e| fail("set time of", e))
    }

    fn symlink(&mut self, member: &Member, dir: &Dir, name: &OsStr) -> Result<()> {
        if member.link.is_empty() || member.link.len() >= PATH_MAX || member.link.contains(&0) {
            return Err(ArchiveError::hostile(&member.name, "is a link with an empty or too long target"));
        }
        let target = OsStr::from_bytes(&member.link);
        self.place(member, dir, name, |dir, name| dir.create_symlink(target, name))?;
        let node = self.made(member, dir, name, Kind::Symlink)?;
        self.made_links.insert((node.meta().dev, node.meta().ino));
        self.finish_node(member, &node)
    }

    fn device(&mut self, member: &Member, dir: &Dir, name: &OsStr, node: (Kind, (u32, u32))) -> Result<()> {
        if self.policy.devices == Devices::Skip {
            self.reporter.note(&format!("{}: device left out", RawPath::new(member.name.as_slice())));
            return Ok(());
        }
        if node.0 != Kind::Char || !WELL_KNOWN.contains(&node.1) {
            let (major, minor) = node.1;
            return Err(ArchiveError::hostile(&member.name, format!("is a device node ({major}, {minor})")));
        }
        self.special(member, dir, name, node)
    }

    fn special(&mut self, member: &Member, dir: &Dir, name: &OsStr, node: (Kind, (u32, u32))) -> Result<()> {
        let (kind, device) = node;
        let mode = self.mode(member) & 0o777;
        self.place(member, dir, name, |dir, name| dir.create_special(name, kind, mode, device))?;
        let node = self.made(member, dir, name, kind)?;
        self.finish_node(member, &node)
    }

    /// The object just made, held so that what follows can't meet another one.
    fn made(&self, member: &Member, dir: &Dir, name: &OsStr, kind: Kind) -> Result<Node> {
        let node = dir.node(name).map_err(|e| ArchiveError::tree(&member.name, e))?;
        if node.meta().kind == kind {
            Ok(node)
        } else {
            Err(ArchiveError::hostile(&member.name, "was replaced while it was being made"))
        }
    }

    fn finish_node(&self, member: &Member, node: &Node) -> Result<()> {
        self.attributes(member, node).map_err(|e| ArchiveError::tree(&member.name, e))
    }

    fn attributes(&self, member: &Member, node: &Node) -> Result<(), SysError> {
        let meta: &Meta = node.meta();
        if let Some((uid, gid)) = self.owner(member).filter(|owner| *owner != (meta.uid, meta.gid)) {
            node.set_owner(uid, gid)?;
        }
        if meta.kind != Kind::Symlink && meta.mode != self.mode(member) {
            node.set_mode(self.mode(member))?;
        }
        // no file system keeps attributes of users on links and special files
        for xattr in self.xattrs(member).filter(|x| !x.name.as_bytes().starts_with(b"user.")) {
            node.set_xattr(xattr)?;
        }
        node.set_mtime(member.mtime)
    }

    fn mode(&self, member: &Member) -> u32 {
        match self.policy.privileges {
            Privileges::Keep => member.mode,
            Privileges::Drop => member.mode & 0o777,
        }
    }

    fn owner(&self, member: &Member) -> Option<(u32, u32)> {
        (self.policy.ownership == Ownership::Archive).then_some((member.uid, member.gid))
    }

    /// Those attributes of a member that the policy lets through.
    fn xattrs<'m>(&self, member: &'m Member) -> impl Iterator<Item = &'m Xattr> {
        let keep = self.policy.privileges == Privileges::Keep;
        member.xattrs.iter().filter(move |x| keep && is_portable(&x.name))
    }
}

/// Attributes that mean the same on every machine: those of users, file capabilities and ACLs. Labels of security
/// modules and `trusted.*` are the host's own.
pub(crate) fn is_portable(name: &OsStr) -> bool {
    let exact = ["security.capability", "system.posix_acl_access", "system.posix_acl_default"];
    name.as_bytes().starts_with(b"user.") || exact.iter().any(|n| name == *n)
}

/// null, zero, full, random, urandom, tty, console, ptmx: `Documentation/admin-guide/devices.txt` of the kernel.
const WELL_KNOWN: [(u32, u32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
/// How many members go by between two reports of progress.
const REPORT_EVERY: u64 = 256;
/// The kernel's bounds of a path and a name, the closing NUL of the path included.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
const DEPTH_MAX: usize = 256;

/// Splits a path of an archive; `None` when it is the root itself.
///
/// Refused: absolute paths, `..`, NULs, and what the kernel would find too long.
fn place<'m>(member: &[u8], path: &'m [u8]) -> Result<Option<Place<'m>>> {
    let refuse = |why: &str| Err(ArchiveError::hostile(member, why));
    if path.is_empty() {
        return refuse("has an empty path");
    }
    if path.starts_with(b"/") {
        return refuse("has an absolute path");
    }
    if path.len() >= PATH_MAX || path.contains(&0) {
        return refuse("has a path that is too long or holds a NUL");
    }
    let parts = || path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    if parts().any(|part| part == b"..") {
        return refuse("has .. in its path");
    }
    if parts().any(|part| part.len() > NAME_MAX) || parts().count() > DEPTH_MAX {
        return refuse("has a name over 255 bytes or lies deeper than 256 directories");
    }
    let mut parts: Vec<&[u8]> = parts().collect();
    let Some(name) = parts.pop() else { return Ok(None) };
    Ok(Some(Place { dir: parts.join(&b'/'), name: OsStr::from_bytes(name) }))
}

fn failed(member: &Member, operation: &'static str, source: std::io::Error) -> ArchiveError {
    let object = RawPath::new(member.name.as_slice());
    ArchiveError::tree(b"", SysError::new(operation, object, source))
}

fn times(time: Time) -> rustix::fs::Timestamps {
    let spec = rustix::fs::Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    rustix::fs::Timestamps { last_access: spec, last_modification: spec }
}
