//! The one error type that leaves a service, and its closed set of codes.
//!
//! HTTP status and exit code are functions of the code alone.

use serde::{Deserialize, Serialize};

/// What went wrong, as a caller can act on it. A closed set: the strings are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The command line or request is not of the right form.
    Usage,
    /// A name is outside its grammar.
    InvalidName,
    /// A path is outside what the verb accepts.
    InvalidPath,
    /// Data handed in (a tar, a Dockerfile, a manifest) is malformed or hostile.
    InvalidInput,
    /// A destroying verb needs `--yes` when no terminal can be asked.
    ConfirmationRequired,
    /// A signature is missing, does not verify, or goes against what is trusted.
    Untrusted,
    /// No or wrong credentials.
    Unauthorized,
    /// The caller may not do this (not root, say).
    Forbidden,
    /// The named object does not exist.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The object is not in a state that allows this (a paused box, say).
    WrongState,
    /// Another operation holds the object.
    Busy,
    /// A limit on size or count was passed.
    TooLarge,
    /// A root's programs are not for this machine's architecture.
    WrongArchitecture,
    /// An image or feature this host cannot satisfy.
    Incompatible,
    /// The host's kernel or tools lack something this needs.
    Unsupported,
    /// The pool has no space left.
    PoolFull,
    /// The pool is not there or not initialised.
    NoPool,
    /// Stored data contradicts itself or its digest.
    Corrupt,
    /// A program Tine called failed.
    ToolFailed,
    /// Another host does not answer, or breaks off.
    Unreachable,
    /// The caller asked to stop.
    Cancelled,
    /// The user was asked, and said no.
    Declined,
    /// Anything else: an I/O error, a kernel refusal.
    Internal,
}

impl ErrorCode {
    /// Every code, in declaration order.
    pub const ALL: [Self; 24] = [
        Self::Usage,
        Self::InvalidName,
        Self::InvalidPath,
        Self::InvalidInput,
        Self::ConfirmationRequired,
        Self::Untrusted,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::AlreadyExists,
        Self::WrongState,
        Self::Busy,
        Self::TooLarge,
        Self::WrongArchitecture,
        Self::Incompatible,
        Self::Unsupported,
        Self::PoolFull,
        Self::NoPool,
        Self::Corrupt,
        Self::ToolFailed,
        Self::Unreachable,
        Self::Cancelled,
        Self::Declined,
        Self::Internal,
    ];

    /// The exit code of a command that ends with this error: 2 for wrong usage, 130 when it was stopped as asked (what a
    /// shell says of a program that Ctrl-C ends: 128 and the number of SIGINT), else 1.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::InvalidName | Self::ConfirmationRequired => 2,
            Self::Cancelled => 130,
            _ => 1,
        }
    }

    /// The HTTP status a server answers with.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Usage
            | Self::InvalidName
            | Self::InvalidPath
            | Self::InvalidInput
            | Self::ConfirmationRequired => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::Untrusted => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::WrongState | Self::Busy => 409,
            Self::TooLarge => 413,
            Self::WrongArchitecture | Self::Incompatible => 422,
            Self::Cancelled | Self::Declined => 499,
            Self::Corrupt | Self::ToolFailed | Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Unreachable => 502,
            Self::NoPool => 503,
            Self::PoolFull => 507,
        }
    }
}

/// An error of a service: a code, what was being done to which object and why it failed, and, apart from
/// that, the command that mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What a caller can act on.
    pub code: ErrorCode,
    /// One sentence without a leading capital or closing full stop.
    pub message: String,
    /// The command to type, where there is one.
    pub hint: Option<String>,
}

/// `Result` with the service's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same error with the command that mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, its message led by what was being done.
    #[must_use]
    pub fn context(mut self, doing: impl std::fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// The document that `--json` and the HTTP API print.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorFields { code: self.code, message: self.message.clone(), hint: self.hint.clone() },
        }
    }
}

/// `{"error":{"code","message","hint"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error's fields.
    pub error: ErrorFields,
}

/// The fields of [`ErrorBody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFields {
    /// See [`ErrorCode`].
    pub code: ErrorCode,
    /// See [`Error::message`].
    pub message: String,
    /// See [`Error::hint`].
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_string_exit_code_and_status() {
        let table: String = ErrorCode::ALL
            .iter()
            .map(|c| {
                let name = serde_json::to_string(c).unwrap();
                format!("{} {} {}\n", name.trim_matches('"'), c.exit_code(), c.http_status())
            })
            .collect();
        let golden = "usage 2 400\ninvalid_name 2 400\ninvalid_path 1 400\ninvalid_input 1 400\n\
            confirmation_required 2 400\nuntrusted 1 403\nunauthorized 1 401\nforbidden 1 403\nnot_found 1 404\n\
            already_exists 1 409\nwrong_state 1 409\nbusy 1 409\ntoo_large 1 413\n\
            wrong_architecture 1 422\nincompatible 1 422\nunsupported 1 501\npool_full 1 507\n\
            no_pool 1 503\ncorrupt 1 500\ntool_failed 1 500\nunreachable 1 502\ncancelled 130 499\n\
            declined 1 499\ninternal 1 500\n";
        assert_eq!(table, golden);
    }
}
