//! The error of every system call wrapper.

use std::{fmt, io};

/// A system call that failed: what was being done, to what, and the kernel's reason.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {source}")]
pub struct SysError {
    /// In the imperative, as `create snapshot` or `open`.
    pub operation: &'static str,
    /// The path or name it was done to.
    pub object: String,
    /// The kernel's reason.
    #[source]
    pub source: io::Error,
}

/// `Result` with [`SysError`].
pub type SysResult<T> = Result<T, SysError>;

impl SysError {
    /// Wraps the kernel's reason with what was being done.
    pub fn new(operation: &'static str, object: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self { operation, object: object.to_string(), source: source.into() }
    }

    /// The raw errno, or 0 when the error did not come from the kernel.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// True when the errno is one of those that mean a full file system or quota (ENOSPC, EDQUOT).
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.errno(), libc::ENOSPC | libc::EDQUOT)
    }
}
