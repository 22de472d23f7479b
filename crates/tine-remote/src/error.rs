//! Why a transfer failed, by what the caller can do about it.

use crate::location::Location;
use std::{fmt::Display, io};
use tine_model::ErrorCode;

/// What went wrong. Messages never hold a password, a query or a byte that a terminal would obey.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The URL is none that can be used.
    #[error("{shown} cannot be used: {why}")]
    Location {
        /// The URL without its secrets, or `the URL`.
        shown: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such file.
    #[error("{shown} does not exist{detail}")]
    NotFound {
        /// The URL without its secrets.
        shown: String,
        /// What the server said, led by a colon; or nothing.
        detail: String,
    },
    /// The server wants credentials, or better ones.
    #[error("{shown} wants credentials{detail}")]
    Unauthorized {
        /// The URL without its secrets.
        shown: String,
        /// What the server said, led by a colon; or nothing.
        detail: String,
    },
    /// The server knows who asks and refuses.
    #[error("{shown} may not be accessed{detail}")]
    Forbidden {
        /// The URL without its secrets.
        shown: String,
        /// What the server said, led by a colon; or nothing.
        detail: String,
    },
    /// The server does what no server should, or something in the way of it that is not safe.
    #[error("{shown}: {why}")]
    Refused {
        /// The URL without its secrets.
        shown: String,
        /// What it did.
        why: String,
    },
    /// The content is not what was announced.
    #[error("{shown} is not what was expected: {why}")]
    Unexpected {
        /// The URL without its secrets, or the file's name.
        shown: String,
        /// What differs.
        why: String,
    },
    /// More bytes than the caller allows.
    #[error("{shown} has more than the {limit} bytes that are allowed")]
    TooLarge {
        /// The URL without its secrets.
        shown: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// No answer, a broken one, or one that says "not now", after every retry.
    #[error("{shown} cannot be reached: {why}")]
    Unreachable {
        /// The URL without its secrets.
        shown: String,
        /// The last reason.
        why: String,
    },
    /// Another has written the object meanwhile.
    #[error("{shown} was changed by another meanwhile")]
    Conflict {
        /// The URL without its secrets.
        shown: String,
    },
    /// The store lacks something that this needs.
    #[error(
        "the store of {shown} cannot write on a condition, without which two who write at once would lose what one of them wrote: {why}"
    )]
    Unsupported {
        /// The URL without its secrets.
        shown: String,
        /// What the store did or said.
        why: String,
    },
    /// The reporter asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A file of this host could not be read or written.
    #[error("{doing} {shown}: {source}")]
    Io {
        /// What was being done, in the present participle.
        doing: &'static str,
        /// The file.
        shown: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// There is no room where something is sent to on this host.
    #[error("writing {shown}: {source}")]
    TargetFull {
        /// The URL.
        shown: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Something that only this host is to blame for.
    #[error("{0}")]
    Internal(String),
}

/// `Result` with [`RemoteError`].
pub(crate) type Result<T, E = RemoteError> = std::result::Result<T, E>;

impl RemoteError {
    pub(crate) fn location(shown: impl Display, why: String) -> Self {
        Self::Location { shown: shown.to_string(), why }
    }
    pub(crate) fn refused(shown: impl Display, why: impl Into<String>) -> Self {
        Self::Refused { shown: shown.to_string(), why: why.into() }
    }
    pub(crate) fn unexpected(shown: impl Display, why: impl Into<String>) -> Self {
        Self::Unexpected { shown: shown.to_string(), why: why.into() }
    }
    pub(crate) fn unreachable(shown: impl Display, why: impl Display) -> Self {
        Self::Unreachable { shown: shown.to_string(), why: cleaned(&why.to_string()) }
    }
    pub(crate) fn too_large(shown: impl Display, limit: u64) -> Self {
        Self::TooLarge { shown: shown.to_string(), limit }
    }
    pub(crate) fn io(doing: &'static str, shown: impl Display, source: io::Error) -> Self {
        Self::Io { doing, shown: shown.to_string(), source }
    }

    /// The error of a status that no retry mends; `said` is the server's own text.
    pub(crate) fn status(shown: impl Display, status: u16, said: &str) -> Self {
        let said = cleaned(said);
        let detail = if said.is_empty() { String::new() } else { format!(": {said}") };
        let (shown, led) = (shown.to_string(), format!(" (status {status}){detail}"));
        match status {
            404 | 410 => Self::NotFound { shown, detail: led },
            401 | 407 => Self::Unauthorized { shown, detail: led },
            403 => Self::Forbidden { shown, detail: led },
            408 | 429 | 500..=599 => Self::Unreachable { shown, why: format!("status {status}{detail}") },
            _ => Self::Refused { shown, why: format!("the server answers with status {status}{detail}") },
        }
    }

    /// What a caller can act on.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Location { .. } | Self::Refused { .. } | Self::Unexpected { .. } => ErrorCode::InvalidInput,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Unauthorized { .. } => ErrorCode::Unauthorized,
            Self::Forbidden { .. } => ErrorCode::Forbidden,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Unreachable { .. } => ErrorCode::Unreachable,
            Self::Conflict { .. } => ErrorCode::Busy,
            Self::Unsupported { .. } => ErrorCode::Unsupported,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Io { source, .. } if is_full(source) => ErrorCode::PoolFull,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorCode::NotFound,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorCode::Forbidden
            }
            // where something is sent need not be the pool: its being full says nothing of that
            Self::Io { .. } | Self::TargetFull { .. } | Self::Internal(_) => ErrorCode::Internal,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Location { .. } => {
                "give a URL such as https://host/file, s3://bucket/key or oci://registry/name:tag"
            }
            Self::NotFound { .. } => "tine hub list",
            Self::Unauthorized { shown, .. } | Self::Forbidden { shown, .. } => credentials_hint(shown),
            Self::Unreachable { .. } => "type the same command again: it goes on where it stopped",
            Self::Io { source, .. } if is_full(source) => "tine gc",
            Self::TargetFull { .. } => "make room there, or push to another place",
            _ => return None,
        })
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn credentials_hint(shown: &str) -> &'static str {
    match shown.split_once(':').map_or("", |(scheme, _)| scheme) {
        "s3" => "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_REGION=…",
        "gs" => "export GOOGLE_APPLICATION_CREDENTIALS=/path/to/key.json",
        "az" => "export AZURE_STORAGE_ACCOUNT_NAME=… AZURE_STORAGE_ACCOUNT_KEY=…",
        "oci" => "docker login REGISTRY",
        "file" => "sudo tine …",
        _ => "ask for a new URL: a signed one runs out",
    }
}

