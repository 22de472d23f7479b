//! Sending to an object store part by part, several at once, going on after a break with the parts that are there.
//!
//! The journal, lines of JSON, names the upload and then every part that the store has acknowledged. It is of one file (inode,
//! length, time of change) and one place; of any other it says nothing. An upload that the store has forgotten begins anew. Who
//! finds the journal locked by another upload, and for longer than one that was killed takes to end, does without one.

use super::{
    UploadRequest, Uploaded,
    content::{Content, aside},
};
use crate::{
    error::{RemoteError, Result},
    location::{Location, shown},
    remote::Core,
    retry::{Fault, retrying},
    source::{Bucket, bucket, store_fault},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, Attributes, ObjectStoreExt, PutMultipartOptions, multipart::PartId, path::Path as Key,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tine_sys::lock::{FileLock, LockMode};

/// Object stores take 10 000 parts at most.
const PARTS_MAX: u64 = 9_000;
/// Object stores want parts of 5 MiB at least.
const PART_MIN: u64 = 5 << 20;
/// A longer journal is none of ours.
const LONGEST: u64 = 16 << 20;
/// How long a killed process may hold a lock.
const DYING: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    place: String,
    /// Inode, length and time of the last change of what is sent.
    file: (u64, u64, i64, i64),
    part: u64,
    id: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun(Begun),
    Part(u64, String),
}

/// An upload under way.
struct Upload<'a> {
    core: &'a Core,
    location: &'a Location,
    bucket: Arc<dyn Bucket>,
    key: Key,
    content: &'a Arc<Content>,
    part: u64,
    journal: Option<Journal>,
}

/// The open, locked journal.
struct Journal {
    file: Mutex<File>,
    lock: FileLock,
    path: PathBuf,
}

pub(super) async fn upload(
    core: &Core,
    request: &UploadRequest<'_>,
    content: &Arc<Content>,
) -> Result<Uploaded> {
    let (bucket, key) = bucket(core, request.location)?;
    let part = core.config.part.max(PART_MIN).max(content.size().div_ceil(PARTS_MAX));
    let journal = match request.journal.map(Path::to_owned) {
        Some(path) => aside(move || Journal::open(path)).await?,
        None => None,
    };
    let upload = Upload { core, location: request.location, bucket, key, content, part, journal };
    let done = upload.run(request).await.map_err(|fault| fault.into_error(request.location))?;
    if let Some(journal) = upload.journal {
        journal.delete();
    }
    Ok(done)
}

impl Journal {
    /// None when another upload has it.
    fn open(path: PathBuf) -> Result<Option<Self>> {
        let locked = FileLock::acquire_within(&path, LockMode::Exclusive, DYING)
            .map_err(|e| RemoteError::Internal(format!("locking {}: {e}", path.display())))?;
        // one that was deleted meanwhile is nobody's
        let Some(lock) = locked.filter(|lock| lock.is_still_at(&path)) else { return Ok(None) };
        let descriptor =
            lock.as_fd().try_clone_to_owned().map_err(|e| RemoteError::io("opening", path.display(), e))?;
        Ok(Some(Self { file: Mutex::new(descriptor.into()), lock, path }))
    }

