//! The parts of a message's bytes that both directions share.

use super::MAX_DATA;
use crate::error::{AgentError, AgentResult};
use serde::{Serialize, de::DeserializeOwned};

/// A typed message as JSON.
pub(super) const CONTROL: u8 = 1;
/// Bytes of a stream.
pub(super) const DATA: u8 = 2;
/// The end of a stream.
pub(super) const EOF: u8 = 3;
/// Room in a stream's window.
pub(super) const CREDIT: u8 = 4;
/// Output of background programs.
pub(super) const LOG: u8 = 5;
/// A piece of an order.
pub(super) const ORDER: u8 = 6;

/// Bytes of a stream of a channel, at most [`MAX_DATA`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// The channel.
    pub channel: u32,
    /// One of [`super::stream`].
    pub stream: u8,
    /// Not empty.
    pub bytes: &'a [u8],
}

/// A stream has ended. From the host: what the program reads is over. From the guest: a program has closed its output,
/// or nobody reads the input any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eof {
    /// The channel.
    pub channel: u32,
    /// One of [`super::stream`].
    pub stream: u8,
}

/// The receiver of a stream has taken in so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The channel.
    pub channel: u32,
    /// One of [`super::stream`].
    pub stream: u8,
    /// Bytes, not 0.
    pub bytes: u32,
}

impl<'a> Data<'a> {
    pub(super) fn parse(body: &'a [u8]) -> AgentResult<Self> {
        let (channel, stream, bytes) = head(body)?;
        if bytes.is_empty() || bytes.len() > MAX_DATA {
            return Err(odd("data of a forbidden length"));
        }
        Ok(Self { channel, stream, bytes })
    }

    pub(super) fn append(&self, out: &mut Vec<u8>) -> AgentResult<()> {
        if self.bytes.len() > MAX_DATA {
            return Err(AgentError::TooLarge("a piece of data"));
        }
        append(out, &[&lead(DATA, self.channel, self.stream), self.bytes])
    }
}

impl Eof {
    pub(super) fn parse(body: &[u8]) -> AgentResult<Self> {
        match head(body)? {
            (channel, stream, []) => Ok(Self { channel, stream }),
            _ => Err(odd("an end with something after it")),
        }
    }

    pub(super) fn append(&self, out: &mut Vec<u8>) -> AgentResult<()> {
        append(out, &[&lead(EOF, self.channel, self.stream)])
    }
}

impl Credit {
    pub(super) fn parse(body: &[u8]) -> AgentResult<Self> {
        let (channel, stream, bytes) = head(body)?;
        let bytes = bytes.try_into().map(u32::from_le_bytes).ok().filter(|bytes| *bytes > 0);
        Ok(Self { channel, stream, bytes: bytes.ok_or_else(|| odd("credit of no bytes"))? })
    }

    pub(super) fn append(&self, out: &mut Vec<u8>) -> AgentResult<()> {
        append(out, &[&lead(CREDIT, self.channel, self.stream), &self.bytes.to_le_bytes()])
    }
}

/// Kind, channel and stream; the same length for every kind that has them.
pub(super) fn lead(kind: u8, channel: u32, stream: u8) -> [u8; 6] {
    let [a, b, c, d] = channel.to_le_bytes();
    [kind, a, b, c, d, stream]
}

/// The channel, the byte after it, and the rest.
pub(super) fn head(body: &[u8]) -> AgentResult<(u32, u8, &[u8])> {
    let (channel, rest) = body.split_first_chunk::<4>().ok_or_else(|| odd("a message that is cut off"))?;
    let (byte, rest) = rest.split_first().ok_or_else(|| odd("a message that is cut off"))?;
    Ok((u32::from_le_bytes(*channel), *byte, rest))
}

pub(super) fn append(out: &mut Vec<u8>, parts: &[&[u8]]) -> AgentResult<()> {
    crate::frame::append(out, parts)
}

pub(super) fn append_control<T: Serialize>(out: &mut Vec<u8>, control: &T) -> AgentResult<()> {
    let json = serde_json::to_vec(control).map_err(|e| odd(e.to_string()))?;
    append(out, &[&[CONTROL], &json])
}

pub(super) fn parse_control<T: DeserializeOwned>(body: &[u8]) -> AgentResult<T> {
    serde_json::from_slice(body).map_err(|e| odd(format!("a malformed message: {e}")))
}

pub(super) fn odd(reason: impl Into<String>) -> AgentError {
    AgentError::Malformed(reason.into())
}
