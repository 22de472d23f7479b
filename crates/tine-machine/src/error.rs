//! The error of container machines, named for what the caller can do about it.

use std::io;
use tine_model::ErrorCode;
use tine_sys::SysError;

/// What went wrong with a container box.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No process of the box exists, and the verb needs one.
    #[error("the box is not running")]
    NotRunning,
    /// The box runs already.
    #[error("the box is already running")]
    AlreadyRunning,
    /// The box is frozen, and the verb needs it to run.
    #[error("the box is paused")]
    Paused,
    /// The box is paused because its pool had no space for what it wrote.
    #[error("the box is paused because the pool was full")]
    Full,
    /// The box is being stopped.
    #[error("the box is stopping")]
    Stopping,
    /// The box could not be brought up.
    #[error("cannot start the box: {0}")]
    Start(String),
    /// What the box's monitor reported.
    #[error("{0}")]
    Reported(tine_model::Error),
    /// The box's root has something in a place where it must not be.
    #[error("the box's root cannot be used: {0}")]
    BadRoot(String),
    /// What was asked cannot be done as it is.
    #[error("{0}")]
    Invalid(String),
    /// A user or group that the box does not know.
    #[error("{0}")]
    NoSuchUser(String),
    /// A memory limit that would kill programs of the box.
    #[error("the box uses more memory than {limit}, and cannot give it back")]
    MemoryInUse {
        /// What was asked for.
        limit: tine_model::ByteSize,
    },
    /// The host's kernel lacks something.
    #[error("{0}")]
    Unsupported(String),
    /// The other side of a socket sent something odd or went away.
    #[error("{peer}: {reason}")]
    Protocol {
        /// Who was spoken to.
        peer: &'static str,
        /// What was odd.
        reason: String,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long, in seconds.
        seconds: u64,
    },
    /// What a program wrote could not be passed on to the caller.
    #[error("write the program's output: {0}")]
    Output(io::Error),
    /// The network of the box.
    #[error(transparent)]
    Net(#[from] crate::net::NetError),
    /// A system call wrapper failed.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// `Result` with [`MachineError`].
pub type MachineResult<T> = Result<T, MachineError>;

impl MachineError {
    /// An I/O error with what was being done, and to what.
    pub fn io(operation: &'static str, object: impl std::fmt::Display, source: impl Into<io::Error>) -> Self {
        Self::Sys(SysError::new(operation, object, source))
    }

    /// What a monitor has sent.
    pub(crate) fn reported(tine_model::ErrorBody { error }: tine_model::ErrorBody) -> Self {
        let (code, message, hint) = (error.code, error.message, error.hint);
        Self::Reported(tine_model::Error { code, message, hint })
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::NotRunning
            | Self::AlreadyRunning
            | Self::Paused
            | Self::Full
            | Self::Stopping
            | Self::MemoryInUse { .. } => ErrorCode::WrongState,
            Self::BadRoot(_) => ErrorCode::InvalidInput,
            Self::Invalid(_) | Self::NoSuchUser(_) => ErrorCode::Usage,
            Self::Unsupported(_) => ErrorCode::Unsupported,
            Self::Reported(error) => error.code,
            Self::Sys(error) if error.is_full() => ErrorCode::PoolFull,
            Self::Start(_)
            | Self::Output(_)
            | Self::Protocol { .. }
            | Self::Timeout { .. }
            | Self::Sys(_)
            | Self::Net(_) => ErrorCode::Internal,
        }
    }
}

impl From<MachineError> for tine_model::Error {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Net(net) => net.into(),
            MachineError::Reported(error) => error,
            paused @ (MachineError::Paused | MachineError::Full) => {
                Self::new(paused.code(), paused.to_string()).hint("tine resume BOX")
            }
            other => Self::new(other.code(), other.to_string()),
        }
    }
}
