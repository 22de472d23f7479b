//! The monitor of a vm box: its loop, which never waits for the guest, and its end.

use super::{
    boot,
    capture::Memory,
    link::Link,
    process::{self, Process},
    qmp::{Event, Qmp},
    sessions::{Part, Sessions},
    spec::VmSpec,
    unready::Unready,
};
use crate::{
    error::{MachineError, MachineResult},
    monitor::{Ended, Stage, log::Log, refuse, report},
    rundir::{ACCEL, CONTROL_SOCKET, ENDED, INIT_SOCKET},
    spec::StartSpec,
    start::{RELEASED, StartReport, Started, UNWANTED},
    wire::{ControlRequest, Filled, FrameReader, MAX_REPLY},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{PipeReader, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};
use tine_agent::message::{GuestControl, GuestMessage};
use tine_sys::fdpass;

/// The descriptor by which a starter keeps hold of the box, where it does.
const LIFE_FD: i32 = 5;
/// At most so many clients at a time; more wait in the listeners' queues.
const MAX_CLIENTS: usize = 64;
const MAX_SESSIONS: usize = 512;
/// Words of the agent for the machine as a whole that nobody has looked at; what comes beyond them is dropped.
const MAX_WORDS: usize = 64;
/// Bytes of QEMU's complaints that are kept.
const KEPT_ERRORS: usize = 2048;
/// How long the monitor sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(3600);

/// A client of the control socket.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) socket: OwnedFd,
    reader: FrameReader,
}

/// A request that waits for its turn.
pub(super) struct Pending {
    pub(super) client: u64,
    pub(super) request: ControlRequest,
    pub(super) fds: Vec<OwnedFd>,
}

/// A machine and everything around it.
pub(super) struct Monitor<'a> {
    pub(super) stage: &'a Stage,
    pub(super) spec: &'a VmSpec,
    pub(super) process: Process,
    pub(super) qmp: Qmp,
    pub(super) link: Link,
    pub(super) memory: Memory,
    pub(super) disk: File,
    pub(super) clients: Vec<Client>,
    pub(super) pending: VecDeque<Pending>,
    /// What the agent said that is about no channel.
    pub(super) words: VecDeque<GuestControl>,
    pub(super) migration: Option<String>,
    /// When the machine is killed.
    pub(super) deadline: Option<Instant>,
    /// Whether its end is wanted.
    pub(super) stopping: bool,
    /// Whether its processors stand still.
    pub(super) paused: bool,
    pub(super) sessions: Sessions,
    console_socket: Option<OwnedFd>,
    console: Log,
    log: Log,
    errors: PipeReader,
    said: VecDeque<u8>,
    control: Option<OwnedFd>,
    exec: Option<OwnedFd>,
    life: Option<File>,
    /// Whether the starter changed its mind, or died before it had shown the box.
    abandoned: bool,
    next_client: u64,
    why: Option<String>,
    dead: bool,
}

/// What a monitor is made of.
pub(super) struct Parts {
    pub(super) process: Process,
    pub(super) qmp: Qmp,
    pub(super) link: Link,
    pub(super) memory: Memory,
    pub(super) disk: File,
    pub(super) console: OwnedFd,
    pub(super) errors: PipeReader,
}

/// What one poll waits for.
#[derive(Debug, Clone, Copy)]
enum Token {
    Qemu,
    Qmp,
    Link,
    Console,
    Errors,
    Control,
    Exec,
    Life,
    Client(usize),
    Session(usize, Part),
}

/// Runs the monitor of a vm box to its end.
pub(crate) fn run(mut stage: Stage, spec: &StartSpec, vm: &VmSpec, ready: OwnedFd) -> MachineResult<Ended> {
    let begun = Instant::now();
    let mut unready = Unready::begin();
    let parts = match boot::launch(&mut stage, spec, vm, &mut unready) {
        Ok(parts) => parts,
        Err(error) => {
            stage.abandon();
            return refuse(ready, error);
        }
    };
    let mut monitor = match Monitor::new(&stage, spec, vm, parts) {
        Ok(monitor) => monitor,
        Err(error) => {
            stage.abandon();
            return refuse(ready, error);
        }
    };
    match boot::bring_up(&mut monitor, spec, begun, unready) {
        Ok(clocks) => {
            tine_sys::process::release_free_memory();
            let started = Started { address: stage.network.address, clocks: Some(clocks) };
            report(ready, &StartReport::Running(started));
        }
        Err(error) => {
            let error = monitor.explain(error);
            drop(monitor);
            stage.abandon();
            return refuse(ready, error);
        }
    }
    let served = monitor.serve();
    let abandoned = monitor.abandoned;
    let clients = monitor.finish();
    let _ = stage.dir.remove(ACCEL);
    stage.finish(served, clients, abandoned)
}

