//! Messages between the client, the monitor and the box's init: JSON in frames led by their length.
//!
//! Whoever receives one treats it as an attacker's: it is bounded, typed, and refused when odd.

use crate::error::{MachineError, MachineResult};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::os::fd::{BorrowedFd, OwnedFd};
use tine_model::{Contract, EnvVar, ErrorBody, ExecRequest, Limits, PathKind, RawPath, WindowSize};
use tine_sys::fdpass;

/// The largest request, in bytes.
pub(crate) const MAX_REQUEST: usize = 4 << 20;
/// The largest answer, in bytes.
pub(crate) const MAX_REPLY: usize = 64 << 10;

/// What the client asks the box's init.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitRequest {
    /// Start a program; the first message of a connection.
    Exec(Box<ExecOrder>),
    /// Send a signal to the program's process group.
    Signal(i32),
    /// Give the program's terminal another size; a vm box's only, whose terminal is in the guest.
    Resize(WindowSize),
    /// Send what lies at a path as a tar into the descriptor that comes along; a vm box's only.
    CopyOut(RawPath),
    /// Extract the tar that comes from the descriptor that comes along; a vm box's only.
    CopyIn(RawPath),
    /// Tell what lies at a path; a vm box's only.
    StatPath(RawPath),
    /// Send the processes into the descriptor that comes along; a vm box's only.
    Processes,
}

/// A program to start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecOrder {
    /// What the user asked for.
    pub(crate) request: ExecRequest,
    /// The box's environment.
    pub(crate) env: Vec<EnvVar>,
    /// Standard input, output and error; unused with a terminal.
    pub(crate) streams: [Stream; 3],
}

/// Where a standard stream leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stream {
    /// The box's own `/dev/null`.
    Null,
    /// The next descriptor that came with the message.
    Passed,
    /// The box's log.
    Log,
}

/// What the init answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InitReply {
    /// The program's process was made; with a terminal its master comes along.
    Started {
        /// Inside the box.
        pid: u32,
    },
    /// The program ended.
    Exited {
        /// As `exec` returns it.
        code: u8,
    },
    /// What lies at a path.
    Stat(PathKind),
    /// Nothing was started.
    Failed {
        /// Why.
        reason: FailReason,
        /// In words.
        message: String,
    },
}

/// Why the init starts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailReason {
    /// The user or group is unknown in the box.
    NoSuchUser,
    /// The box is being stopped.
    Stopping,
    /// Anything else.
    Other,
}

/// What the client asks the monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlRequest {
    /// SIGTERM to every process; SIGKILL after so many seconds.
    Stop {
        /// Seconds.
        grace_seconds: u32,
    },
    /// SIGKILL to every process.
    Kill,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Use these limits from now on.
    SetLimits(Limits),
    /// Bring the disk of a vm box into a state that can be copied.
    Quiesce,
    /// Undo that.
    Thaw,
    /// Save the state of a vm box into the files that come along: memory and devices, and then the root that holds the
    /// disk and the directory that its snapshot goes into.
    Capture {
        /// Whether programs are stopped in order first, so that clones can be given identities of their own before
        /// anything runs in them.
        quiesce: bool,
    },
    /// Tell how much memory the machine of a vm box takes.
    Usage,
}

/// What a vm box's machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineUsage {
    /// Bytes of the guest's memory that it shares with no other machine.
    pub private_bytes: u64,
    /// Bytes of the whole process, shared pages counted in proportion.
    pub proportional_bytes: u64,
}

/// What saving a machine's state told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Microseconds for which the machine stood still.
    pub pause_us: u64,
    /// Bytes of memory it had written itself.
    pub own_bytes: u64,
    /// What a host must offer to go on from the state.
    pub contract: Contract,
}

/// What the monitor answers. To `Stop` and `Kill` the answer is that the connection closes when all is gone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlReply {
    /// Done.
    Done,
    /// The state is saved.
    Captured(Captured),
    /// What was asked.
    Usage(MachineUsage),
    /// Not done, and why.
    Failed(ErrorBody),
}

/// Sends one message, with descriptors. On a socket that does not block, a full one is an error.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> MachineResult<()> {
    let body = serde_json::to_vec(message).map_err(|e| odd(e.to_string()))?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n as usize <= MAX_REQUEST);
    let length =
        length.ok_or_else(|| MachineError::Invalid("the request is larger than 4 MiB".to_owned()))?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    let mut sent = fdpass::send(socket, &frame, fds)?;
    while sent < frame.len() {
        sent += fdpass::send(socket, &frame[sent..], &[])?;
    }
    Ok(())
}

/// How a read from a socket went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Something came.
    Some,
    /// Nothing is there at the moment.
    Nothing,
    /// The other side has closed.
    Closed,
}

/// Collects frames, and the descriptors that came along.
#[derive(Debug)]
pub(crate) struct FrameReader {
    limit: usize,
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl FrameReader {
    /// One that refuses frames of more than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, bytes: Vec::new(), fds: Vec::new() }
    }

    /// Reads once from the socket.
    pub(crate) fn fill(&mut self, socket: BorrowedFd<'_>) -> MachineResult<Filled> {
        let mut buffer = [0; 16 << 10];
        match fdpass::receive(socket, &mut buffer, &mut self.fds) {
            Ok(0) => Ok(Filled::Closed),
            Ok(n) => {
                self.bytes.extend_from_slice(&buffer[..n]);
                if self.fds.len() > fdpass::MAX_FDS {
                    Err(odd("too many descriptors"))
                } else {
                    Ok(Filled::Some)
                }
            }
            Err(e) if e.source.kind() == std::io::ErrorKind::WouldBlock => Ok(Filled::Nothing),
            Err(e) if e.source.kind() == std::io::ErrorKind::ConnectionReset => Ok(Filled::Closed),
            Err(e) => Err(e.into()),
        }
    }

    /// The next whole message, if it is there.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> MachineResult<Option<T>> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > self.limit {
            return Err(odd(format!("a message of {length} bytes")));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|e| odd(format!("a malformed message: {e}")))?;
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(message))
    }

    /// The descriptors that came so far.
    pub(crate) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }
}

fn odd(reason: impl Into<String>) -> MachineError {
    MachineError::Protocol { peer: "the other side of the socket", reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        os::{fd::AsFd, unix::net::UnixStream},
    };

    #[test]
    fn messages_arrive_whole_in_order_and_with_their_descriptors() {
        let (a, b) = UnixStream::pair().unwrap();
        send(a.as_fd(), &InitRequest::Signal(1), &[a.as_fd()]).unwrap();
        send(a.as_fd(), &InitRequest::Signal(2), &[]).unwrap();
        let mut reader = FrameReader::new(MAX_REQUEST);
        let mut got = Vec::new();
        while got.len() < 2 {
            assert_eq!(reader.fill(b.as_fd()).unwrap(), Filled::Some);
            while let Some(InitRequest::Signal(n)) = reader.next().unwrap() {
                got.push(n);
            }
        }
        assert_eq!((got, reader.take_fds().len()), (vec![1, 2], 1));
    }

    #[test]
    fn a_frame_over_the_limit_or_malformed_is_refused() {
        for bytes in [&[255, 255, 255, 255][..], b"\x02\0\0\0{]"] {
            let (mut a, b) = UnixStream::pair().unwrap();
            a.write_all(bytes).unwrap();
            let mut reader = FrameReader::new(MAX_REPLY);
            reader.fill(b.as_fd()).unwrap();
            assert!(reader.next::<InitReply>().is_err(), "{bytes:?}");
        }
    }
}
