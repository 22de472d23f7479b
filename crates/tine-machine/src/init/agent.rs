//! The init's loop: takes requests, starts programs, reaps, and ends the box.
//!
//! It never waits for anyone: a client that is slow, stopped or gone delays nobody else.

use super::InitParts;
use crate::{
    error::{MachineError, MachineResult},
    wire::{self, ExecOrder, FailReason, Filled, FrameReader, InitReply, InitRequest, MAX_REQUEST, Stream},
};
use nix::sys::{
    signal::{SigSet, Signal as NixSignal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
    io::Errno,
    process::{Pid, WaitOptions, WaitStatus},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};
use tine_agent::launch::{self, ChildStreams, Hooks, Launch, Program, Refusal};
use tine_sys::fdpass;

/// At most so many clients at a time; more wait in the listener's queue.
const MAX_SESSIONS: usize = 1024;
/// At most so many dead processes are reaped, and clients accepted, before the others get their turn.
const BATCH: usize = 64;

/// One client and the program it asked for; either may outlive the other.
struct Session {
    client: Option<OwnedFd>,
    reader: FrameReader,
    program: Option<Program>,
}

/// The box's process 1.
pub(super) struct Agent<'a> {
    parts: &'a InitParts,
    signals: SignalFd,
    sessions: Vec<Session>,
    stopping: bool,
}

impl<'a> Agent<'a> {
    pub(super) fn new(parts: &'a InitParts) -> MachineResult<Self> {
        let mask = hold_signals()?;
        let io = |e: nix::Error| MachineError::io("set up", "signals", e);
        let signals =
            SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(io)?;
        Ok(Self { parts, signals, sessions: Vec::new(), stopping: false })
    }

    /// Serves until the box is to end; returns the init's exit code.
    pub(super) fn serve(mut self) -> u8 {
        loop {
            match self.turn() {
                Ok(false) => {}
                Ok(true) => return 0,
                Err(_) => return 1,
            }
        }
    }

    /// One round: waits for something to happen and deals with it. True when the box has ended.
    fn turn(&mut self) -> MachineResult<bool> {
        let ready = self.wait()?;
        if ready.monitor_gone {
            return Ok(true);
        }
        if ready.signals {
            self.take_signals();
        }
        for index in ready.sessions {
            self.hear(index);
        }
        if ready.listener {
            self.accept();
        }
        let childless = self.reap();
        self.enforce_deadlines();
        self.sessions.retain(|s| s.client.is_some() || s.program.is_some());
        Ok(self.stopping && childless)
    }

    fn wait(&self) -> MachineResult<Ready> {
        let mut fds =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.parts.life, PollFlags::IN)];
        let accepting = self.sessions.len() < MAX_SESSIONS;
        let interest = if accepting { PollFlags::IN } else { PollFlags::empty() };
        fds.push(PollFd::new(&self.parts.listener, interest));
        let clients: Vec<usize> =
            (0..self.sessions.len()).filter(|i| self.sessions[*i].client.is_some()).collect();
        let sockets = self.sessions.iter().filter_map(|s| s.client.as_ref());
        fds.extend(sockets.map(|client| PollFd::new(client, PollFlags::IN)));
        match rustix::event::poll(&mut fds, self.patience().as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(e) => return Err(MachineError::io("wait", "init", e)),
        }
        let fired: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok(Ready {
            signals: fired[0],
            monitor_gone: fired[1],
            listener: fired[2] && accepting,
            sessions: clients.into_iter().zip(&fired[3..]).filter(|(_, f)| **f).map(|(i, _)| i).collect(),
        })
    }

    fn patience(&self) -> Option<Timespec> {
        let next = self.sessions.iter().filter_map(|s| s.program.as_ref()?.deadline()).min()?;
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
    }

    /// SIGTERM ends the box, whoever in it or outside sends it.
    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == NixSignal::SIGTERM as u32 && !self.stopping {
                self.stop();
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let everyone = nix::unistd::Pid::from_raw(-1);
        let _ = nix::sys::signal::kill(everyone, NixSignal::SIGTERM);
        // An interactive shell ignores SIGTERM; a stopped program hears it only when it goes on.
        for program in self.sessions.iter().filter_map(|s| s.program.as_ref()).filter(|p| p.has_terminal()) {
            program.signal(NixSignal::SIGHUP as i32);
        }
        let _ = nix::sys::signal::kill(everyone, NixSignal::SIGCONT);
    }

    fn accept(&mut self) {
        for _ in 0..BATCH {
            let Ok(Some(client)) = fdpass::accept(self.parts.listener.as_fd()) else { return };
            self.sessions.push(Session {
                client: Some(client),
                reader: FrameReader::new(MAX_REQUEST),
                program: None,
            });
            self.hear(self.sessions.len() - 1);
        }
    }

    /// Takes what a client says; one that says something odd is not heard again.
    fn hear(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        let Some(client) = &session.client else { return };
        let closed = !matches!(session.reader.fill(client.as_fd()), Ok(Filled::Some | Filled::Nothing));
        loop {
            match self.sessions[index].reader.next() {
                Ok(Some(InitRequest::Exec(order))) => self.start(index, &order),
                Ok(Some(InitRequest::Signal(number))) => self.sessions[index].signal(number),
                // what only a vm box's monitor is asked
                Ok(Some(_)) => return self.sessions[index].hang_up(),
                Ok(None) => break,
                Err(_) => return self.sessions[index].hang_up(),
            }
        }
        if closed {
            self.sessions[index].hang_up();
        }
    }

    fn start(&mut self, index: usize, order: &ExecOrder) {
        let stopping = self.stopping;
        let session = &mut self.sessions[index];
        if session.program.is_some() {
            return session.hang_up();
        }
        if stopping {
            let message = "the box is stopping".to_owned();
            return session.answer(&InitReply::Failed { reason: FailReason::Stopping, message }, None);
        }
        match session.launch(order, &self.parts.log) {
            Ok(master) => {
                let pid = session.program.as_ref().map_or(0, Program::raw_pid);
                session.answer(&InitReply::Started { pid }, master.as_ref());
            }
            Err(e) => {
                let failed = InitReply::Failed { reason: FailReason::Other, message: e.to_string() };
                session.answer(&failed, None);
            }
        }
    }

    /// Buries the dead; true when no process but this one is left.
    fn reap(&mut self) -> bool {
        for _ in 0..BATCH {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.report(pid, status),
                Ok(None) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
        // More may be dead, and their signal has been taken: it is raised anew.
        let _ = nix::sys::signal::raise(NixSignal::SIGCHLD);
        false
    }

    fn report(&mut self, pid: Pid, status: WaitStatus) {
        let ended = |s: &&mut Session| s.program.as_ref().is_some_and(|p| p.pid() == pid);
        let Some(session) = self.sessions.iter_mut().find(ended) else { return };
        let code = session.program.take().map_or(0, |program| program.exit_code(status));
        session.answer(&InitReply::Exited { code }, None);
        session.client = None;
    }

    fn enforce_deadlines(&mut self) {
        let now = Instant::now();
        for program in self.sessions.iter_mut().filter_map(|s| s.program.as_mut()) {
            program.press_if_due(now);
        }
    }
}