impl<'a> Monitor<'a> {
    fn new(stage: &'a Stage, spec: &StartSpec, vm: &'a VmSpec, parts: Parts) -> MachineResult<Self> {
        let Parts { process, qmp, link, memory, disk, console, errors } = parts;
        for fd in [console.as_fd(), errors.as_fd()] {
            rustix::io::ioctl_fionbio(fd, true).map_err(|e| MachineError::io("set up", "console", e))?;
        }
        Ok(Self {
            stage,
            spec: vm,
            process,
            qmp,
            link,
            memory,
            disk,
            clients: Vec::new(),
            pending: VecDeque::new(),
            words: VecDeque::new(),
            migration: None,
            deadline: None,
            stopping: false,
            paused: false,
            sessions: Sessions::default(),
            console_socket: Some(console),
            console: Log::open(&spec.log_dir, "console")?,
            log: Log::open(&spec.log_dir, "log")?,
            errors,
            said: VecDeque::new(),
            control: None,
            exec: None,
            life: if spec.tied { Some(tine_sys::process::inherited_fd(LIFE_FD)?.into()) } else { None },
            abandoned: false,
            next_client: 0,
            why: None,
            dead: false,
        })
    }

    /// Opens the sockets by which others reach the box.
    pub(super) fn listen(&mut self) -> MachineResult<()> {
        self.control = Some(fdpass::listen_at(self.stage.dir.fd(), CONTROL_SOCKET)?);
        self.exec = Some(fdpass::listen_at(self.stage.dir.fd(), INIT_SOCKET)?);
        Ok(())
    }

    /// Serves until the machine has ended.
    fn serve(&mut self) -> MachineResult<()> {
        let served = self.stage.cgroup.leave_late().and_then(|()| self.turn_until_end());
        self.process.kill();
        self.process.reap();
        self.sessions.close();
        self.drain();
        if let Some(why) = self.end_out_of_order() {
            let _ = self.stage.dir.write(ENDED, why.as_bytes());
        }
        served
    }

