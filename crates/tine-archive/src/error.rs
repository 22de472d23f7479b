//! Why an archive was refused or could not be read or written.

use std::io;
use tine_model::{ErrorCode, RawPath};
use tine_sys::SysError;

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A member asks for something no archive may.
    #[error("{}: {why}", shown(member))]
    Hostile {
        /// The member's name as the archive has it.
        member: Vec<u8>,
        /// What it asks for.
        why: String,
    },
    /// The data is no archive, is damaged, or ends early.
    #[error("{0}")]
    Malformed(String),
    /// A limit on count or size was passed.
    #[error("{0}")]
    TooLarge(String),
    /// The programs in the tree are not for this machine.
    #[error("{0}")]
    WrongArchitecture(String),
    /// The reporter asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The archive could not be read, or not be written.
    #[error("{operation} the archive: {source}")]
    Stream {
        /// `read` or `write`.
        operation: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The tree could not be read or changed.
    #[error("{}{source}", led(member))]
    Tree {
        /// The member being worked on; empty for none.
        member: Vec<u8>,
        /// The call that failed.
        #[source]
        source: SysError,
    },
}

/// `Result` with [`ArchiveError`].
pub(crate) type Result<T, E = ArchiveError> = std::result::Result<T, E>;

impl ArchiveError {
    pub(crate) fn hostile(member: &[u8], why: impl Into<String>) -> Self {
        Self::Hostile { member: member.to_vec(), why: why.into() }
    }
    pub(crate) fn malformed(why: impl Into<String>) -> Self {
        Self::Malformed(why.into())
    }
    pub(crate) fn tree(member: &[u8], source: SysError) -> Self {
        Self::Tree { member: member.to_vec(), source }
    }
    pub(crate) fn write(source: io::Error) -> Self {
        Self::Stream { operation: "write", source }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Hostile { .. } | Self::Malformed(_) => ErrorCode::InvalidInput,
            Self::TooLarge(_) => ErrorCode::TooLarge,
            Self::WrongArchitecture(_) => ErrorCode::WrongArchitecture,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Tree { source, .. } if source.is_full() => ErrorCode::PoolFull,
            // the stream is the caller's: its being full says nothing of the pool
            Self::Stream { .. } | Self::Tree { .. } => ErrorCode::Internal,
        }
    }
}

/// A read that failed: damaged data where a decoder says so, else the stream's own fault.
impl From<io::Error> for ArchiveError {
    fn from(source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match source.kind() {
            Kind::UnexpectedEof => Self::malformed("the archive is cut off"),
            Kind::InvalidData | Kind::InvalidInput => {
                Self::malformed(format!("the archive is damaged: {source}"))
            }
            _ => Self::Stream { operation: "read", source },
        }
    }
}

impl From<SysError> for ArchiveError {
    fn from(source: SysError) -> Self {
        Self::tree(b"", source)
    }
}

impl From<ArchiveError> for tine_model::Error {
    fn from(error: ArchiveError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        let error = Self::new(code, message);
        match code {
            ErrorCode::PoolFull => error.hint("tine gc"),
            _ => error,
        }
    }
}

/// A member's name as it is shown: quoted where it holds odd bytes, cut where it is absurdly long.
fn shown(member: &[u8]) -> String {
    let cut = member.get(..SHOWN_MAX).unwrap_or(member);
    let dots = if cut.len() < member.len() { "…" } else { "" };
    format!("member {}{dots}", RawPath::new(cut))
}

fn led(member: &[u8]) -> String {
    if member.is_empty() { String::new() } else { format!("{}: ", shown(member)) }
}

const SHOWN_MAX: usize = 300;
