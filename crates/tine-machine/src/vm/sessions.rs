//! Clients of the box's exec socket, each with a channel of the agent's link: a program, a copy, a question.
//!
//! Copies bytes between a client's descriptors and the link without ever waiting for either. A client that reads
//! slowly holds up nobody else.

use super::link::Link;
use crate::{
    error::{MachineError, MachineResult},
    wire::{self, ExecOrder, FailReason, Filled, FrameReader, InitReply, InitRequest, MAX_REQUEST, Stream},
};
use rustix::{event::PollFlags, io::Errno};
use std::{
    collections::VecDeque,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};
use tine_agent::{
    message::{self, GuestControl, HostControl, MAX_CHANNELS, MAX_DATA, Order, stream},
    window::{Intake, Window},
};
use tine_model::ErrorCode;

/// What goes from the client to the guest.
struct Input {
    fd: OwnedFd,
    window: Window,
}

/// What goes from the guest to the client.
struct Output {
    fd: OwnedFd,
    waiting: VecDeque<u8>,
    intake: Intake,
    /// Nobody reads it any more; what comes is dropped.
    deaf: bool,
}

/// One client.
struct Session {
    client: OwnedFd,
    reader: FrameReader,
    channel: Option<u32>,
    background: bool,
    /// The client's end of a terminal, until the program has started.
    terminal: Option<OwnedFd>,
    input: Option<Input>,
    /// For standard output and error.
    outputs: [Option<Output>; 2],
    /// The last word, said when everything before it has been passed on.
    ending: Option<InitReply>,
    gone: bool,
}

/// All clients.
#[derive(Default)]
pub(super) struct Sessions {
    all: Vec<Session>,
    next_channel: u32,
}