/// Blocks the signals the agent takes by descriptor; until it does, they wait.
pub(super) fn hold_signals() -> MachineResult<SigSet> {
    let mut mask = SigSet::empty();
    mask.add(NixSignal::SIGCHLD);
    mask.add(NixSignal::SIGTERM);
    mask.thread_block().map_err(|e| MachineError::io("set up", "signals", e))?;
    Ok(mask)
}

/// What there is to do.
#[derive(Default)]
struct Ready {
    signals: bool,
    monitor_gone: bool,
    listener: bool,
    sessions: Vec<usize>,
}

impl Session {
    /// Forks the program; gives the terminal's master when it has one.
    fn launch(&mut self, order: &ExecOrder, log: &OwnedFd) -> MachineResult<Option<OwnedFd>> {
        let request = &order.request;
        let passed = self.reader.take_fds();
        let (streams, master) = match request.tty {
            Some(size) if !request.background => {
                let (streams, master) = launch::open_terminal(size)?;
                (streams, Some(master))
            }
            _ => (ChildStreams::Three(collect(order.streams, passed, log)?), None),
        };
        let Some(client) = &self.client else { return Err(MachineError::NotRunning) };
        let refuse = |refusal| tell(client, refusal);
        let hooks = Hooks { enter: &|| Ok(()), refuse: &refuse };
        self.program = Some(launch::start(&Launch { request, env: &order.env, streams: &streams }, &hooks)?);
        Ok(master)
    }

    fn answer(&mut self, reply: &InitReply, fd: Option<&OwnedFd>) {
        let Some(client) = &self.client else { return };
        let fds: Vec<_> = fd.into_iter().map(AsFd::as_fd).collect();
        if wire::send(client.as_fd(), reply, &fds).is_err() {
            self.hang_up();
        }
    }

    fn signal(&self, number: i32) {
        if let Some(program) = &self.program {
            program.signal(number);
        }
    }

    /// The client is gone: what it had started ends as when a terminal is closed.
    fn hang_up(&mut self) {
        self.client = None;
        self.reader = FrameReader::new(MAX_REQUEST);
        if let Some(program) = &mut self.program {
            program.hang_up();
        }
    }
}

/// What is not the program's fault goes to the client by its socket.
fn tell(client: &OwnedFd, refusal: Refusal) {
    let (reason, message) = match refusal {
        Refusal::NoSuchUser(message) => (FailReason::NoSuchUser, message),
        Refusal::Other(message) => (FailReason::Other, message),
    };
    let _ = wire::send(client.as_fd(), &InitReply::Failed { reason, message }, &[]);
}

/// Puts the streams together from what came along; every descriptor is used exactly once.
fn collect(wanted: [Stream; 3], passed: Vec<OwnedFd>, log: &OwnedFd) -> MachineResult<[OwnedFd; 3]> {
    let odd = || MachineError::Protocol { peer: "client", reason: "descriptors do not match".to_owned() };
    let io = |e: Errno| MachineError::io("open", "standard stream", e);
    let mut passed = passed.into_iter();
    let mut streams = Vec::with_capacity(3);
    for stream in wanted {
        streams.push(match stream {
            Stream::Passed => passed.next().ok_or_else(odd)?,
            Stream::Log => rustix::io::fcntl_dupfd_cloexec(log, 3).map_err(io)?,
            Stream::Null => {
                rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(io)?
            }
        });
    }
    if passed.next().is_some() {
        return Err(odd());
    }
    streams.try_into().map_err(|_| odd())
}
