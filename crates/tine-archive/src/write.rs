//! A tree as a tar: names in the order of their bytes, extended headers only where a plain one does not suffice.
//!
//! Never follows a link, never opens a device or FIFO, and writes as many bytes of a file as its header says, even
//! when the file changes meanwhile.

mod header;

use crate::{
    entry::{BLOCK, SparseMap},
    error::{ArchiveError, Result},
    extract::is_portable,
    sparse::SEGMENTS_MAX,
};
use header::Outgoing;
use rustix::{fs::SeekFrom, io::Errno};
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{BufWriter, Write},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
    vec,
};
use tine_model::{RawPath, Reporter};
use tine_sys::tree::{Dir, Kind, LastLink, Node, Tree};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteStats {
    /// Members.
    pub members: u64,
    /// Bytes of content, holes not counted.
    pub bytes: u64,
}

/// Writes what lies at `start` of `tree` (a last link is itself meant) as an uncompressed tar. The first member is
/// called `name`; without one `start` is the archive's own root, `./`, and what lies in it has no prefix. Tells
/// `reporter` how many bytes of content are written.
///
/// # Errors
/// [`ArchiveError`]; what is written by then is no archive.
pub fn write(
    tree: &Tree,
    start: &Path,
    name: Option<&OsStr>,
    out: &mut dyn Write,
    reporter: &dyn Reporter,
) -> Result<WriteStats> {
    let base = tree.resolve(start, LastLink::Keep)?.path;
    let mut writer = Writer {
        tree,
        base,
        out: BufWriter::with_capacity(1 << 20, out),
        reporter,
        hard_links: HashMap::new(),
        stats: WriteStats::default(),
        buffer: vec![0; 1 << 18],
    };
    writer.run(name)?;
    // two empty blocks are the end mark
    writer.put(&[0; 2 * BLOCK])?;
    writer.out.flush().map_err(ArchiveError::write)?;
    Ok(writer.stats)
}

struct Writer<'a> {
    tree: &'a Tree,
    /// Where the archive begins, without links.
    base: PathBuf,
    out: BufWriter<&'a mut dyn Write>,
    reporter: &'a dyn Reporter,
    /// First name of each inode of which more names are to come, and how many.
    hard_links: HashMap<(u64, u64), (Vec<u8>, u64)>,
    stats: WriteStats,
    buffer: Vec<u8>,
}

/// A directory being written.
struct Level {
    /// Below the base, without a leading slash; empty for the base.
    path: Vec<u8>,
    names: vec::IntoIter<OsString>,
    /// Closed while a directory below is written, so that depth costs no descriptors.
    dir: Option<Dir>,
}