/// Something to wait for, and what of which session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The client's socket.
    Client,
    /// What it sends.
    Input,
    /// What it is sent.
    Output(usize),
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn add(&mut self, client: OwnedFd) {
        self.all.push(Session {
            client,
            reader: FrameReader::new(MAX_REQUEST),
            channel: None,
            background: false,
            terminal: None,
            input: None,
            outputs: [None, None],
            ending: None,
            gone: false,
        });
    }

    /// What there is to wait for.
    pub(super) fn interests(&self, link: &Link) -> Vec<(usize, Part, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::new();
        for (index, session) in self.all.iter().enumerate() {
            all.push((index, Part::Client, session.client.as_fd(), PollFlags::IN));
            if let Some(input) =
                session.input.as_ref().filter(|i| i.window.available() > 0 && link.is_roomy())
            {
                all.push((index, Part::Input, input.fd.as_fd(), PollFlags::IN));
            }
            for (number, output) in session.outputs.iter().enumerate() {
                if let Some(output) = output.as_ref().filter(|o| !o.waiting.is_empty()) {
                    all.push((index, Part::Output(number), output.fd.as_fd(), PollFlags::OUT));
                }
            }
        }
        all
    }

    /// Deals with what has happened to a part of a session.
    pub(super) fn advance(&mut self, index: usize, part: Part, link: &mut Link) {
        if part == Part::Client {
            return self.hear(index, link);
        }
        let Some(session) = self.all.get_mut(index) else { return };
        let done = match part {
            Part::Client => Ok(()),
            Part::Input => session.take_input(link),
            Part::Output(number) => session.pass_output(number, link),
        };
        session.gone |= done.is_err();
    }

    /// Takes what a client says; one that closes or says something odd is gone.
    fn hear(&mut self, index: usize, link: &mut Link) {
        let Some(session) = self.all.get_mut(index) else { return };
        let filled = session.reader.fill(session.client.as_fd());
        let closed = !matches!(filled, Ok(Filled::Some | Filled::Nothing));
        loop {
            match self.all[index].reader.next::<InitRequest>() {
                Ok(Some(request)) => {
                    if let Err(error) = self.answer(index, request, link) {
                        self.all[index].fail(FailReason::Other, error.to_string());
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    self.all[index].gone = true;
                    break;
                }
            }
        }
        self.all[index].gone |= closed;
    }

    fn answer(&mut self, index: usize, request: InitRequest, link: &mut Link) -> MachineResult<()> {
        let channel = self.all[index].channel;
        match (request, channel) {
            (InitRequest::Signal(number), Some(channel)) => {
                link.tell(&HostControl::Signal { channel, number })
            }
            (InitRequest::Resize(size), Some(channel)) => link.tell(&HostControl::Resize { channel, size }),
            (InitRequest::Signal(_) | InitRequest::Resize(_), None) => Ok(()),
            (_, Some(_)) => {
                self.all[index].gone = true;
                Ok(())
            }
            (request, None) => self.open(index, request, link),
        }
    }

    fn open(&mut self, index: usize, request: InitRequest, link: &mut Link) -> MachineResult<()> {
        if self.all.iter().filter(|s| s.channel.is_some()).count() >= MAX_CHANNELS {
            let message = format!("more than {MAX_CHANNELS} programs at a time are not served");
            return Err(MachineError::Invalid(message));
        }
        let fds = self.all[index].reader.take_fds();
        let order = self.all[index].wire(request, fds)?;
        let channel = self.free_channel();
        link.open(channel, &order)?;
        self.all[index].channel = Some(channel);
        Ok(())
    }

    /// Numbers are not used again soon, so that what is late for one channel does not reach another.
    fn free_channel(&mut self) -> u32 {
        loop {
            self.next_channel = self.next_channel.wrapping_add(1);
            let taken = self.all.iter().any(|s| s.channel == Some(self.next_channel));
            if !taken && self.next_channel != 0 {
                return self.next_channel;
            }
        }
    }

    fn of_channel(&mut self, channel: u32) -> Option<&mut Session> {
        self.all.iter_mut().find(|s| s.channel == Some(channel) && s.ending.is_none())
    }

    /// Bytes from a program. What nobody asked for, or exceeds the window, is dropped.
    pub(super) fn data(&mut self, data: &message::Data<'_>) {
        let Some(session) = self.of_channel(data.channel) else { return };
        let Some(output) = session.output(data.stream) else { return };
        match output.intake.came(data.bytes.len()) {
            Ok(()) => output.waiting.extend(data.bytes),
            Err(_) => session.gone = true,
        }
    }

    /// The end of a stream.
    pub(super) fn eof(&mut self, eof: message::Eof) {
        let Some(session) = self.of_channel(eof.channel) else { return };
        if eof.stream == stream::INPUT {
            session.input = None;
        }
    }

    /// A program has taken in what it was sent.
    pub(super) fn credit(&mut self, credit: message::Credit) {
        let Some(session) = self.of_channel(credit.channel) else { return };
        if let Some(input) = session.input.as_mut().filter(|_| credit.stream == stream::INPUT) {
            let _ = input.window.returned(credit.bytes);
        }
    }

    /// What became of a channel; false when this is not about one.
    pub(super) fn control(&mut self, control: &GuestControl) -> bool {
        match control {
            GuestControl::Started { channel, pid } => {
                if let Some(session) = self.of_channel(*channel) {
                    session.started(*pid);
                }
            }
            GuestControl::Exited { channel, code } => self.end(*channel, InitReply::Exited { code: *code }),
            GuestControl::StatResult { channel, kind } => self.end(*channel, InitReply::Stat(*kind)),
            GuestControl::Failed { channel, code, message } => {
                let reason = match code {
                    ErrorCode::Usage => FailReason::NoSuchUser,
                    ErrorCode::WrongState => FailReason::Stopping,
                    _ => FailReason::Other,
                };
                self.end(*channel, InitReply::Failed { reason, message: message.to_string() });
            }
            _ => return false,
        }
        true
    }

    fn end(&mut self, channel: u32, reply: InitReply) {
        if let Some(session) = self.of_channel(channel) {
            session.ending = Some(reply);
            session.input = None;
        }
    }

    /// Passes on what can be, says last words, and puts away those that are done.
    pub(super) fn settle(&mut self, link: &mut Link) {
        for session in &mut self.all {
            for number in 0..session.outputs.len() {
                session.gone |= session.pass_output(number, link).is_err();
            }
            if session.is_drained()
                && let Some(reply) = session.ending.take()
            {
                session.channel = None;
                let _ = wire::send(session.client.as_fd(), &reply, &[]);
                session.gone = true;
            }
        }
        for session in self.all.iter().filter(|s| s.gone) {
            if let (Some(channel), None) = (session.channel, &session.ending) {
                let _ = link.tell(&HostControl::Close { channel });
            }
        }
        self.all.retain(|s| !s.gone);
    }

    /// The machine has ended, and with it every program.
    pub(super) fn close(&mut self) {
        self.all.clear();
    }
}

impl Session {
    fn fail(&mut self, reason: FailReason, message: String) {
        self.ending = Some(InitReply::Failed { reason, message });
    }

