//! Why something at a hub was refused or failed.

use std::{io, path::Path};
use tine_model::ErrorCode;
use tine_sys::SysError;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// What was asked has not the right form.
    #[error("{0}")]
    Usage(String),
    /// A document from elsewhere is malformed.
    #[error("{0}")]
    Invalid(String),
    /// A limit on size or count was passed.
    #[error("{0}")]
    TooLarge(String),
    /// A document is of a format that this version does not know.
    #[error("{0}")]
    Incompatible(String),
    /// There is no such package, version, key or hub.
    #[error("{message}")]
    NotFound {
        /// What is not there, and what is.
        message: String,
        /// The command that helps, if one does.
        hint: Option<String>,
    },
    /// The name is taken.
    #[error("{0}")]
    AlreadyExists(String),
    /// A signature, or what is known of this hub, speaks against it.
    #[error("{message}")]
    Untrusted {
        /// What is not trusted, and why.
        message: String,
        /// The command that helps, if one does.
        hint: Option<String>,
    },
    /// Another process holds the lock.
    #[error("{0}")]
    Busy(String),
    /// Another has changed a file since it was read.
    #[error("another is changing {0}")]
    Conflict(String),
    /// A stored document contradicts itself or its digest.
    #[error("{object}: {problem}")]
    Corrupt {
        /// Where it lies.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    File(#[from] SysError),
    /// What another crate reports: a name outside its grammar, a bucket that does not answer.
    #[error("{0}")]
    Other(#[from] tine_model::Error),
}

/// `Result` with [`HubError`].
pub(crate) type Result<T, E = HubError> = std::result::Result<T, E>;

impl HubError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn untrusted(message: impl Into<String>) -> Self {
        Self::Untrusted { message: message.into(), hint: None }
    }

    pub(crate) fn corrupt(object: impl Into<String>, problem: impl ToString) -> Self {
        Self::Corrupt { object: object.into(), problem: problem.to_string() }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Usage(_) => ErrorCode::Usage,
            Self::Invalid(_) => ErrorCode::InvalidInput,
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::Incompatible(_) => ErrorCode::Incompatible,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::AlreadyExists(_) => ErrorCode::AlreadyExists,
            Self::Untrusted { .. } => ErrorCode::Untrusted,
            Self::Busy(_) | Self::Conflict(_) => ErrorCode::Busy,
            Self::Corrupt { .. } => ErrorCode::Corrupt,
            // a hub's folder and the keys need not lie in the pool: its being full says nothing of that
            Self::File(_) => ErrorCode::Internal,
            Self::Other(error) => error.code,
        }
    }
}

impl From<HubError> for tine_model::Error {
    fn from(error: HubError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            HubError::Other(inner) => inner,
            HubError::NotFound { hint: Some(hint), .. } | HubError::Untrusted { hint: Some(hint), .. } => {
                Self::new(code, message).hint(hint)
            }
            HubError::File(inner) if inner.is_full() => {
                Self::new(code, message).hint("make room on the file system of that file")
            }
            _ => Self::new(code, message),
        }
    }
}

/// Names the operation and the path of an I/O error.
pub(crate) fn at<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> HubError {
    move |error| HubError::File(SysError::new(operation, path.display(), error))
}
