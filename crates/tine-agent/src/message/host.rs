//! From the host to the guest.

use super::{
    identity::Identity,
    wire::{self, Credit, Data, Eof, odd},
};
use crate::error::{AgentError, AgentResult};
use serde::{Deserialize, Serialize};
use tine_model::{EnvVar, ExecRequest, RawPath, WindowSize};

/// The largest order, in bytes of its JSON.
pub const MAX_ORDER: usize = 4 << 20;

/// A message of the host.
#[derive(Debug, PartialEq, Eq)]
pub enum HostMessage<'a> {
    /// One of the typed ones.
    Control(HostControl),
    /// A piece of the order that opens a channel.
    Order(OrderPart<'a>),
    /// What a program is to read.
    Data(Data<'a>),
    /// What a program reads is over.
    Eof(Eof),
    /// What a program wrote has been taken in.
    Credit(Credit),
}

/// The typed messages of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HostControl {
    /// A session begins: earlier channels are forgotten, and their programs go on unheard.
    Hello {
        /// Comes back in the answer.
        nonce: u64,
        /// [`super::PROTOCOL`].
        protocol: u32,
    },
    /// Who the machine is from now on; comes after every `Hello` and before `Thaw`.
    Identity(Box<Identity>),
    /// The wall clock is this.
    SetClock {
        /// Nanoseconds since the Unix epoch.
        wall_clock_ns: u64,
    },
    /// Get the disk into a state that can be copied, and keep it there.
    Quiesce {
        /// Stop the programs too.
        programs: bool,
    },
    /// Programs may run and write. Undoes `Quiesce`; does nothing the second time.
    Thaw,
    /// Send this signal to a program's process group.
    Signal {
        /// Its channel.
        channel: u32,
        /// As the kernel numbers it.
        number: i32,
    },
    /// A program's terminal has another size.
    Resize {
        /// Its channel.
        channel: u32,
        /// The new size.
        size: WindowSize,
    },
    /// Whoever asked for a channel is gone: its program ends as when a terminal is closed, unless it was started in the
    /// background. The channel's number is free at once.
    Close {
        /// The channel.
        channel: u32,
    },
    /// SIGTERM to every process, SIGKILL after so many seconds, power off.
    Shutdown {
        /// Seconds.
        grace_seconds: u32,
    },
}

/// A piece of an [`Order`]'s JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderPart<'a> {
    /// The channel it opens.
    pub channel: u32,
    /// True for the last piece.
    pub last: bool,
    /// At most [`super::MAX_DATA`].
    pub bytes: &'a [u8],
}

/// What a channel is for. All of them end with `Exited` or `Failed`, but `StatPath`, which ends with `StatResult`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Run a program.
    Exec(Box<ExecOrder>),
    /// Send what lies at a path as a tar.
    CopyOut {
        /// A link at its end is copied as a link.
        path: RawPath,
    },
    /// Extract the tar that comes as input.
    CopyIn {
        /// A directory.
        path: RawPath,
    },
    /// Tell what lies at a path, a link at its end followed.
    StatPath {
        /// The path.
        path: RawPath,
    },
    /// Send the processes, as [`crate::processes::parse_list`] reads them.
    Processes,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecOrder {
    /// What the user asked for.
    pub request: ExecRequest,
    /// The box's environment.
    pub env: Vec<EnvVar>,
    /// Standard input, output and error; unused with a terminal.
    pub streams: [Stream; 3],
}

/// Where a standard stream leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The guest's own `/dev/null`.
    Null,
    /// The channel's stream of the same number.
    Piped,
    /// The box's log.
    Log,
}

impl<'a> HostMessage<'a> {
    /// Reads the content of a frame.
    ///
    /// # Errors
    /// [`AgentError::Malformed`].
    pub fn parse(payload: &'a [u8]) -> AgentResult<Self> {
        let (kind, body) = payload.split_first().ok_or_else(|| odd("an empty message"))?;
        match *kind {
            wire::CONTROL => wire::parse_control(body).map(Self::Control),
            wire::ORDER => OrderPart::parse(body).map(Self::Order),
            wire::DATA => Data::parse(body).map(Self::Data),
            wire::EOF => Eof::parse(body).map(Self::Eof),
            wire::CREDIT => Credit::parse(body).map(Self::Credit),
            other => Err(odd(format!("a message of kind {other}"))),
        }
    }

    /// Appends the message as a frame.
    ///
    /// # Errors
    /// [`AgentError::TooLarge`]; nothing is appended then.
    pub fn append(&self, out: &mut Vec<u8>) -> AgentResult<()> {
        match self {
            Self::Control(control) => wire::append_control(out, control),
            Self::Order(part) => {
                let lead = wire::lead(wire::ORDER, part.channel, u8::from(part.last));
                wire::append(out, &[&lead, part.bytes])
            }
            Self::Data(data) => data.append(out),
            Self::Eof(eof) => eof.append(out),
            Self::Credit(credit) => credit.append(out),
        }
    }
}

impl<'a> OrderPart<'a> {
    fn parse(body: &'a [u8]) -> AgentResult<Self> {
        match wire::head(body)? {
            (channel, last @ 0..=1, bytes) if bytes.len() <= super::MAX_DATA => {
                Ok(Self { channel, last: last == 1, bytes })
            }
            _ => Err(odd("a malformed piece of an order")),
        }
    }
}

impl Order {
    /// Appends the frames that open a channel with this order.
    ///
    /// # Errors
    /// [`AgentError::TooLarge`] above [`MAX_ORDER`]; nothing is appended then.
    pub fn append(&self, channel: u32, out: &mut Vec<u8>) -> AgentResult<()> {
        let json = serde_json::to_vec(self).map_err(|e| odd(e.to_string()))?;
        if json.len() > MAX_ORDER {
            return Err(AgentError::TooLarge("the request"));
        }
        let mut rest = json.as_slice();
        while !rest.is_empty() {
            let (bytes, after) = rest.split_at(rest.len().min(super::MAX_DATA));
            HostMessage::Order(OrderPart { channel, last: after.is_empty(), bytes }).append(out)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads an order whose pieces have been put together.
    ///
    /// # Errors
    /// [`AgentError::Malformed`].
    pub fn parse(json: &[u8]) -> AgentResult<Self> {
        wire::parse_control(json)
    }
}
