//! From the guest to the host.

use super::wire::{self, Credit, Data, Eof, odd};
use crate::{error::AgentResult, processes::printable};
use serde::{Deserialize, Serialize};
use std::fmt;
use tine_model::{ErrorCode, PathKind};

/// The longest text the guest says, in characters; what is beyond is cut off.
const MAX_TEXT: usize = 1024;

/// A message of the guest.
#[derive(Debug, PartialEq, Eq)]
pub enum GuestMessage<'a> {
    /// One of the typed ones.
    Control(GuestControl),
    /// What a program has written.
    Data(Data<'a>),
    /// A program has closed a stream.
    Eof(Eof),
    /// What a program was to read has been passed on.
    Credit(Credit),
    /// Output of background programs, at most [`super::MAX_DATA`] bytes.
    Log(&'a [u8]),
}

/// The typed messages of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GuestControl {
    /// The session has begun; everything after this belongs to it.
    HelloAck {
        /// From the `Hello`.
        nonce: u64,
        /// The guest's [`super::PROTOCOL`].
        protocol: u32,
        /// The agent's version.
        agent_version: GuestText,
        /// In which state the machine is.
        phase: Phase,
    },
    /// The machine is who it is to be.
    IdentitySet {
        /// Its clock now, in nanoseconds since the Unix epoch.
        wall_clock_ns: u64,
    },
    /// The clock has been set.
    ClockSet {
        /// It is now, in nanoseconds since the Unix epoch.
        wall_clock_ns: u64,
    },
    /// The disk can be copied.
    Quiesced,
    /// Programs run.
    Thawed,
    /// Something that is not a channel's was not done.
    Refused {
        /// What.
        what: Refused,
        /// Why.
        message: GuestText,
    },
    /// A program's process was made.
    Started {
        /// Its channel.
        channel: u32,
        /// Its process id.
        pid: u32,
    },
    /// A channel's work is over, and everything it had written before has been sent. The channel is free.
    Exited {
        /// The channel.
        channel: u32,
        /// As `exec` returns it; 0 for what is no program.
        code: u8,
    },
    /// A channel's work was not begun or not done. The channel is free.
    Failed {
        /// The channel.
        channel: u32,
        /// As the caller can act on it.
        code: ErrorCode,
        /// Why.
        message: GuestText,
    },
    /// What lies at a path. The channel is free.
    StatResult {
        /// The channel.
        channel: u32,
        /// What.
        kind: PathKind,
    },
    /// The machine cannot come up and powers off. Comes without a session.
    Boot {
        /// Why.
        message: GuestText,
    },
}

/// In which state a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Booted, and not thawed yet: no program has run.
    Booted,
    /// Quiesced.
    Quiesced,
    /// Programs run.
    Running,
    /// It is shutting down.
    Stopping,
}

/// What of the machine as a whole was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// Taking on an identity.
    Identity,
    /// Setting the clock.
    SetClock,
    /// Quiescing.
    Quiesce,
    /// Thawing.
    Thaw,
}

/// A guest's own words: short, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct GuestText(String);

impl From<String> for GuestText {
    fn from(text: String) -> Self {
        Self(printable(&text.chars().take(MAX_TEXT).collect::<String>()))
    }
}

impl From<&str> for GuestText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<GuestText> for String {
    fn from(text: GuestText) -> Self {
        text.0
    }
}

impl fmt::Display for GuestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> GuestMessage<'a> {
    /// Reads the content of a frame.
    ///
    /// # Errors
    /// [`crate::AgentError::Malformed`].
    pub fn parse(payload: &'a [u8]) -> AgentResult<Self> {
        let (kind, body) = payload.split_first().ok_or_else(|| odd("an empty message"))?;
        match *kind {
            wire::CONTROL => wire::parse_control(body).map(Self::Control),
            wire::DATA => Data::parse(body).map(Self::Data),
            wire::EOF => Eof::parse(body).map(Self::Eof),
            wire::CREDIT => Credit::parse(body).map(Self::Credit),
            wire::LOG if body.len() <= super::MAX_DATA => Ok(Self::Log(body)),
            other => Err(odd(format!("a message of kind {other}"))),
        }
    }

    /// Appends the message as a frame.
    ///
    /// # Errors
    /// [`crate::AgentError::TooLarge`]; nothing is appended then.
    pub fn append(&self, out: &mut Vec<u8>) -> AgentResult<()> {
        match self {
            Self::Control(control) => wire::append_control(out, control),
            Self::Data(data) => data.append(out),
            Self::Eof(eof) => eof.append(out),
            Self::Credit(credit) => credit.append(out),
            Self::Log(bytes) => wire::append(out, &[&[wire::LOG], bytes]),
        }
    }
}
