//! Running programs in a box, and moving files in and out.

use crate::{names::BoxRef, rawpath::RawPath, timestamp::Timestamp};
use serde::{Deserialize, Serialize};
use std::{os::fd::OwnedFd, sync::mpsc::Receiver};

/// What `exec` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The program and its arguments; the program is looked up in the box's `PATH`.
    pub argv: Vec<String>,
    /// Added to, and winning over, the box's environment.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the box; root when none.
    #[serde(default)]
    pub user: Option<String>,
    /// The working directory; the user's home (or `/`) when none.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Gives the program a terminal of this size.
    #[serde(default)]
    pub tty: Option<WindowSize>,
    /// Starts it and returns at once; its output goes to the box's log.
    #[serde(default)]
    pub background: bool,
    /// Kills it (SIGTERM, then SIGKILL two seconds later) after so many seconds; the exit code is then 124.
    #[serde(default)]
    pub timeout_seconds: Option<u32>,
}

impl ExecRequest {
    /// Runs a program as root in its home, with nothing but the box's own environment, and waits for it.
    #[must_use]
    pub fn of(argv: Vec<String>) -> Self {
        Self {
            argv,
            env: Vec::new(),
            user: None,
            working_dir: None,
            tty: None,
            background: false,
            timeout_seconds: None,
        }
    }
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// An environment variable; text form `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvVar {
    /// The key: not empty, without `=` and NUL.
    pub key: String,
    /// The value: without NUL.
    pub value: String,
}

impl std::str::FromStr for EnvVar {
    type Err = crate::Error;
    fn from_str(text: &str) -> crate::Result<Self> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !text.contains('\0') => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(crate::Error::new(
                crate::ErrorCode::Usage,
                format!("environment variable {text:?} is not of the form KEY=VALUE"),
            )),
        }
    }
}

impl std::fmt::Display for EnvVar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl TryFrom<String> for EnvVar {
    type Error = crate::Error;
    fn try_from(text: String) -> crate::Result<Self> {
        text.parse()
    }
}

impl From<EnvVar> for String {
    fn from(var: EnvVar) -> Self {
        var.to_string()
    }
}

/// The caller's side of an exec's streams. The service copies bytes or passes pipes through; it never hands the box
/// a descriptor of a file, device or terminal of the caller.
#[derive(Debug)]
pub struct ExecStreams {
    /// What the program reads; `/dev/null` when none.
    pub stdin: Option<OwnedFd>,
    /// Where its output goes; with a terminal, all of it.
    pub stdout: OwnedFd,
    /// Where its errors go; unused with a terminal.
    pub stderr: OwnedFd,
    /// Signals and window sizes while it runs.
    pub events: Receiver<ExecEvent>,
}

/// Something for a running exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEvent {
    /// Send this signal number to the program.
    Signal(i32),
    /// The terminal has another size.
    Resize(WindowSize),
}

/// How an exec ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecOutcome {
    /// The program ended; 0–255, 128+n for a signal, 126 not executable, 127 not found, 124 timed out.
    Exited {
        /// The exit code.
        code: u8,
    },
    /// A background program was started.
    Started {
        /// Its process id inside the box.
        pid: u32,
    },
}

/// One process in a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id inside the box.
    pub pid: u32,
    /// Numeric user id.
    pub uid: u32,
    /// One letter, as `ps` prints: R, S, D, T, Z.
    pub state: String,
    /// Resident bytes.
    pub rss_bytes: crate::ByteSize,
    /// When it started.
    pub started_at: Timestamp,
    /// The command line, arguments joined by spaces, control characters replaced.
    pub command: String,
}

/// What `logs` is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsRequest {
    /// Only so many of the last lines.
    pub tail: Option<u32>,
    /// Goes on printing as the log grows, until cancelled or the box stops.
    pub follow: bool,
    /// What the kernel of a vm box wrote to its console, instead of what background programs wrote.
    #[serde(default)]
    pub console: bool,
}

/// A path inside a box, for `cp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxPath {
    /// The box.
    #[serde(rename = "box")]
    pub name: BoxRef,
    /// The path, from the box's `/`.
    pub path: RawPath,
}

/// What a path given to `cp` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Nothing is there.
    Missing,
    /// A directory.
    Directory,
    /// Anything else.
    File,
}
