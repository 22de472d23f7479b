//! Small files of one directory: read bounded, replaced so that no reader sees half of one and no power cut loses
//! what was acknowledged.
//!
//! Whoever writes holds the directory's lock, so that what lies in `.tmp/` when the lock is taken is a killed
//! process's and goes. Readers take no lock: a rename decides which of two versions they get, whole.

use crate::error::{HubError, Result, at};
use rustix::fs::{Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tine_sys::lock::{FileLock, LockMode};

/// Where half-made files lie; on the same file system as what they become.
const TMP: &str = ".tmp";
const LOCK: &str = ".lock";

/// Makes `dir` and what leads to it where missing; `dir` itself gets `mode` when it is made.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    fs::create_dir_all(&parent).map_err(at("create directory", &parent))?;
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(mode)) {
        // whatever the process's mask says: a web server of another user must be able to read a hub
        Ok(()) => rustix::fs::chmod(dir, Mode::from_raw_mode(mode)).map_err(at("set mode of", dir))?,
        Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(at("create directory", dir)(e)),
    }
    sync_dir(&parent)
}

/// Takes the lock of `dir` alone, waiting up to `wait`, and clears what a killed holder left.
pub(crate) fn lock(dir: &Path, wait: Duration) -> Result<FileLock> {
    let held = FileLock::acquire_within(&dir.join(LOCK), LockMode::Exclusive, wait)?
        .ok_or_else(|| HubError::Busy(format!("another process is changing {}", dir.display())))?;
    let tmp = dir.join(TMP);
    match fs::remove_dir_all(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("clear", &tmp)(e)),
        _ => Ok(held),
    }
}

/// The content of the regular file at `path`, none when there is none; longer than `max` bytes is refused by its
/// size, before it is read.
pub(crate) fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let length = file.metadata().map_err(at("stat", path))?.len();
    let too_large = || HubError::TooLarge(format!("{} is longer than {max} bytes", path.display()));
    if length > max {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(length as usize + 1);
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() as u64 > max { Err(too_large()) } else { Ok(Some(bytes)) }
}

/// The regular file at `path`, open for reading, none when there is none. Follows no link, waits on no pipe.
pub(crate) fn open(path: &Path) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(at("open", path)(e)),
    };
    if !file.metadata().map_err(at("stat", path))?.is_file() {
        return Err(HubError::invalid(format!("{} is not a regular file", path.display())));
    }
    Ok(Some(file))
}

/// The JSON document at `path`, none when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, max: u64) -> Result<Option<T>> {
    let Some(bytes) = read(path, max)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| HubError::corrupt(path.display().to_string(), e))
}

/// As [`write()`], for a JSON document.
pub(crate) fn write_json<T: Serialize>(dir: &Path, name: &str, mode: u32, document: &T) -> Result<()> {
    let path = dir.join(name);
    let mut bytes =
        serde_json::to_vec_pretty(document).map_err(|e| at("encode", &path)(io::Error::from(e)))?;
    bytes.push(b'\n');
    write(dir, name, mode, &bytes)
}

/// Puts `bytes` in the place of the file `name` below `dir`, in one step and durably. The caller holds the lock.
pub(crate) fn write(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let fresh = Fresh::new(dir, mode)?;
    (&fresh.file).write_all(bytes).map_err(at("write", &fresh.path))?;
    fresh.publish(&dir.join(name))
}

/// A file that no one looks at yet; gone when dropped, unless published.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) file: File,
    path: PathBuf,
    published: bool,
}

impl Fresh {
    /// An empty file on the file system of `dir`.
    pub(crate) fn new(dir: &Path, mode: u32) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let tmp = dir.join(TMP);
        match rustix::fs::mkdir(&tmp, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(at("create directory", &tmp)(e)),
        }
        let path = tmp.join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let file = File::from(rustix::fs::open(&path, flags, mode).map_err(at("create", &path))?);
        let fresh = Self { file, path, published: false };
        // as for directories
        rustix::fs::fchmod(&fresh.file, mode).map_err(at("set mode of", &fresh.path))?;
        Ok(fresh)
    }

    /// Makes the data durable, then the name.
    pub(crate) fn publish(mut self, target: &Path) -> Result<()> {
        self.file.sync_all().map_err(at("write back", &self.path))?;
        fs::rename(&self.path, target).map_err(at("replace", target))?;
        self.published = true;
        sync_dir(&parent_of(target))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.published {
            // a leftover goes when the lock is taken next
            let _ = fs::remove_file(&self.path);
        }
        if let Some(tmp) = self.path.parent() {
            // fails while another of this process's files lies there
            let _ = fs::remove_dir(tmp);
        }
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(at("write back", dir))
}

/// The directory that `path` lies in.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_write_replaces_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let _held = lock(dir.path(), Duration::ZERO).unwrap();
        write(dir.path(), "a", 0o600, b"one").unwrap();
        write(dir.path(), "a", 0o600, b"two").unwrap();
        assert_eq!(read(&dir.path().join("a"), 3).unwrap().unwrap(), b"two");
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_lock_clears_what_a_killed_writer_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(TMP)).unwrap();
        fs::write(dir.path().join(TMP).join("1-1"), "half").unwrap();
        let _held = lock(dir.path(), Duration::ZERO).unwrap();
        assert!(!dir.path().join(TMP).exists());
        assert!(matches!(lock(dir.path(), Duration::ZERO), Err(HubError::Busy(_))));
    }

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(read(&path, 10).unwrap().is_none());
        fs::write(&path, "0123456789").unwrap();
        assert!(read(&path, 10).unwrap().is_some());
        assert!(matches!(read(&path, 9), Err(HubError::TooLarge(_))));
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        assert!(read(&dir.path().join("link"), 10).is_err() && read(dir.path(), 10).is_err());
    }
}