    /// For the end of the upload that it tells of.
    fn delete(self) {
        if self.lock.is_still_at(&self.path) {
            // what stays is of no upload that a store knows
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Upload<'_> {
    async fn run(&self, request: &UploadRequest<'_>) -> Result<Uploaded, Fault> {
        let wanted = self.wanted(request)?;
        if let Some((begun, have)) = self.recorded(&wanted)? {
            match self.all(&begun.id, have).await {
                Err(Fault::Final(RemoteError::NotFound { .. })) => {}
                other => return other,
            }
        }
        let id = self.begin(request).await?;
        self.write(&Line::Begun(Begun { id: id.clone(), ..wanted }), true)?;
        let sent = self.all(&id, BTreeMap::new()).await;
        if sent.is_err() && self.journal.is_none() {
            // what can't be gone on with only costs money there; the first error is the one to tell
            let _ = self.bucket.abort_multipart(&self.key, &id).await;
        }
        sent
    }

    fn wanted(&self, request: &UploadRequest<'_>) -> Result<Begun> {
        let meta = request.file.metadata().map_err(|e| RemoteError::io("reading", request.name, e))?;
        let file = (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        Ok(Begun { place: shown(self.location.url()), file, part: self.part, id: String::new() })
    }

    async fn begin(&self, request: &UploadRequest<'_>) -> Result<String, Fault> {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::ContentType, request.content_type.to_owned().into());
        let azure = request.location.scheme() == crate::location::Scheme::Az;
        retrying(&self.core.config, || async {
            let attributes = if azure { Attributes::new() } else { attributes.clone() };
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            self.patiently(self.bucket.create_multipart_opts(&self.key, options), 0).await
        })
        .await
    }

    /// Sends what is missing, then makes the object of all parts and looks at it.
    async fn all(&self, id: &str, have: BTreeMap<u64, String>) -> Result<Uploaded, Fault> {
        let count = self.content.size().div_ceil(self.part).max(1);
        let reused = have.keys().map(|n| self.length(*n)).sum();
        self.content.sent_to(reused);
        let missing = (0..count).filter(|n| !have.contains_key(n)).map(|n| self.send(id, n));
        let sent: Vec<(u64, String)> =
            stream::iter(missing).buffer_unordered(self.core.config.streams()).try_collect().await?;
        let mut parts = have;
        parts.extend(sent);
        let parts: Vec<_> = parts.into_values().map(|content_id| PartId { content_id }).collect();
        let etag = self.complete(id, parts).await?;
        Ok(Uploaded { sent: self.content.size() - reused, reused, etag })
    }

    fn length(&self, n: u64) -> u64 {
        self.part.min(self.content.size().saturating_sub(n.saturating_mul(self.part)))
    }

    async fn send(&self, id: &str, n: u64) -> Result<(u64, String), Fault> {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        let id = id.to_owned();
        let tag = retrying(&self.core.config, || async {
            let data = self.content.part(n * self.part, self.part).await?;
            let putting = self.bucket.put_part(&self.key, &id, index, data.into());
            self.patiently(putting, self.length(n)).await
        })
        .await?
        .content_id;
        self.write(&Line::Part(n, tag.clone()), false)?;
        self.content.sent_more(self.length(n));
        Ok((n, tag))
    }

    /// Not tried again by itself: the first may have been heard, and the store then knows the upload no more.
    async fn complete(&self, id: &str, parts: Vec<PartId>) -> Result<Option<String>, Fault> {
        let id = id.to_owned();
        let completing = self.bucket.complete_multipart(&self.key, &id, parts);
        let made = tokio::time::timeout(self.core.config.answer_timeout, completing).await;
        let made = made.map_err(|_| self.silent())?.map_err(|e| store_fault(self.location, e))?;
        let there = retrying(&self.core.config, || self.patiently(self.bucket.head(&self.key), 0)).await?;
        if there.size == self.content.size() {
            return Ok(made.e_tag.or(there.e_tag));
        }
        let why = format!("the store has {} bytes of {}", there.size, self.content.size());
        Err(RemoteError::unexpected(self.location, why).into())
    }

    async fn patiently<T>(
        &self,
        asking: impl Future<Output = object_store::Result<T>>,
        bytes: u64,
    ) -> Result<T, Fault> {
        let wait = self.core.config.idle_timeout * 2 + Content::patience(bytes * 2);
        match tokio::time::timeout(wait, asking).await {
            Ok(answer) => answer.map_err(|e| store_fault(self.location, e)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> Fault {
        Fault::passing(RemoteError::unreachable(self.location, "the store is silent"))
    }

    /// The upload that the journal has, if it is of this file and place, and its parts.
    fn recorded(&self, wanted: &Begun) -> Result<Option<(Begun, BTreeMap<u64, String>)>> {
        let Some(journal) = &self.journal else { return Ok(None) };
        let mut file = journal.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(journal_failed)?;
        (&*file).take(LONGEST).read_to_end(&mut text).map_err(journal_failed)?;
        let (found, good) = parse(&text);
        let count = self.content.size().div_ceil(self.part).max(1);
        let ours = found.filter(|(begun, _)| Begun { id: String::new(), ..begun.clone() } == *wanted);
        file.set_len(if ours.is_some() { good } else { 0 }).map_err(journal_failed)?;
        Ok(ours.map(|(begun, parts)| (begun, parts.into_iter().filter(|(n, _)| *n < count).collect())))
    }

    fn write(&self, line: &Line, anew: bool) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut file = journal.file.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_string(line)
            .map_err(|e| RemoteError::Internal(format!("writing a journal: {e}")))?;
        if anew {
            file.set_len(0).map_err(journal_failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(journal_failed)?;
        file.write_all(format!("{text}\n").as_bytes()).map_err(journal_failed)
    }
}

type Found = (Begun, BTreeMap<u64, String>);

/// What the lines say, and where the last whole one ends.
fn parse(text: &[u8]) -> (Option<Found>, u64) {
    let (mut found, mut good): (Option<Found>, u64) = (None, 0);
    for raw in text.split_inclusive(|b| *b == b'\n') {
        let line = raw.strip_suffix(b"\n").and_then(|raw| serde_json::from_slice(raw).ok());
        match (line, &mut found) {
            (Some(Line::Begun(begun)), _) => found = Some((begun, BTreeMap::new())),
            (Some(Line::Part(n, tag)), Some((_, parts))) => {
                parts.insert(n, tag);
            }
            _ => break,
        }
        good += raw.len() as u64;
    }
    (found, good)
}

fn journal_failed(source: std::io::Error) -> RemoteError {
    RemoteError::io("writing", "the upload's journal", source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_journal_is_read_up_to_its_torn_end() {
        let begun = Begun { place: "s3://b/k".into(), file: (1, 2, 3, 4), part: 5, id: "x".into() };
        let whole = [Line::Begun(begun.clone()), Line::Part(1, "a".into()), Line::Part(0, "b".into())]
            .map(|line| serde_json::to_string(&line).unwrap() + "\n")
            .concat();
        let torn = format!("{whole}{{\"part\":[2,");
        let (found, good) = parse(torn.as_bytes());
        let parts = BTreeMap::from([(0, "b".to_owned()), (1, "a".to_owned())]);
        assert_eq!((found, good), (Some((begun, parts)), whole.len() as u64));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&text).1 <= text.len() as u64);
        }
    }
}