impl From<RemoteError> for tine_model::Error {
    fn from(error: RemoteError) -> Self {
        let out = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => out.hint(hint),
            None => out,
        }
    }
}

/// The longest text of a server that is shown, in characters.
const SAID_MAX: usize = 300;

/// A server's text as it may be shown: one line, no control characters, not long.
pub(crate) fn cleaned(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() || is_odd(c) { ' ' } else { c });
    let mut out = String::new();
    let mut kept = 0;
    for c in plain {
        if c == ' ' && (out.is_empty() || out.ends_with(' ')) {
            continue;
        }
        if kept == SAID_MAX {
            out.push('…');
            break;
        }
        out.push(c);
        kept += 1;
    }
    out.trim_end().to_owned()
}

/// Characters that change the direction or the look of what is beside them.
fn is_odd(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The same for an error's whole chain of causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.last().is_some_and(|last| last.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

impl Location {
    pub(crate) fn failed(&self, doing: &'static str, source: io::Error) -> RemoteError {
        RemoteError::io(doing, self, source)
    }

    /// Writing to this place on this host has failed.
    pub(crate) fn not_written(&self, source: io::Error) -> RemoteError {
        match is_full(&source) {
            true => RemoteError::TargetFull { shown: self.to_string(), source },
            false => self.failed("writing", source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_text_is_made_harmless() {
        assert_eq!(cleaned("  a\r\n\x1b[31mb\u{202e}c  "), "a [31mb c");
        let long = cleaned(&"x".repeat(1000));
        assert_eq!(long.chars().count(), SAID_MAX + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn statuses_have_their_codes() {
        for (status, code) in [
            (401, ErrorCode::Unauthorized),
            (403, ErrorCode::Forbidden),
            (404, ErrorCode::NotFound),
            (429, ErrorCode::Unreachable),
            (503, ErrorCode::Unreachable),
            (400, ErrorCode::InvalidInput),
        ] {
            let error = RemoteError::status("https://h/x", status, "said");
            assert_eq!(error.code(), code, "{status}");
            assert!(error.to_string().contains(&status.to_string()) && error.to_string().contains("said"));
        }
    }
}
