//! The error of the store: what a caller can do about it, and how it looks to a user.

use std::{io, path::Path, path::PathBuf};
use tine_model::{Error, ErrorCode};
use tine_sys::SysError;

/// `Result` with [`StoreError`].
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no pool, or it is not mounted and cannot be.
    #[error("there is no pool at {}", root.display())]
    NoPool {
        /// Where it was looked for.
        root: PathBuf,
    },
    /// A named object does not exist.
    #[error("{kind} {name} does not exist")]
    NotFound {
        /// `box`, `snapshot`, `base`, ….
        kind: &'static str,
        /// As the user would type it.
        name: String,
        /// The command that shows which ones there are.
        hint: String,
    },
    /// A name is taken.
    #[error("{kind} {name} exists already")]
    AlreadyExists {
        /// `box`, `snapshot`, `base`, ….
        kind: &'static str,
        /// As the user would type it.
        name: String,
    },
    /// Another operation holds the object.
    #[error("{what} is busy with another operation")]
    Busy {
        /// The object, as `box web`.
        what: String,
    },
    /// The object is not in a state that allows this.
    #[error("{message}")]
    WrongState {
        /// What stands in the way.
        message: String,
        /// The command that mends it.
        hint: Option<String>,
    },
    /// A path or tree is outside what can be used.
    #[error("{path}: {problem}")]
    InvalidPath {
        /// The path, inside the root it belongs to.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting or size is outside what can be used.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
    },
    /// A limit on size or depth was passed.
    #[error("{message}")]
    TooLarge {
        /// Which one.
        message: String,
    },
    /// The pool was written by something newer.
    #[error("{object} needs what this version of tine does not know: {}", features.join(", "))]
    Incompatible {
        /// The pool or the file.
        object: String,
        /// The features, by name.
        features: Vec<String>,
    },
    /// Stored data contradicts itself.
    #[error("{object}: {problem}")]
    Corrupt {
        /// The file or object.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The kernel cannot do this.
    #[error("{message}")]
    Unsupported {
        /// What is missing.
        message: String,
    },
    /// A called program failed.
    #[error("{program} failed: {output}")]
    ToolFailed {
        /// The program.
        program: &'static str,
        /// Its own words.
        output: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The pool, or a box's share of it, has no space left.
    #[error("the pool is full: {0}")]
    Full(#[source] SysError),
    /// Anything else the kernel refused.
    #[error(transparent)]
    System(SysError),
}

impl From<SysError> for StoreError {
    fn from(error: SysError) -> Self {
        if error.is_full() { Self::Full(error) } else { Self::System(error) }
    }
}

impl StoreError {
    /// True when the error is the kernel's `ENOENT`.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::System(e) if e.source.kind() == io::ErrorKind::NotFound)
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoPool { .. } => Some("tine init".to_owned()),
            Self::NotFound { hint, .. } => Some(hint.clone()),
            Self::WrongState { hint, .. } => hint.clone(),
            Self::Full(_) => Some("tine df, then tine snapshot delete, tine delete or tine gc".to_owned()),
            Self::Corrupt { .. } => Some("tine check".to_owned()),
            _ => None,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::NoPool { .. } => ErrorCode::NoPool,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::AlreadyExists { .. } => ErrorCode::AlreadyExists,
            Self::Busy { .. } => ErrorCode::Busy,
            Self::WrongState { .. } => ErrorCode::WrongState,
            Self::InvalidPath { .. } => ErrorCode::InvalidPath,
            Self::Usage { .. } => ErrorCode::Usage,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Incompatible { .. } => ErrorCode::Incompatible,
            Self::Corrupt { .. } => ErrorCode::Corrupt,
            Self::Unsupported { .. } => ErrorCode::Unsupported,
            Self::ToolFailed { .. } => ErrorCode::ToolFailed,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Full(_) => ErrorCode::PoolFull,
            Self::System(_) => ErrorCode::Internal,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let plain = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => plain.hint(hint),
            None => plain,
        }
    }
}

/// Turns an I/O error into the store's, with what was being done to which path.
pub(crate) fn at<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> StoreError {
    move |error| SysError::new(operation, path.display(), error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_full_quota_are_pool_full_with_a_hint() {
        for errno in [28, 122] {
            let error: StoreError = SysError::new("write", "x", io::Error::from_raw_os_error(errno)).into();
            let shown = Error::from(error);
            assert_eq!(shown.code, ErrorCode::PoolFull);
            assert!(shown.hint.unwrap().contains("tine gc"));
        }
        let other: StoreError = SysError::new("write", "x", io::Error::from_raw_os_error(5)).into();
        assert_eq!(Error::from(other).code, ErrorCode::Internal);
    }
}