impl Writer<'_> {
    fn run(&mut self, name: Option<&OsStr>) -> Result<()> {
        let node = self.tree.exact(&self.base)?;
        let prefix = name.map_or(&b""[..], OsStr::as_bytes);
        if node.meta().kind != Kind::Dir {
            let shown = if prefix.is_empty() { b"." } else { prefix };
            return self.member(&node, shown.to_vec());
        }
        self.member(&node, if prefix.is_empty() { b".".to_vec() } else { prefix.to_vec() })?;
        let mut levels = vec![level(Vec::new(), node.open_dir()?)?];
        while let Some(current) = levels.last_mut() {
            let Some(name) = current.names.next() else {
                levels.pop();
                continue;
            };
            let below = self.entry(current, &name, prefix)?;
            levels.extend(below);
        }
        Ok(())
    }

    /// Writes one name; gives the level to go on with when it is a directory.
    fn entry(&mut self, at: &mut Level, name: &OsStr, prefix: &[u8]) -> Result<Option<Level>> {
        let path = joined(&at.path, name.as_bytes());
        let fail = |e| ArchiveError::tree(&path, e);
        let dir = match at.dir.take() {
            Some(dir) => dir,
            None => self.reopen(&at.path)?,
        };
        let node = match dir.node(name) {
            Err(e) if e.errno() == Errno::NOENT.raw_os_error() => {
                at.dir = Some(dir);
                self.note(&path, "vanished while the archive was written");
                return Ok(None);
            }
            other => other.map_err(fail)?,
        };
        self.member(&node, joined(prefix, &path))?;
        if node.meta().kind != Kind::Dir {
            at.dir = Some(dir);
            return Ok(None);
        }
        let below = node.open_dir().map_err(fail)?;
        level(path, below).map(Some)
    }

    fn reopen(&self, path: &[u8]) -> Result<Dir> {
        let whole = self.base.join(OsStr::from_bytes(path));
        self.tree.exact_dir(&whole).map_err(|e| match Errno::from_raw_os_error(e.errno()) {
            Errno::NAMETOOLONG => {
                ArchiveError::TooLarge(format!("{} is nested too deep to be written", RawPath::new(path)))
            }
            _ => ArchiveError::tree(path, e),
        })
    }

    fn member(&mut self, node: &Node, path: Vec<u8>) -> Result<()> {
        if self.reporter.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let meta = node.meta();
        if meta.kind == Kind::Socket {
            self.note(&path, "socket left out");
            return Ok(());
        }
        self.stats.members += 1;
        if let Some(first) = self.first_name(node, &path) {
            let header = Outgoing::new(path, meta).hard_link(first);
            return self.put(&header.bytes());
        }
        let fail = |e| ArchiveError::tree(&path, e);
        let mut header = Outgoing::new(path.clone(), meta);
        header.xattrs = node.xattrs().map_err(fail)?;
        header.xattrs.retain(|x| is_portable(&x.name));
        match meta.kind {
            Kind::Symlink => header.link = node.read_link().map_err(fail)?.as_bytes().to_vec(),
            Kind::File => return self.file(node, header),
            _ => {}
        }
        self.put(&header.bytes())
    }

    /// The name under which an object with several has been written; remembers this one when it is the first.
    fn first_name(&mut self, node: &Node, path: &[u8]) -> Option<Vec<u8>> {
        let meta = node.meta();
        if meta.nlink < 2 || meta.kind == Kind::Dir {
            return None;
        }
        let key = (meta.dev, meta.ino);
        let Some((first, left)) = self.hard_links.get_mut(&key) else {
            self.hard_links.insert(key, (path.to_vec(), meta.nlink - 1));
            return None;
        };
        *left = left.saturating_sub(1);
        let first = first.clone();
        if *left == 0 {
            self.hard_links.remove(&key);
        }
        Some(first)
    }

    fn file(&mut self, node: &Node, mut header: Outgoing) -> Result<()> {
        let path = header.path.clone();
        let file = node.open_file().map_err(|e| ArchiveError::tree(&path, e))?;
        let size = node.meta().size;
        match stretches(&file, node).filter(|data| data.as_slice() != [(0, size)]) {
            Some(data) => {
                let map = header.sparse(SparseMap { size, data });
                self.put(&header.bytes())?;
                self.put(&map)?;
                let data = header.map.take().map(|m| m.data).unwrap_or_default();
                self.content(&file, &path, &data)
            }
            None => {
                header.stored = size;
                self.put(&header.bytes())?;
                self.content(&file, &path, &[(0, size)])
            }
        }
    }

    fn content(&mut self, file: &File, path: &[u8], data: &[(u64, u64)]) -> Result<()> {
        let mut total = 0u64;
        for (offset, length) in data {
            self.stretch(file, path, *offset, *length)?;
            total += length;
        }
        let block = BLOCK as u64;
        let padding = usize::try_from((block - total % block) % block).unwrap_or(0);
        self.put([0; BLOCK].get(..padding).unwrap_or_default())
    }

    /// Writes exactly `length` bytes: what the file no longer has is made up by zeros.
    fn stretch(&mut self, file: &File, path: &[u8], mut offset: u64, mut length: u64) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut ended = false;
        while length > 0 {
            if self.reporter.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let wanted = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            let mut read = if ended { 0 } else { read_at(file, piece, offset)? };
            if read == 0 {
                if !ended {
                    self.note(path, "became shorter while the archive was written; the rest is zeros");
                }
                ended = true;
                piece.fill(0);
                read = wanted;
            }
            self.put(piece.get(..read).unwrap_or_default())?;
            (offset, length) = (offset + read as u64, length - read as u64);
            self.stats.bytes += read as u64;
            self.reporter.advance(self.stats.bytes);
        }
        self.buffer = buffer;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(ArchiveError::write)
    }

    fn note(&self, path: &[u8], what: &str) {
        self.reporter.note(&format!("{}: {what}", RawPath::new(path)));
    }
}

fn level(path: Vec<u8>, dir: Dir) -> Result<Level> {
    let entries = dir.entries().map_err(|e| ArchiveError::tree(&path, e))?;
    let mut names: Vec<OsString> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    Ok(Level { path, names: names.into_iter(), dir: Some(dir) })
}

fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other.map_err(ArchiveError::from),
        }
    }
}

/// Where a file with holes has data; `None` when it has none worth a map.
fn stretches(file: &File, node: &Node) -> Option<Vec<(u64, u64)>> {
    let meta = node.meta();
    if meta.blocks.saturating_mul(512) >= meta.size {
        return None;
    }
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < meta.size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start.min(meta.size),
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).ok()?.min(meta.size);
        if end <= start {
            break;
        }
        found.push((start, end - start));
        at = end;
        if found.len() >= SEGMENTS_MAX / 16 {
            // a file of so many pieces goes on as one
            found.push((at, meta.size - at));
            break;
        }
    }
    Some(found)
}
