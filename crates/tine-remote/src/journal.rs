//! What of a file is durably here, kept beside it so that a download goes on after any break.
//!
//! Lines of JSON, only ever appended, so that the file stays the one that is locked; a torn last line is dropped. A line that
//! says "here" is written after the data is durable. What can't be understood counts as nothing here.

use crate::{
    error::{RemoteError, Result},
    ranges::RangeSet,
    source::Version,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{Reporter, Sha256Digest};
use tine_sys::lock::{FileLock, LockMode};

/// A longer journal is none of ours.
const LONGEST: u64 = 16 << 20;
/// How long a wait for the lock lasts before the reporter is asked again.
const LOOK: Duration = Duration::from_millis(50);

/// Which file at which server the data is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    /// SHA-256 of the URL without user and query, in hexadecimal digits.
    pub(crate) place: String,
    /// Its length, where known.
    pub(crate) size: Option<u64>,
    /// What tells one version from the next.
    #[serde(flatten)]
    pub(crate) version: Version,
    /// The digest that the caller expects.
    pub(crate) sha256: Option<Sha256Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Object(Object),
    Have(Vec<(u64, u64)>),
    Complete,
}

/// What a journal says.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) object: Option<Object>,
    pub(crate) have: RangeSet,
    pub(crate) complete: bool,
}

/// An open, locked journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    /// Whether it says that something is here, or may still say so after a crash.
    vouches: bool,
    _lock: FileLock,
}

impl Journal {
    /// Opens the journal and waits until nobody else has it.
    pub(crate) fn open(path: &Path, reporter: &dyn Reporter) -> Result<Self> {
        let mut told = false;
        loop {
            if let Some(lock) = FileLock::acquire_within(path, LockMode::Exclusive, LOOK)
                .map_err(|e| RemoteError::Internal(format!("locking {}: {e}", path.display())))?
            {
                // one that was deleted while we waited is nobody's
                if lock.is_still_at(path) {
                    return Self::with(lock, path);
                }
            } else if !told {
                told = true;
                reporter.note("another command is fetching the same file; waiting for it");
            }
            if reporter.is_cancelled() {
                return Err(RemoteError::Cancelled);
            }
        }
    }

    /// The journal, if nobody has it.
    pub(crate) fn try_open(path: &Path) -> Option<Self> {
        let lock = FileLock::try_acquire(path, LockMode::Exclusive).ok()??;
        lock.is_still_at(path).then(|| Self::with(lock, path).ok())?
    }

    fn with(lock: FileLock, path: &Path) -> Result<Self> {
        let descriptor: OwnedFd =
            lock.as_fd().try_clone_to_owned().map_err(|e| RemoteError::io("opening", path.display(), e))?;
        Ok(Self { file: descriptor.into(), path: path.to_owned(), vouches: true, _lock: lock })
    }

    fn failed(&self, source: std::io::Error) -> RemoteError {
        RemoteError::io("writing", self.path.display(), source)
    }

    /// What it says; afterwards it ends after its last whole line.
    pub(crate) fn read(&mut self) -> Result<Record> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0)).map_err(|e| self.failed(e))?;
        (&self.file).take(LONGEST + 1).read_to_end(&mut text).map_err(|e| self.failed(e))?;
        if text.len() as u64 > LONGEST {
            text.clear();
        }
        let (record, good) = parse(&text);
        self.file.set_len(good).map_err(|e| self.failed(e))?;
        self.vouches = !text.is_empty();
        Ok(record)
    }

    /// Forgets everything and begins with another object. When it returns, nothing is vouched for even after a crash.
    pub(crate) fn begin(&mut self, object: &Object) -> Result<()> {
        self.file.set_len(0).map_err(|e| self.failed(e))?;
        self.append(&Line::Object(object.clone()))?;
        if self.vouches {
            self.sync()?;
        }
        self.vouches = false;
        Ok(())
    }

    /// Adds what is here. The data must be durable.
    pub(crate) fn have(&mut self, ranges: &RangeSet) -> Result<()> {
        self.vouches = true;
        self.append(&Line::Have(ranges.iter().map(|r| (r.start, r.end)).collect()))?;
        self.sync()
    }

    /// Says that all is here, durable and checked for its length.
    pub(crate) fn complete(&mut self) -> Result<()> {
        self.vouches = true;
        self.append(&Line::Complete)?;
        self.sync()
    }

    /// Deletes the journal.
    pub(crate) fn delete(self) -> std::io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    fn append(&mut self, line: &Line) -> Result<()> {
        let mut text =
            serde_json::to_vec(line).map_err(|e| RemoteError::Internal(format!("writing a journal: {e}")))?;
        text.push(b'\n');
        self.file.seek(SeekFrom::End(0)).map_err(|e| self.failed(e))?;
        self.file.write_all(&text).map_err(|e| self.failed(e))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| self.failed(e))
    }
}

/// What the lines say, and where the last whole one ends.
fn parse(text: &[u8]) -> (Record, u64) {
    let (mut record, mut good) = (Record::default(), 0);
    for raw in text.split_inclusive(|b| *b == b'\n') {
        let Some(line) = raw.strip_suffix(b"\n").and_then(|raw| serde_json::from_slice(raw).ok()) else {
            break;
        };
        match line {
            Line::Object(object) => record = Record { object: Some(object), ..Record::default() },
            Line::Have(ranges) => ranges.into_iter().for_each(|(start, end)| record.have.add(start..end)),
            Line::Complete => record.complete = true,
        }
        good += raw.len() as u64;
    }
    (record, good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tine_model::Silent;

    fn object() -> Object {
        let version = Version { etag: Some("\"a\"".into()), modified: None };
        Object { place: "x".into(), size: Some(100), version, sha256: Some(Sha256Digest([7; 32])) }
    }

    #[test]
    fn what_was_written_is_read_and_a_torn_line_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, &Silent).unwrap();
        journal.begin(&object()).unwrap();
        let mut have = RangeSet::default();
        have.add(0..10);
        have.add(20..30);
        journal.have(&have).unwrap();
        journal.file.write_all(b"{\"have\":[[0,1").unwrap();
        let record = journal.read().unwrap();
        assert_eq!((record.object, record.have.clone(), record.complete), (Some(object()), have, false));
        journal.complete().unwrap();
        assert!(journal.read().unwrap().complete);
    }

    #[test]
    fn one_at_a_time_and_a_deleted_one_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let held = Journal::open(&path, &Silent).unwrap();
        assert!(Journal::try_open(&path).is_none());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Journal::open(&path, &Silent).unwrap());
            std::thread::sleep(Duration::from_millis(80));
            held.delete().unwrap();
            let got = waiter.join().unwrap();
            assert!(got._lock.is_still_at(&path));
        });
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let (record, good) = parse(&text);
            prop_assert!(good <= text.len() as u64);
            prop_assert!(good > 0 || record.object.is_none());
        }
    }
}