    fn turn_until_end(&mut self) -> MachineResult<()> {
        while !self.dead {
            self.turn(Instant::now() + IDLE)?;
            while let Some(pending) = self.pending.pop_front() {
                self.perform(pending);
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<Client> {
        self.clients
    }

    /// How the machine ended, where nobody here wanted it.
    fn end_out_of_order(&self) -> Option<String> {
        match self.why.as_deref() {
            _ if self.stopping => None,
            Some("guest-shutdown") => Some("the guest powered itself off".to_owned()),
            Some("guest-reset") => {
                Some("the guest rebooted or its kernel panicked; see its console".to_owned())
            }
            Some("guest-panic") => Some("the guest's kernel panicked; see its console".to_owned()),
            Some(other) => Some(format!("the machine ended: {other}")),
            None => Some(format!("qemu ended{}", self.complaint())),
        }
    }

    /// What QEMU has complained about last.
    fn complaint(&self) -> String {
        let bytes: Vec<u8> = self.said.iter().copied().collect();
        process::last_complaint(&bytes).map(|line| format!(": {line}")).unwrap_or_default()
    }

    /// An error of the start, with what QEMU or the guest said where that tells more.
    pub(super) fn explain(&mut self, error: MachineError) -> MachineError {
        if !self.dead {
            return error;
        }
        self.drain();
        let why = self.end_out_of_order().unwrap_or_else(|| "it was stopped".to_owned());
        MachineError::Start(why)
    }

    /// Waits until something happens, at the latest `until`, and deals with it.
    pub(super) fn turn(&mut self, until: Instant) -> MachineResult<()> {
        self.link.flush();
        let fired = self.wait(until)?;
        // the highest index first, so that a removal does not move what is still to come
        for token in fired.into_iter().rev() {
            self.dispatch(token)?;
        }
        self.sessions.settle(&mut self.link);
        self.link.flush();
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.deadline = None;
            self.process.kill();
        }
        Ok(())
    }

    fn wait(&self, until: Instant) -> MachineResult<Vec<Token>> {
        let interests = self.interests();
        let mut fds: Vec<PollFd<'_>> =
            interests.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(100);
        let patience = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match rustix::event::poll(&mut fds, Some(&patience)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(MachineError::io("wait", "monitor", e)),
        }
        let fired = fds.iter().zip(&interests).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(fired.map(|(_, (token, ..))| *token).collect())
    }

    fn interests(&self) -> Vec<(Token, BorrowedFd<'_>, PollFlags)> {
        let read = PollFlags::IN;
        let mut all = vec![(Token::Qemu, self.process.pidfd().as_fd(), read)];
        if !self.qmp.is_closed() {
            all.push((Token::Qmp, self.qmp.as_fd(), read));
        }
        if self.link.is_open() {
            let write = if self.link.has_output() { PollFlags::OUT } else { PollFlags::empty() };
            all.push((Token::Link, self.link.as_fd(), read | write));
        }
        all.extend(self.console_socket.as_ref().map(|fd| (Token::Console, fd.as_fd(), read)));
        // a dead QEMU's is always readable
        if !self.dead {
            all.push((Token::Errors, self.errors.as_fd(), read));
        }
        all.extend(self.life.as_ref().map(|fd| (Token::Life, fd.as_fd(), read)));
        if self.clients.len() < MAX_CLIENTS {
            all.extend(self.control.as_ref().map(|fd| (Token::Control, fd.as_fd(), read)));
        }
        if self.sessions.len() < MAX_SESSIONS {
            all.extend(self.exec.as_ref().map(|fd| (Token::Exec, fd.as_fd(), read)));
        }
        all.extend(self.clients.iter().enumerate().map(|(n, c)| (Token::Client(n), c.socket.as_fd(), read)));
        let sessions = self.sessions.interests(&self.link);
        all.extend(sessions.into_iter().map(|(n, part, fd, flags)| (Token::Session(n, part), fd, flags)));
        all
    }

    fn dispatch(&mut self, token: Token) -> MachineResult<()> {
        match token {
            Token::Qemu => self.dead = true,
            Token::Qmp => self.hear_qemu()?,
            Token::Link => self.hear_guest(),
            Token::Console => self.take_console(),
            Token::Errors => self.take_errors(),
            Token::Control => self.accept_client(),
            Token::Exec => {
                if let Some(Ok(Some(client))) = self.exec.as_ref().map(|l| fdpass::accept(l.as_fd())) {
                    self.sessions.add(client);
                }
            }
            Token::Life => self.check_life(),
            Token::Client(index) => self.hear_client(index),
            Token::Session(index, part) => self.sessions.advance(index, part, &mut self.link),
        }
        Ok(())
    }

    fn hear_qemu(&mut self) -> MachineResult<()> {
        self.qmp.listen()?;
        self.take_events()
    }

    /// Deals with what QEMU has told by the way.
    pub(super) fn take_events(&mut self) -> MachineResult<()> {
        while let Some(event) = self.qmp.event() {
            match event {
                Event::Shutdown(reason) => self.why = Some(reason),
                Event::Migration(status) => self.migration = Some(status),
                Event::DiskError { full: true } => {
                    self.paused = true;
                    self.stage.dir.mark_full()?;
                    let note = b"tine: the pool is full; the box is paused until there is space again\n";
                    let _ = self.console.append(note);
                }
                Event::DiskError { full: false } | Event::Other => {}
            }
        }
        Ok(())
    }

    fn hear_guest(&mut self) {
        let Self { link, sessions, words, log, .. } = self;
        link.receive(|message| match message {
            GuestMessage::Data(data) => sessions.data(&data),
            GuestMessage::Eof(eof) => sessions.eof(eof),
            GuestMessage::Credit(credit) => sessions.credit(credit),
            GuestMessage::Log(bytes) => drop(log.append(bytes)),
            GuestMessage::Control(control) => {
                if !sessions.control(&control) && words.len() < MAX_WORDS {
                    words.push_back(control);
                }
            }
        });
    }

    fn take_console(&mut self) {
        let Some(socket) = &self.console_socket else { return };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(socket, &mut buffer) {
            Ok(0) => self.console_socket = None,
            Ok(n) => drop(self.console.append(&buffer[..n])),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.console_socket = None,
        }
    }

    fn take_errors(&mut self) {
        let mut buffer = [0; 4096];
        if let Ok(n) = self.errors.read(&mut buffer) {
            self.said.extend(&buffer[..n]);
            let excess = self.said.len().saturating_sub(KEPT_ERRORS);
            self.said.drain(..excess);
        }
    }

    /// What is left of its words when QEMU has ended.
    fn drain(&mut self) {
        let _ = self.qmp.listen().and_then(|()| self.take_events());
        for _ in 0..64 {
            self.take_console();
        }
        self.take_errors();
    }

    /// The starter releases the box, or wants it no more, or has died: then a box that it has shown already is as good
    /// as released, since others may have seen that it runs.
    fn check_life(&mut self) {
        let Some(life) = &mut self.life else { return };
        let mut word = [UNWANTED];
        let heard = life.read(&mut word);
        self.life = None;
        let stays = match heard {
            Ok(0) => self.stage.dir.was_moved(),
            Ok(_) => word == [RELEASED],
            Err(_) => false,
        };
        if !stays {
            self.stopping = true;
            self.abandoned = true;
            self.process.kill();
        }
    }

    fn accept_client(&mut self) {
        if let Some(Ok(Some(socket))) = self.control.as_ref().map(|l| fdpass::accept(l.as_fd())) {
            self.next_client += 1;
            self.clients.push(Client { id: self.next_client, socket, reader: FrameReader::new(MAX_REPLY) });
        }
    }

    /// Takes what a client says; one that closes or says something odd is dropped.
    fn hear_client(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let filled = client.reader.fill(client.socket.as_fd());
        let mut keep = matches!(filled, Ok(Filled::Some | Filled::Nothing));
        while keep {
            match client.reader.next::<ControlRequest>() {
                Ok(Some(request)) => {
                    let fds = client.reader.take_fds();
                    self.pending.push_back(Pending { client: client.id, request, fds });
                }
                Ok(None) => return,
                Err(_) => keep = false,
            }
        }
        self.clients.remove(index);
    }

    /// True when QEMU has ended.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }
}