    /// Lays the client's descriptors to the streams of an order.
    fn wire(&mut self, request: InitRequest, fds: Vec<OwnedFd>) -> MachineResult<Order> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or_else(odd);
        let order = match request {
            InitRequest::Exec(order) => self.wire_program(*order, &mut next)?,
            InitRequest::CopyOut(from) => {
                self.outputs[0] = Some(Output::new(next()?)?);
                Order::CopyOut { path: from }
            }
            InitRequest::CopyIn(to) => {
                self.input = Some(Input::new(next()?)?);
                Order::CopyIn { path: to }
            }
            InitRequest::Processes => {
                self.outputs[0] = Some(Output::new(next()?)?);
                Order::Processes
            }
            InitRequest::StatPath(at) => Order::StatPath { path: at },
            InitRequest::Signal(_) | InitRequest::Resize(_) => return Err(odd()),
        };
        if fds.next().is_some() { Err(odd()) } else { Ok(order) }
    }

    fn wire_program(
        &mut self,
        order: ExecOrder,
        next: &mut dyn FnMut() -> MachineResult<OwnedFd>,
    ) -> MachineResult<Order> {
        let ExecOrder { request, env, streams } = order;
        self.background = request.background;
        if request.tty.is_some() && !request.background {
            self.wire_terminal()?;
        }
        let mut kinds = [message::Stream::Null; 3];
        for (number, stream) in streams.into_iter().enumerate() {
            kinds[number] = match stream {
                Stream::Null => message::Stream::Null,
                Stream::Log => message::Stream::Log,
                Stream::Passed => {
                    self.lay(number, next()?)?;
                    message::Stream::Piped
                }
            };
        }
        Ok(Order::Exec(Box::new(message::ExecOrder { request, env, streams: kinds })))
    }

    fn lay(&mut self, number: usize, fd: OwnedFd) -> MachineResult<()> {
        match number {
            0 => self.input = Some(Input::new(fd)?),
            n => self.outputs[n - 1] = Some(Output::new(fd)?),
        }
        Ok(())
    }

    /// The terminal is in the guest: the client gets a socket to it.
    fn wire_terminal(&mut self) -> MachineResult<()> {
        let io = |e| MachineError::io("make", "terminal's socket", e);
        let (ours, theirs) = UnixStream::pair().map_err(io)?;
        let copy = ours.try_clone().map_err(io)?;
        self.input = Some(Input::new(ours.into())?);
        self.outputs[0] = Some(Output::new(copy.into())?);
        self.terminal = Some(theirs.into());
        Ok(())
    }

    fn output(&mut self, number: u8) -> Option<&mut Output> {
        match number {
            stream::OUTPUT => self.outputs[0].as_mut(),
            stream::ERROR => self.outputs[1].as_mut(),
            _ => None,
        }
    }

    fn started(&mut self, pid: u32) {
        let terminal = self.terminal.take();
        let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
        let told = wire::send(self.client.as_fd(), &InitReply::Started { pid }, &fds);
        self.gone |= told.is_err();
        // a background program goes on by itself: its channel is closed
        self.gone |= self.background;
    }

    fn take_input(&mut self, link: &mut Link) -> MachineResult<()> {
        let (Some(channel), Some(input)) = (self.channel, &mut self.input) else { return Ok(()) };
        let mut buffer = [0; MAX_DATA];
        let room = input.window.available().min(buffer.len());
        match rustix::io::read(&input.fd, &mut buffer[..room]) {
            Ok(0) => self.end_input(channel, link),
            Ok(n) => {
                input.window.sent(n);
                link.data(channel, stream::INPUT, &buffer[..n])
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => self.end_input(channel, link),
        }
    }

    fn end_input(&mut self, channel: u32, link: &mut Link) -> MachineResult<()> {
        self.input = None;
        link.eof(channel, stream::INPUT)
    }

    fn pass_output(&mut self, number: usize, link: &mut Link) -> MachineResult<()> {
        let (Some(channel), Some(output)) = (self.channel, &mut self.outputs[number]) else { return Ok(()) };
        let taken = output.write();
        let credit = output.intake.passed_on(taken);
        if credit > 0 && self.ending.is_none() {
            link.credit(channel, [stream::OUTPUT, stream::ERROR][number], credit)?;
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.outputs.iter().flatten().all(|output| output.waiting.is_empty())
    }
}

impl Input {
    fn new(fd: OwnedFd) -> MachineResult<Self> {
        unblock(&fd)?;
        Ok(Self { fd, window: Window::default() })
    }
}

impl Output {
    fn new(fd: OwnedFd) -> MachineResult<Self> {
        unblock(&fd)?;
        Ok(Self { fd, waiting: VecDeque::new(), intake: Intake::default(), deaf: false })
    }

    /// Writes what the client takes now; what nobody reads counts as taken.
    fn write(&mut self) -> usize {
        let before = self.waiting.len();
        while !self.waiting.is_empty() && !self.deaf {
            match rustix::io::write(&self.fd, self.waiting.as_slices().0) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.deaf = true,
            }
        }
        if self.deaf {
            self.waiting.clear();
        }
        before - self.waiting.len()
    }
}

fn unblock(fd: &OwnedFd) -> MachineResult<()> {
    rustix::io::ioctl_fionbio(fd, true).map_err(|e| MachineError::io("set up", "stream", e))
}

fn odd() -> MachineError {
    MachineError::Protocol { peer: "client", reason: "descriptors do not match".to_owned() }
}
