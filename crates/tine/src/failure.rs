//! How a command ends when it does not succeed.

use std::io;
use tine_model::{Error, ErrorCode};

/// Why a command stopped.
#[derive(Debug)]
pub enum Failure {
    /// Something to tell the user; the exit code follows from its code.
    Told(Error),
    /// Whoever read the output has gone: nothing is left to say.
    ReaderGone,
}

/// `Result` of everything a command does.
pub type Outcome<T = u8> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Told(Error::new(ErrorCode::Internal, format!("writing the output: {error}"))),
        }
    }
}

/// An error about the command line itself.
pub fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Usage, message)
}

/// An error of a file on this machine, with its operation and path, in the code that fits.
pub fn local_error(doing: &str, path: &std::path::Path, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::NotFound => ErrorCode::NotFound,
        io::ErrorKind::PermissionDenied => ErrorCode::Forbidden,
        io::ErrorKind::AlreadyExists => ErrorCode::AlreadyExists,
        _ => ErrorCode::Internal,
    };
    let message = format!("{doing} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(code, message).hint("make room there, or name another place")
        }
        _ => Error::new(code, message),
    }
}
