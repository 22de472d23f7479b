//! One file at one server, asked for whole or by ranges. The kinds of servers are told apart here and nowhere else.

mod file;
mod http;
mod store;

pub(crate) use http::{HttpSource, answer_fault, excerpt, send_fault, within};
pub(crate) use store::{Bucket, bucket, store_fault};

use crate::{
    download::Expected,
    error::Result,
    location::{Location, Scheme},
    registry,
    remote::{Core, Head},
    retry::Fault,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::{ops::Range, sync::Arc};

/// What tells one version of a file from the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// The server's entity tag, with its quotes.
    pub(crate) etag: Option<String>,
    /// The time of its last change, as the server writes it.
    pub(crate) modified: Option<String>,
}

impl Version {
    /// True when two answers can be told to be of one version.
    pub(crate) fn is_known(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }

    /// True when nothing speaks against both being one version.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.modified == other.modified,
            _ => false,
        }
    }

    /// What `If-Range` may hold: a strong tag, or a date (RFC 9110, section 13.1.5).
    pub(crate) fn condition(&self) -> Option<&str> {
        match &self.etag {
            Some(tag) if tag.starts_with("W/") => None,
            Some(tag) => Some(tag),
            None => self.modified.as_deref(),
        }
    }
}

/// Which part of the file an answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it; its length, where announced.
    Whole {
        /// In bytes.
        length: Option<u64>,
    },
    /// The range that was asked for, of `total` bytes.
    Range {
        /// The part.
        range: Range<u64>,
        /// The length of the whole.
        total: u64,
    },
}

/// A server's answer.
pub(crate) struct Reply {
    pub(crate) part: Part,
    pub(crate) version: Version,
    /// Its bytes; silence beyond the idle timeout is an error of the stream.
    pub(crate) body: BoxStream<'static, Result<Bytes, Fault>>,
}

/// A file at a server.
#[derive(Clone)]
pub(crate) enum Source {
    Http(HttpSource),
    Store(store::StoreSource),
    File(file::FileSource),
}

impl Source {
    /// Finds the file's server. What that tells of the file at once (a registry's manifest: length and digest) comes with it.
    pub(crate) async fn connect(core: &Arc<Core>, location: &Location) -> Result<(Self, Expected), Fault> {
        match location.scheme() {
            Scheme::Http | Scheme::Https => {
                Ok((Self::Http(HttpSource::new(core, location)?), Expected::default()))
            }
            Scheme::File => Ok((Self::File(file::FileSource::new(location)?), Expected::default())),
            Scheme::Oci => {
                let (source, expected) = registry::layer(core, location).await?;
                Ok((Self::Http(source), expected))
            }
            Scheme::S3 | Scheme::Gs | Scheme::Az => {
                Ok((Self::Store(store::StoreSource::new(core, location)?), Expected::default()))
            }
        }
    }

    /// Asks for a range, or for all. `known` is the version that the range must be of: when the server says that it has
    /// another, the answer is all of that, or [`Fault::Changed`].
    pub(crate) async fn get(
        &self,
        range: Option<Range<u64>>,
        known: Option<&Version>,
    ) -> Result<Reply, Fault> {
        match self {
            Self::Http(source) => source.get(range, known).await,
            Self::Store(source) => source.get(range, known).await,
            Self::File(source) => source.get(range).await,
        }
    }

    /// Asks for length and version alone.
    pub(crate) async fn head(&self) -> Result<Head, Fault> {
        match self {
            Self::Http(source) => source.head().await,
            Self::Store(source) => source.head().await,
            Self::File(source) => source.head(),
        }
    }
}
