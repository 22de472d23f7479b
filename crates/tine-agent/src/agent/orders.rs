//! Orders: putting their pieces together, and starting what they ask for.

use super::{
    channel::{Channel, Failure, Wiring},
    streams::{Input, Kind, Output},
    work,
};
use crate::{
    error::AgentResult,
    launch::{self, ChildStreams, Hooks, Launch, Refusal},
    message::{ExecOrder, MAX_ORDER, Order, OrderPart, Stream, stream},
};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
};
use tine_model::ErrorCode;
use tine_sys::{SysError, SysResult};

/// Pieces of unfinished orders may take so much memory, in bytes.
const MAX_PIECES: usize = 2 * MAX_ORDER;

/// Orders of which not all pieces have come.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    orders: Vec<(u32, Vec<u8>)>,
}

impl Pieces {
    /// Adds a piece; gives the order when it was the last.
    pub(super) fn add(&mut self, part: &OrderPart<'_>) -> Option<AgentResult<Order>> {
        let index = self.orders.iter().position(|(channel, _)| *channel == part.channel);
        let mut json = index.map(|index| self.orders.swap_remove(index).1).unwrap_or_default();
        let held: usize = self.orders.iter().map(|(_, json)| json.len()).sum();
        json.extend_from_slice(part.bytes);
        if json.len() > MAX_ORDER || held + json.len() > MAX_PIECES {
            return Some(Err(crate::AgentError::TooLarge("the request")));
        }
        if part.last {
            return Some(Order::parse(&json));
        }
        self.orders.push((part.channel, json));
        None
    }

    pub(super) fn forget(&mut self, channel: u32) {
        self.orders.retain(|(other, _)| *other != channel);
    }

    pub(super) fn clear(&mut self) {
        self.orders.clear();
    }
}

/// Where processes are started.
#[derive(Debug)]
pub(super) struct Ground {
    /// The box's root.
    pub(super) root: PathBuf,
    /// `cgroup.procs` of the group every process joins.
    pub(super) procs: Option<OwnedFd>,
    /// The writing end of the log.
    pub(super) log: OwnedFd,
}

impl Ground {
    /// Starts the process an order asks for; `StatPath` needs none.
    pub(super) fn start(&self, id: u32, order: &Order) -> Result<Channel, Failure> {
        match order {
            Order::Exec(order) => self.start_program(id, order),
            Order::CopyOut { path } => {
                self.start_work(id, stream::OUTPUT, |data| work::copy_out(&self.root, path, data))
            }
            Order::CopyIn { path } => {
                self.start_work(id, stream::INPUT, |data| work::copy_in(&self.root, path, data))
            }
            Order::Processes => self.start_work(id, stream::OUTPUT, work::list_processes),
            Order::StatPath { .. } => Err(Failure::new(ErrorCode::Internal, "this needs no process")),
        }
    }

    fn start_program(&self, id: u32, order: &ExecOrder) -> Result<Channel, Failure> {
        let request = &order.request;
        let (streams, mut wiring) = match request.tty {
            Some(size) if !request.background => wire_terminal(size)?,
            _ => self.wire_three(order.streams)?,
        };
        let (report, reporting) = pipe()?;
        let refuse = |refusal| {
            let failure = match refusal {
                Refusal::NoSuchUser(message) => Failure::new(ErrorCode::Usage, message),
                Refusal::Other(message) => Failure::new(ErrorCode::Internal, message),
            };
            work::report(&reporting, &failure);
        };
        let enter = || self.join_group();
        let hooks = Hooks { enter: &enter, refuse: &refuse };
        let program = launch::start(&Launch { request, env: &order.env, streams: &streams }, &hooks)?;
        wiring.report = Some(report);
        Ok(Channel::new(id, program, wiring))
    }

    /// Starts a process of the agent's own, that reads or writes one stream.
    fn start_work(
        &self,
        id: u32,
        number: u8,
        body: impl FnOnce(OwnedFd) -> Result<(), Failure>,
    ) -> Result<Channel, Failure> {
        let (read, write) = pipe()?;
        let (report, reporting) = pipe()?;
        let mut wiring = Wiring { report: Some(report), ..Wiring::default() };
        let theirs = if number == stream::INPUT {
            wiring.input = Some(Input::new(write, Kind::Pipe).map_err(stream_error)?);
            read
        } else {
            wiring.outputs.push(Output::new(read, Kind::Pipe, number).map_err(stream_error)?);
            write
        };
        let program = work::start(&|| self.join_group(), theirs, reporting, body)?;
        Ok(Channel::new(id, program, wiring))
    }

    /// Called in the new process.
    fn join_group(&self) -> Result<(), String> {
        let Some(procs) = &self.procs else { return Ok(()) };
        rustix::io::write(procs, b"0").map(drop).map_err(|e| format!("cannot join the box's group: {e}"))
    }

    fn wire_three(&self, wanted: [Stream; 3]) -> SysResult<(ChildStreams, Wiring)> {
        let mut wiring = Wiring::default();
        let mut theirs = Vec::with_capacity(3);
        for (number, stream) in [stream::INPUT, stream::OUTPUT, stream::ERROR].into_iter().zip(wanted) {
            theirs.push(match stream {
                Stream::Null => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                    .map_err(stream_error)?,
                Stream::Log => rustix::io::fcntl_dupfd_cloexec(&self.log, 3).map_err(stream_error)?,
                Stream::Piped => piped(number, &mut wiring)?,
            });
        }
        let theirs = theirs.try_into().map_err(|_| stream_error(Errno::INVAL))?;
        Ok((ChildStreams::Three(theirs), wiring))
    }
}

/// The program's end of a new pipe.
fn piped(number: u8, wiring: &mut Wiring) -> SysResult<OwnedFd> {
    let (read, write) = pipe()?;
    if number == stream::INPUT {
        wiring.input = Some(Input::new(write, Kind::Pipe).map_err(stream_error)?);
        return Ok(read);
    }
    wiring.outputs.push(Output::new(read, Kind::Pipe, number).map_err(stream_error)?);
    Ok(write)
}

fn wire_terminal(size: tine_model::WindowSize) -> SysResult<(ChildStreams, Wiring)> {
    let (streams, master) = launch::open_terminal(size)?;
    let again = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(stream_error);
    let master_fd = std::os::fd::AsFd::as_fd(&master);
    let input = Input::new(again(master_fd)?, Kind::Terminal).map_err(stream_error)?;
    let output = Output::new(again(master_fd)?, Kind::Terminal, stream::OUTPUT).map_err(stream_error)?;
    let wiring =
        Wiring { input: Some(input), outputs: vec![output], terminal: Some(master), ..Wiring::default() };
    Ok((streams, wiring))
}

fn pipe() -> SysResult<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).map_err(stream_error)
}

fn stream_error(errno: Errno) -> SysError {
    SysError::new("make", "standard stream", errno)
}
