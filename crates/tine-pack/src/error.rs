//! Why a pack was refused or could not be read or written.

use std::io;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The data is no pack, is damaged, or ends early.
    #[error("{0}")]
    Malformed(String),
    /// A limit on size or count was passed.
    #[error("{0}")]
    TooLarge(String),
    /// Content does not match its digest or size.
    #[error("{what}: {why}")]
    Corrupt {
        /// What was read.
        what: String,
        /// How it differs.
        why: String,
    },
    /// The reporter asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A file or stream could not be read or written.
    #[error("{operation} {what}: {source}")]
    Io {
        /// What was being done, as `read`.
        operation: &'static str,
        /// To what.
        what: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// `Result` with [`PackError`].
pub(crate) type Result<T, E = PackError> = std::result::Result<T, E>;

impl PackError {
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed(why.into())
    }

    pub(crate) fn io(operation: &'static str, what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { operation, what, source }
    }

    /// What a stream of this crate failed with: its own error where one is inside.
    pub(crate) fn of_stream(operation: &'static str, what: &str, error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|source| Self::Io {
            operation,
            what: what.to_owned(),
            source,
        })
    }
}

impl From<PackError> for io::Error {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Io { source, .. } => source,
            // not `Interrupted`, which readers answer by trying again
            PackError::Cancelled => Self::other(error),
            _ => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}
