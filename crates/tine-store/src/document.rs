//! The small JSON files of the pool: reading them bounded, writing them so that none is ever seen half.
//!
//! Unknown fields are ignored; a higher `format` is refused. Never decides where a document lies.

use crate::{
    error::{Result, StoreError, at},
    staging,
};
use rustix::fs::{Mode, OFlags};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Display,
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    path::Path,
};
use tine_model::Reporter;

/// The format of every document this version writes.
pub(crate) const FORMAT: u32 = 1;
/// The most that is read or written.
const MAX_BYTES: u64 = 1 << 20;

/// A JSON file of the pool.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// The `format` field.
    fn format(&self) -> u32;
}

/// Reads the document at `path`.
pub(crate) fn read<T: Document>(path: &Path) -> Result<T> {
    let bytes = read_bytes(path)?;
    let corrupt = |e: serde_json::Error| StoreError::Corrupt {
        object: path.display().to_string(),
        problem: e.to_string(),
    };
    let document: T = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if document.format() > FORMAT {
        return Err(StoreError::Incompatible {
            object: path.display().to_string(),
            features: vec![format!("format {}", document.format())],
        });
    }
    Ok(document)
}

/// As [`read`], none when there is no such file.
pub(crate) fn read_if_there<T: Document>(path: &Path) -> Result<Option<T>> {
    match read(path) {
        Ok(document) => Ok(Some(document)),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e),
    }
}

/// For lists: one object that cannot be read is told of, and hides no other.
pub(crate) fn or_note<T>(
    reporter: &dyn Reporter,
    kind: &str,
    name: &dyn Display,
    found: Result<Option<T>>,
) -> Option<T> {
    found.unwrap_or_else(|error| {
        reporter.note(&format!("{kind} {name} is left out: {error}"));
        None
    })
}

/// The content of a regular file of at most 1 MiB.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))?);
    let stat = file.metadata().map_err(at("stat", path))?;
    let corrupt = |problem: &str| StoreError::Corrupt {
        object: path.display().to_string(),
        problem: problem.to_owned(),
    };
    if !stat.is_file() || stat.len() > MAX_BYTES {
        return Err(corrupt("not a regular file of at most 1 MiB"));
    }
    // the length is known, so the buffer is right at once and one read ends at the end
    let mut bytes = Vec::with_capacity(stat.len() as usize + 1);
    Read::by_ref(&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() as u64 > MAX_BYTES { Err(corrupt("longer than 1 MiB")) } else { Ok(bytes) }
}

/// Writes a document where no one looks yet: a staging directory.
pub(crate) fn write_new<T: Document>(path: &Path, document: &T) -> Result<()> {
    let text = serde_json::to_vec(document).map_err(|e| at("encode", path)(std::io::Error::from(e)))?;
    write_new_bytes(path, &text)
}

/// Writes a file where no one looks yet. The next commit makes it durable.
pub(crate) fn write_new_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(StoreError::Usage {
            message: "settings, description or script of more than 1 MiB".to_owned(),
        });
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let mut file = File::from(rustix::fs::open(path, flags, mode).map_err(at("create", path))?);
    file.write_all(bytes).map_err(at("write", path))?;
    tine_sys::btrfs::write_back(file.as_fd())?;
    Ok(())
}

/// Puts a document in the place of the one at `path`, in one step. `tmp` is the pool's staging directory: what a
/// killed process leaves of the new one is garbage there.
pub(crate) fn replace<T: Document>(tmp: &Path, path: &Path, document: &T) -> Result<()> {
    let text = serde_json::to_vec(document).map_err(|e| at("encode", path)(std::io::Error::from(e)))?;
    replace_bytes(tmp, path, &text)
}

/// As [`replace`], for any bytes.
pub(crate) fn replace_bytes(tmp: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = tmp.join(staging::random_id()?);
    write_new_bytes(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, path).map_err(at("replace", path)))
        .inspect_err(|_| drop(std::fs::remove_file(&fresh)))
}
