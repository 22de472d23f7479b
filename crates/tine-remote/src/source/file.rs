//! A file of this host as a source, so that `file://` behaves as every other place.

use super::{Part, Reply, Version};
use crate::{
    error::{RemoteError, Result},
    location::Location,
    remote::Head,
    retry::Fault,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::{
    fs::{File, Metadata},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    sync::Arc,
};

/// How much is read at once, in bytes.
const CHUNK: u64 = 1 << 20;

/// An open file of this host.
#[derive(Clone)]
pub(crate) struct FileSource {
    file: Arc<File>,
    location: Location,
}

impl FileSource {
    pub(crate) fn new(location: &Location) -> Result<Self> {
        let path = location.to_file_path()?;
        // not blocking, so that a pipe in the file's place holds nobody up
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path);
        let file = opened.map_err(|e| not_opened(location, e))?;
        let source = Self { file: Arc::new(file), location: location.clone() };
        if !source.metadata()?.is_file() {
            return Err(RemoteError::location(location, "it is no regular file".to_owned()));
        }
        Ok(source)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map_err(|e| self.location.failed("reading", e))
    }

    pub(crate) async fn get(&self, range: Option<Range<u64>>) -> Result<Reply, Fault> {
        let meta = self.metadata()?;
        let size = meta.len();
        let part = match &range {
            Some(range) if range.start >= size => return Err(Fault::NoRanges),
            Some(range) => Part::Range { range: range.start..range.end.min(size), total: size },
            None => Part::Whole { length: Some(size) },
        };
        let wanted = range.map_or(0..size, |r| r.start..r.end.min(size));
        let source = self.clone();
        let chunks = stream::unfold(wanted, move |left| {
            let source = source.clone();
            async move { source.chunk(left).await }
        });
        Ok(Reply { part, version: version(&meta), body: chunks.boxed() })
    }

    async fn chunk(&self, left: Range<u64>) -> Option<(Result<Bytes, Fault>, Range<u64>)> {
        if left.is_empty() {
            return None;
        }
        let file = Arc::clone(&self.file);
        let length = (left.end - left.start).min(CHUNK);
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_at(&mut buffer, left.start).map(|n| {
                buffer.truncate(n);
                buffer
            })
        })
        .await;
        match read {
            Ok(Ok(data)) if data.is_empty() => None,
            Ok(Ok(data)) => {
                let next = left.start + data.len() as u64..left.end;
                Some((Ok(data.into()), next))
            }
            Ok(Err(e)) => Some((Err(self.location.failed("reading", e).into()), 0..0)),
            Err(e) => Some((Err(RemoteError::Internal(format!("reading a file: {e}")).into()), 0..0)),
        }
    }

    pub(crate) fn head(&self) -> Result<Head, Fault> {
        let meta = self.metadata()?;
        Ok(Head { size: Some(meta.len()), etag: version(&meta).etag })
    }
}

fn not_opened(location: &Location, error: std::io::Error) -> RemoteError {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            RemoteError::NotFound { shown: location.to_string(), detail: String::new() }
        }
        _ => location.failed("opening", error),
    }
}

/// Inode, length and time of the last change.
fn version(meta: &Metadata) -> Version {
    let tag = format!("\"{:x}-{:x}-{:x}.{:x}\"", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    Version { etag: Some(tag), modified: None }
}
