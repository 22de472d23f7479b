//! The error of the guest's side and of what is spoken with it, named for what the caller can do about it.

use tine_model::ErrorCode;
use tine_sys::SysError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The other side of the link sent something odd.
    #[error("the guest link: {0}")]
    Malformed(String),
    /// A message does not fit a frame.
    #[error("{0} is too large for the guest link")]
    TooLarge(&'static str),
    /// The machine cannot come up.
    #[error("the machine cannot boot: {0}")]
    Boot(String),
    /// A system call wrapper failed.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// `Result` with [`AgentError`].
pub type AgentResult<T> = Result<T, AgentError>;

impl AgentError {
    /// An I/O error with what was being done, and to what.
    pub fn io(
        operation: &'static str,
        object: impl std::fmt::Display,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::Sys(SysError::new(operation, object, source))
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::Malformed(_) | Self::Boot(_) | Self::Sys(_) => ErrorCode::Internal,
        }
    }
}

impl From<AgentError> for tine_model::Error {
    fn from(error: AgentError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
