//! What a hub needs of the place it is kept in.

use crate::error::HubError;
use std::{path::Path, time::Duration};
use tine_model::Sha256Digest;

/// A place for a hub's files: a directory, a bucket. Names are relative, of ASCII letters, digits, `.`, `_` and `-`
/// in parts joined by `/`, and no part begins with `.`.
///
/// A change is durable when its call returns. Errors of other kinds than files' are best told as
/// [`HubError::Other`].
pub trait HubStorage {
    /// Held by whoever changes the hub.
    type Lock;

    /// Takes the lock, waiting up to `wait`; what a killed holder left half-written goes.
    ///
    /// # Errors
    /// [`HubError::Busy`] when another holds it for longer.
    fn lock(&self, wait: Duration) -> Result<Self::Lock, HubError>;

    /// The content of a small file, none when there is none.
    ///
    /// # Errors
    /// [`HubError::TooLarge`] for one of more than `max` bytes, which is not read.
    fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, HubError>;

    /// Puts a small file in the place of the one of that name: a reader gets the one or the other, whole.
    ///
    /// # Errors
    /// When it can't be written; the former one is then still there.
    fn write_atomic(&self, name: &str, bytes: &[u8]) -> Result<(), HubError>;

    /// Puts a copy of the file at `source`, whole or not at all, and tells what was put.
    ///
    /// # Errors
    /// When it can't be read or written.
    fn put_file(&self, name: &str, source: &Path) -> Result<Content, HubError>;

    /// Length and digest of a file as it is stored, read for it; none when there is none.
    ///
    /// # Errors
    /// When it can't be read.
    fn content(&self, name: &str) -> Result<Option<Content>, HubError>;

    /// Deletes a file; nothing happens when there is none.
    ///
    /// # Errors
    /// When it can't be deleted.
    fn delete(&self, name: &str) -> Result<(), HubError>;

    /// Every file whose name begins with `prefix`, a folder's name with its slash, in order.
    ///
    /// # Errors
    /// When the place can't be read.
    fn list(&self, prefix: &str) -> Result<Vec<StoredFile>, HubError>;

    /// What the place is called in messages.
    fn place(&self) -> String;
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Its length.
    pub size_bytes: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// A file of a hub.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
}
