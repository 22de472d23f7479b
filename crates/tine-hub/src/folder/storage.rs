//! What a hub needs of the place it is kept in.

use crate::error::HubError;
use std::{path::Path, time::Duration};
use tine_model::Sha256Digest;

/// A place for a hub's files: a directory, a bucket. Names are relative, of ASCII letters, digits, `.`, `_` and `-`
/// in parts joined by `/`, and no part begins with `.`.
///
/// Two kinds of place keep those apart who change a hub at once: one has a lock, under which everything is done. The
/// other has none, and refuses to write over anything but what the writer has read ([`Over`]).
///
/// A change is durable when its call returns. Errors of other kinds than files' are best told as
/// [`HubError::Other`].
pub trait HubStorage {
    /// Held by whoever changes the hub.
    type Lock;
    /// Tells one content of a small file from the next.
    type Tag;

    /// Takes the lock, waiting up to `wait`; what a killed holder left half-written goes. None where the place has no
    /// lock; whether it does refuse what [`Over`] forbids has then been made sure of.
    ///
    /// # Errors
    /// [`HubError::Busy`] when another holds it for longer.
    fn lock(&self, wait: Duration) -> Result<Option<Self::Lock>, HubError>;

    /// The content of a small file, none when there is none.
    ///
    /// # Errors
    /// [`HubError::TooLarge`] for one of more than `max` bytes, which is not read.
    fn read(&self, name: &str, max: u64) -> Result<Option<Small<Self::Tag>>, HubError>;

    /// Puts a small file in the place of the one of that name: a reader gets the one or the other, whole. A place
    /// with a lock need not heed `over`.
    ///
    /// # Errors
    /// [`HubError::Conflict`] when there is something else than `over` says. When it can't be written; the former one
    /// is then still there.
    fn write(&self, name: &str, bytes: &[u8], over: Over<'_, Self::Tag>) -> Result<(), HubError>;

    /// Puts a copy of the file at `source`, whole or not at all, and tells what was put.
    ///
    /// # Errors
    /// When it can't be read or written; `cancelled`.
    fn put_file(&self, name: &str, source: &Path) -> Result<Content, HubError>;

    /// The length of a file, none when there is none.
    ///
    /// # Errors
    /// When that can't be found out.
    fn size(&self, name: &str) -> Result<Option<u64>, HubError>;

    /// Length and digest of a file as it is stored, read for it; none when there is none.
    ///
    /// # Errors
    /// When it can't be read; `cancelled`.
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

    /// Whether who asked wants it to stop: looked at while whole files are read. Never where that can't be known.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A small file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Small<T> {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What tells it from the next.
    pub tag: T,
}

/// What must be there for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over<'t, T> {
    /// Anything, or nothing.
    Anything,
    /// Nothing.
    Nothing,
    /// The content with this tag.
    Tagged(&'t T),
}

impl<'t, T> Over<'t, T> {
    /// What was read, or that there was nothing.
    pub(super) fn read(there: Option<&'t Small<T>>) -> Self {
        there.map_or(Self::Nothing, |there| Self::Tagged(&there.tag))
    }
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
