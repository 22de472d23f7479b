//! A channel: a process that was asked for, its streams, and who listens. It may outlive its listener.

use super::{
    link::Link,
    streams::{Input, Output},
};
use crate::{
    error::AgentError,
    launch::Program,
    message::{GuestControl, stream},
};
use rustix::process::{Pid, WaitStatus};
use serde::{Deserialize, Serialize};
use std::{
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};
use tine_archive::ArchiveError;
use tine_model::{ErrorCode, WindowSize};
use tine_sys::SysError;

/// The longest report that is read, in bytes.
const MAX_REPORT: u64 = 8 << 10;

/// Why a process did not do what it was made for; what it leaves in its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<tine_model::Error> for Failure {
    fn from(error: tine_model::Error) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        tine_model::Error::from(error).into()
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        tine_model::Error::from(error).into()
    }
}

impl From<SysError> for Failure {
    fn from(error: SysError) -> Self {
        AgentError::from(error).into()
    }
}

/// What a process is connected by.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    pub(super) input: Option<Input>,
    pub(super) outputs: Vec<Output>,
    pub(super) terminal: Option<OwnedFd>,
    /// Where the new process says why it failed; closed without a word when it did not.
    pub(super) report: Option<OwnedFd>,
}

/// A process and its listener.
#[derive(Debug)]
pub(super) struct Channel {
    id: Option<u32>,
    program: Program,
    wiring: Wiring,
    ended: Option<WaitStatus>,
}

impl Channel {
    pub(super) fn new(id: u32, program: Program, wiring: Wiring) -> Self {
        Self { id: Some(id), program, wiring, ended: None }
    }

    pub(super) fn is(&self, id: u32) -> bool {
        self.id == Some(id)
    }

    /// True while somebody listens.
    pub(super) fn is_open(&self) -> bool {
        self.id.is_some()
    }

    /// The process, as long as it runs.
    pub(super) fn program(&mut self) -> Option<&mut Program> {
        self.ended.is_none().then_some(&mut self.program)
    }

    pub(super) fn signal(&mut self, number: i32) {
        if let Some(program) = self.program() {
            program.signal(number);
        }
    }

    /// True when the process of this id was this channel's and has now ended.
    pub(super) fn bury(&mut self, pid: Pid, status: WaitStatus) -> bool {
        let ours = self.ended.is_none() && self.program.pid() == pid;
        if ours {
            self.ended = Some(status);
        }
        ours
    }

    /// The input's descriptor, when there is something to pass on.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.wiring.input.as_ref().and_then(Input::interest)
    }

    /// The streams and descriptors of the outputs of which something would be taken.
    pub(super) fn outputs<'c>(&'c self, link: &'c Link) -> impl Iterator<Item = (u8, BorrowedFd<'c>)> {
        let outputs = self.wiring.outputs.iter();
        outputs.filter_map(move |output| Some((output.stream(), output.interest(self.id, link)?)))
    }

    /// When it has something to do though nothing happens.
    pub(super) fn deadline(&self, link: &Link) -> Option<Instant> {
        let program = self.program.deadline().filter(|_| self.ended.is_none());
        let outputs = self.wiring.outputs.iter().filter_map(|output| output.deadline(self.id, link));
        program.into_iter().chain(outputs).min()
    }

    /// Data for the process; a host that sends more than it may, or after the end, has ended the stream.
    pub(super) fn take(&mut self, from: u8, bytes: &[u8], link: &mut Link) {
        if let Some(input) = self.wiring.input.as_mut().filter(|_| from == stream::INPUT) {
            if !input.take(bytes) {
                input.end();
            }
            self.pass_input(link);
        }
    }

    pub(super) fn end_input(&mut self, from: u8, link: &mut Link) {
        if let Some(input) = self.wiring.input.as_mut().filter(|_| from == stream::INPUT) {
            input.end();
            self.pass_input(link);
        }
    }

    pub(super) fn pass_input(&mut self, link: &mut Link) {
        if self.wiring.input.as_mut().is_some_and(|input| input.pass(self.id, link)) {
            self.wiring.input = None;
        }
    }

    pub(super) fn returned(&mut self, stream: u8, bytes: u32) {
        for output in &mut self.wiring.outputs {
            output.returned(stream, bytes);
        }
    }

    pub(super) fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.wiring.terminal {
            let _ = tine_sys::terminal::set_size(terminal.as_fd(), size.rows, size.columns);
        }
    }

    /// Passes on one piece of an output.
    pub(super) fn pass_output(&mut self, stream: u8, link: &mut Link, buffer: &mut [u8]) {
        let id = self.id;
        self.wiring.outputs.retain_mut(|output| output.stream() != stream || !output.pass(id, link, buffer));
    }

    /// Nobody listens any more, but the program goes on: its output is dropped, its input is over.
    pub(super) fn forsake(&mut self, link: &mut Link) {
        self.id = None;
        self.end_input(stream::INPUT, link);
    }

    /// Whoever asked for it is gone: as when a terminal is closed.
    pub(super) fn close(&mut self, link: &mut Link) {
        if let Some(program) = self.program() {
            program.hang_up();
        }
        self.forsake(link);
    }

    /// Deals with the end of the process; true when the channel is over.
    pub(super) fn finish(&mut self, link: &mut Link, buffer: &mut [u8]) -> bool {
        let Some(status) = self.ended else { return false };
        let Some(channel) = self.id else { return true };
        self.wiring.input = None;
        self.wiring.outputs.retain_mut(|output| !output.drain(Some(channel), link, buffer));
        if !self.wiring.outputs.is_empty() {
            return false;
        }
        link.tell(match self.wiring.report.take().and_then(read_report) {
            Some(Failure { code, message }) => {
                GuestControl::Failed { channel, code, message: message.into() }
            }
            None => GuestControl::Exited { channel, code: self.program.exit_code(status) },
        });
        true
    }
}

fn read_report(report: OwnedFd) -> Option<Failure> {
    super::streams::unblock(&report).ok()?;
    let mut bytes = Vec::new();
    // What the process had written is there; anything after it is not awaited.
    let _ = std::fs::File::from(report).take(MAX_REPORT).read_to_end(&mut bytes);
    serde_json::from_slice(&bytes).ok()
}
