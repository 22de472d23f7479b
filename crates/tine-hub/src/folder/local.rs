//! A hub's files in a local directory.

use super::{
    names::is_part,
    storage::{Content, HubStorage, Over, Small, StoredFile},
};
use crate::{
    durable::{self, Fresh},
    error::{HubError, Result, at},
};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{Error, ErrorCode, Reporter, Sha256Digest, Silent};
use tine_sys::{lock::FileLock, reflink};

/// Readable by a web server of another user.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;
const BUFFER: usize = 1 << 20;
/// Deeper than any file of a hub.
const MAX_DEPTH: u32 = 8;

/// A directory.
#[derive(Clone)]
pub struct LocalStorage<'r> {
    dir: PathBuf,
    reporter: &'r dyn Reporter,
}

impl<'r> LocalStorage<'r> {
    /// The directory `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), reporter: &Silent }
    }

    /// The same, which stops reading and copying once `reporter` is cancelled.
    #[must_use]
    pub fn reporting(self, reporter: &'r dyn Reporter) -> Self {
        Self { reporter, ..self }
    }

    /// The directory `dir`, made where missing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        durable::make_dir(&dir, DIR_MODE)?;
        Ok(Self::new(dir))
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        if name.split('/').all(is_part) {
            return Ok(self.dir.join(name));
        }
        Err(HubError::invalid(format!("{name:?} is no name of a hub's file")))
    }

    /// Makes the folders that lead to a file, each durably.
    fn make_parents(&self, name: &str) -> Result<()> {
        let mut dir = self.dir.clone();
        let parts = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for part in parts.split('/').filter(|part| !part.is_empty()) {
            dir.push(part);
            durable::make_dir(&dir, DIR_MODE)?;
        }
        Ok(())
    }

    /// Removes the folders that a deleted file leaves empty.
    fn prune(&self, path: &Path) {
        let folders = path.ancestors().skip(1).take_while(|dir| *dir != self.dir);
        for dir in folders {
            // the first that is not empty ends it
            if fs::remove_dir(dir).is_err() {
                return;
            }
        }
    }

    fn walk(&self, folder: &str, depth: u32, found: &mut Vec<StoredFile>) -> Result<()> {
        let dir = self.dir.join(folder);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(at("read directory", &dir)(e)),
        };
        for entry in entries {
            let entry = entry.map_err(at("read directory", &dir))?;
            // a name that is no hub's is of no interest here
            let Some(name) =
                entry.file_name().to_str().filter(|n| is_part(n)).map(|n| format!("{folder}{n}"))
            else {
                continue;
            };
            let stat = entry.metadata().map_err(at("stat", &entry.path()))?;
            if stat.is_dir() && depth > 0 {
                self.walk(&format!("{name}/"), depth - 1, found)?;
            } else if stat.is_file() {
                found.push(StoredFile { name, size_bytes: stat.len() });
            }
        }
        Ok(())
    }
}

impl HubStorage for LocalStorage<'_> {
    type Lock = FileLock;
    type Tag = ();

    fn lock(&self, wait: Duration) -> Result<Option<FileLock>> {
        if !self.dir.is_dir() {
            let message = format!("there is no hub in {}", self.place());
            return Err(HubError::NotFound { message, hint: Some("tine hub init DIR".to_owned()) });
        }
        durable::lock(&self.dir, wait).map(Some)
    }

    fn read(&self, name: &str, max: u64) -> Result<Option<Small<()>>> {
        let bytes = durable::read(&self.path(name)?, max)?;
        Ok(bytes.map(|bytes| Small { bytes, tag: () }))
    }

    fn write(&self, name: &str, bytes: &[u8], _: Over<'_, ()>) -> Result<()> {
        self.path(name)?;
        self.make_parents(name)?;
        durable::write(&self.dir, name, FILE_MODE, bytes)
    }

    fn put_file(&self, name: &str, source: &Path) -> Result<Content> {
        let target = self.path(name)?;
        let mut from = open_source(source)?;
        self.make_parents(name)?;
        let fresh = Fresh::new(&self.dir, FILE_MODE)?;
        let content = if reflink::clone_file(from.as_fd(), fresh.file.as_fd()).is_ok() {
            // what is shared is what was put, whatever happens to the source meanwhile
            digest(&fresh.file, io::sink(), &|| self.is_cancelled(), at("read", source))?
        } else {
            digest(&mut from, &fresh.file, &|| self.is_cancelled(), at("copy a file to", &target))?
        };
        fresh.publish(&target)?;
        Ok(content)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name)?;
        let file = durable::open(&path)?;
        file.map(|file| file.metadata().map(|meta| meta.len()).map_err(at("stat", &path))).transpose()
    }

    fn content(&self, name: &str) -> Result<Option<Content>> {
        let path = self.path(name)?;
        let Some(file) = durable::open(&path)? else { return Ok(None) };
        digest(file, io::sink(), &|| self.is_cancelled(), at("read", &path)).map(Some)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => durable::sync_dir(&durable::parent_of(&path))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(at("delete", &path)(e)),
        }
        self.prune(&path);
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<StoredFile>> {
        let mut found = Vec::new();
        self.walk(prefix, MAX_DEPTH, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn is_cancelled(&self) -> bool {
        self.reporter.is_cancelled()
    }
}

/// Length and digest of the file at `path`; a link is followed.
///
/// # Errors
/// `not_found`, `invalid_input` for what is no regular file, `cancelled` once `stop` says so, and the kernel's.
pub fn content_of(path: &Path, stop: &dyn Fn() -> bool) -> Result<Content> {
    digest(open_source(path)?, io::sink(), stop, at("read", path))
}

/// A file of the user's: links are followed, and nothing that blocks is read.
fn open_source(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => {
            let message = format!("there is no file {}", path.display());
            return Err(HubError::NotFound { message, hint: None });
        }
        Err(e) => return Err(at("open", path)(e)),
    };
    if file.metadata().map_err(at("stat", path))?.is_file() {
        return Ok(file);
    }
    Err(HubError::invalid(format!("{} is not a regular file", path.display())))
}

/// Copies from where `from` stands, and tells what was copied; `failed` says what an error was met at.
fn digest(
    mut from: impl Read,
    mut to: impl Write,
    stop: &dyn Fn() -> bool,
    failed: impl FnOnce(io::Error) -> HubError,
) -> Result<Content> {
    let (mut hasher, mut size_bytes, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER]);
    let mut next = || {
        let piece = read_some(&mut from, &mut buffer)?;
        hasher.update(piece);
        size_bytes += piece.len() as u64;
        to.write_all(piece).map(|()| !piece.is_empty())
    };
    loop {
        if stop() {
            let message = "reading a pack: cancelled";
            return Err(Error::new(ErrorCode::Cancelled, message).into());
        }
        match next() {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(Content { size_bytes, sha256: Sha256Digest(hasher.finalize().into()) })
}

/// The next bytes; none at the end.
fn read_some<'b>(from: &mut impl Read, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    loop {
        match from.read(buffer) {
            Ok(count) => return Ok(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
