//! Why a pack was refused or could not be read or written.

use std::io;
use tine_archive::ArchiveError;
use tine_model::ErrorCode;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The data is no pack, is damaged, is hostile, or ends early.
    #[error("{0}")]
    Malformed(String),
    /// A limit on count or size was passed.
    #[error("{0}")]
    TooLarge(String),
    /// The pack is of a layout, or needs a feature, that is not known here.
    #[error("{0}")]
    Newer(String),
    /// What was asked cannot be said in the layout that was asked for.
    #[error("{0}")]
    Unsuited(String),
    /// Content does not match its digest or size.
    #[error("{what}: {why}")]
    Corrupt {
        /// What was read.
        what: String,
        /// How it differs.
        why: String,
    },
    /// There is less room than the content takes.
    #[error("the content takes {needed} bytes or more and there is room for {free}")]
    Full {
        /// Bytes needed, as far as is known.
        needed: u64,
        /// Bytes there are.
        free: u64,
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
    /// Whoever receives or signs the pack refused.
    #[error("{0}")]
    Refused(tine_model::Error),
}

/// `Result` with [`PackError`].
pub(crate) type Result<T, E = PackError> = std::result::Result<T, E>;

impl PackError {
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed(why.into())
    }

    pub(crate) fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into() }
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

    /// Whether it is the place where a pack or sidecar is written that is full. This error calls that an internal one, with
    /// a hint: only the caller knows where it is.
    #[must_use]
    pub fn is_output_full(&self) -> bool {
        matches!(self, Self::Io { what, source, .. } if is_full(source) && OUTPUTS.contains(&what.as_str()))
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed(_) => ErrorCode::InvalidInput,
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::Newer(_) => ErrorCode::Incompatible,
            Self::Unsuited(_) => ErrorCode::Usage,
            Self::Corrupt { .. } => ErrorCode::Corrupt,
            Self::Full { .. } => ErrorCode::PoolFull,
            Self::Cancelled => ErrorCode::Cancelled,
            // where a pack goes is the caller's: its being full says nothing of the pool
            Self::Io { source, .. } if is_full(source) && !self.is_output_full() => ErrorCode::PoolFull,
            Self::Io { .. } => ErrorCode::Internal,
            Self::Refused(error) => error.code,
        }
    }
}

/// What errors call that which is written for others.
const OUTPUTS: [&str; 2] = ["the pack", "the sidecar"];

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Errors of a stream of this crate, whose own error goes along.
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

/// Errors of reading the tar inside a pack.
impl From<ArchiveError> for PackError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::TooLarge(why) => Self::TooLarge(why),
            ArchiveError::Cancelled => Self::Cancelled,
            ArchiveError::Stream { operation, source } => Self::of_stream(operation, "the pack", source),
            other => Self::Malformed(other.to_string()),
        }
    }
}

impl From<PackError> for tine_model::Error {
    fn from(error: PackError) -> Self {
        let code = error.code();
        match error {
            PackError::Refused(error) => error,
            PackError::Newer(_) => Self::new(code, error.to_string()).hint("tine version"),
            _ if error.is_output_full() => {
                Self::new(code, error.to_string()).hint("make room there, or write it to another place")
            }
            _ if code == ErrorCode::PoolFull => Self::new(code, error.to_string()).hint("tine gc"),
            _ => Self::new(code, error.to_string()),
        }
    }
}
