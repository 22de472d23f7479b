//! The guest's agent: one thread that hears the host, starts programs, passes on their streams, reaps, and never waits
//! for anyone.
//!
//! It may be frozen with its machine at any instruction and go on as a clone with another host at the other end. So
//! nothing here rests on what the host knew before its `Hello`.

mod channel;
mod freeze;
mod identity;
mod link;
mod orders;
mod session;
mod streams;
mod work;

pub use identity::{FILES, IdentityFiles};

use crate::{
    error::{AgentError, AgentResult},
    frame::Decoder,
    message::{GuestMessage, MAX_DATA},
};
use channel::Channel;
use freeze::Freezer;
use link::{Came, Link};
use nix::sys::{
    signal::{SigSet, Signal as NixSignal},
    signalfd::{SfdFlags, SignalFd},
};
use orders::{Ground, Pieces};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitOptions},
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tine_sys::guest;

/// Between SIGKILL to everything and giving up on what does not die; also what a machine that ends itself gets before.
const DYING: Duration = Duration::from_secs(2);
/// At most so many dead processes are reaped before the others get their turn.
const BATCH: usize = 64;
/// At most so many reads from the link before the others get their turn.
const READS: usize = 16;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What the agent is given.
#[derive(Debug)]
pub struct Config {
    /// The guest's end of the link.
    pub link: OwnedFd,
    /// Whether it is the first process of a machine of its own, whose clock, names, disk and processes are its to
    /// change. An ordinary process serves the same channels and leaves all that alone.
    pub is_first: bool,
    /// The box's root.
    pub root: PathBuf,
    /// The directory of the cgroup (version 2) that programs run in.
    pub cgroup: Option<PathBuf>,
    /// The files that say who the machine is.
    pub identity: IdentityFiles,
}

/// The agent.
struct Agent {
    is_first: bool,
    link: Link,
    decoder: Decoder,
    signals: SignalFd,
    log: OwnedFd,
    ground: Ground,
    freezer: Freezer,
    identity: IdentityFiles,
    pieces: Pieces,
    channels: Vec<Channel>,
    /// Set by the first `Hello`.
    in_session: bool,
    /// Set by the first `Thaw`.
    has_run: bool,
    stopping: Option<Stopping>,
    /// Dead processes may be there to be reaped.
    dead: bool,
    buffer: Vec<u8>,
}

/// A machine that shuts down.
struct Stopping {
    /// When what is left is killed; none once that is done.
    kill_at: Option<Instant>,
    end_at: Instant,
}

/// What something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Signals,
    Link,
    /// Nobody holds the other end of the link.
    HungUp,
    Log,
    Input(usize),
    Output(usize, u8),
}

/// Serves until the machine is to be off or, for an ordinary process, the host is gone.
///
/// # Errors
/// The kernel's, when the agent cannot be set up or cannot wait.
pub fn serve(config: Config) -> AgentResult<()> {
    let mut agent = Agent::new(config)?;
    while !agent.turn()? {}
    agent.end();
    Ok(())
}

impl Agent {
    fn new(config: Config) -> AgentResult<Self> {
        let err = |e: Errno| AgentError::io("set up", "agent", e);
        let (log, logging) = pipe_with(PipeFlags::CLOEXEC).map_err(err)?;
        streams::unblock(&log).map_err(err)?;
        if config.is_first {
            // Without it everything works, only later.
            let _ = guest::run_before_others();
        }
        let procs = config.cgroup.as_deref().map(open_procs).transpose()?;
        Ok(Self {
            is_first: config.is_first,
            link: Link::new(config.link).map_err(err)?,
            decoder: Decoder::new(),
            signals: hold_signals()?,
            log,
            freezer: Freezer::new(config.is_first.then_some(&config.root), config.cgroup.as_deref())?,
            ground: Ground { root: config.root, procs, log: logging },
            identity: config.identity,
            pieces: Pieces::default(),
            channels: Vec::new(),
            in_session: false,
            has_run: false,
            stopping: None,
            dead: false,
            buffer: vec![0; MAX_DATA],
        })
    }

    /// One round: waits for something to happen and deals with it. True when it is over.
    fn turn(&mut self) -> AgentResult<bool> {
        let mut host_gone = false;
        self.link.look_again();
        for source in self.wait()? {
            match source {
                Source::Signals => self.take_signals(),
                Source::Link => host_gone |= self.listen(),
                Source::HungUp => host_gone |= self.link.hang_up(),
                Source::Log => self.take_log(),
                Source::Input(index) => self.channels[index].pass_input(&mut self.link),
                Source::Output(index, stream) => {
                    self.channels[index].pass_output(stream, &mut self.link, &mut self.buffer);
                }
            }
        }
        let childless = self.dead && self.reap();
        self.press();
        let (link, buffer) = (&mut self.link, &mut self.buffer);
        self.channels.retain_mut(|channel| !channel.finish(link, buffer));
        self.link.flush();
        Ok((host_gone && !self.is_first) || self.is_over(childless))
    }

    fn wait(&self) -> AgentResult<Vec<Source>> {
        let (mut fds, mut sources) = (Vec::new(), Vec::new());
        let mut watch = |fd, flags, source| {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            sources.push(source);
        };
        watch(self.signals.as_fd(), PollFlags::IN, Source::Signals);
        self.watch_link(&mut watch);
        for (index, channel) in self.channels.iter().enumerate() {
            if let Some(fd) = channel.input() {
                watch(fd, PollFlags::OUT, Source::Input(index));
            }
            for (stream, fd) in channel.outputs(&self.link) {
                watch(fd, PollFlags::IN, Source::Output(index, stream));
            }
        }
        match rustix::event::poll(&mut fds, self.patience().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(AgentError::io("wait", "agent", e)),
        }
        let mut fired = Vec::new();
        for (fd, source) in fds.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty()) {
            fired.push(source);
            if source == Source::Link && fd.revents().contains(PollFlags::HUP) {
                fired.push(Source::HungUp);
            }
        }
        Ok(fired)
    }

    /// A link without a host is always ready, so it is left alone for a while.
    fn watch_link<'a>(&'a self, watch: &mut impl FnMut(BorrowedFd<'a>, PollFlags, Source)) {
        if self.link.has_room() {
            watch(self.log.as_fd(), PollFlags::IN, Source::Log);
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.link.may_listen());
        flags.set(PollFlags::OUT, self.link.has_waiting());
        if self.link.absent_until().is_none() {
            watch(self.link.fd(), flags, Source::Link);
        }
    }

    /// How long nothing has to be done.
    fn patience(&self) -> Option<Timespec> {
        let channels = self.channels.iter().filter_map(|channel| channel.deadline(&self.link));
        let stopping = self.stopping.iter().flat_map(|s| s.kill_at.into_iter().chain([s.end_at]));
        let next = channels.chain(stopping).chain(self.link.absent_until()).min();
        let left = match next {
            _ if self.dead => Duration::ZERO,
            next => next?.saturating_duration_since(Instant::now()) + Duration::from_millis(1),
        };
        Some(Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) })
    }

    /// SIGTERM ends the machine, whoever in it sends it.
    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            self.dead = true;
            if info.ssi_signo == NixSignal::SIGTERM as u32 && self.stopping.is_none() {
                self.stop(DYING);
            }
        }
    }

    /// Takes what the host says; true when there is no host.
    fn listen(&mut self) -> bool {
        for _ in 0..READS {
            if !self.link.may_listen() {
                break;
            }
            match self.link.read(&mut self.buffer) {
                Came::Bytes(n) => self.hear(n),
                Came::Nothing => break,
                Came::Nobody => return true,
            }
        }
        false
    }

    /// What decodes but is no message is dropped like what does not decode.
    fn hear(&mut self, length: usize) {
        let (buffer, mut decoder) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.decoder));
        let mut bytes = buffer.get(..length).unwrap_or_default();
        while let Some(payload) = decoder.next(&mut bytes) {
            self.obey(payload);
        }
        (self.buffer, self.decoder) = (buffer, decoder);
    }

    /// This side holds the other end too, so the log never ends.
    fn take_log(&mut self) {
        if let Ok(n @ 1..) = rustix::io::read(&self.log, &mut self.buffer) {
            self.link.say(&GuestMessage::Log(&self.buffer[..n]));
        }
    }

    /// Buries the dead; true when no process but this one is left.
    fn reap(&mut self) -> bool {
        for _ in 0..BATCH {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let _ = self.channels.iter_mut().any(|channel| channel.bury(pid, status));
                }
                Ok(None) => {
                    self.dead = false;
                    return false;
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.dead = false;
                    return true;
                }
            }
        }
        false
    }

    /// Sends the signals whose time has come.
    fn press(&mut self) {
        let now = Instant::now();
        for program in self.channels.iter_mut().filter_map(Channel::program) {
            program.press_if_due(now);
        }
        let kill = self.stopping.as_mut().and_then(|s| s.kill_at.take_if(|at| *at <= now));
        if kill.is_some() {
            self.signal_everyone(Signal::KILL);
        }
    }

    fn stop(&mut self, grace: Duration) {
        let kill_at = Instant::now() + grace;
        self.stopping = Some(Stopping { kill_at: Some(kill_at), end_at: kill_at + DYING });
        let _ = self.freezer.release();
        self.signal_everyone(Signal::TERM);
        // An interactive shell ignores SIGTERM; a stopped program hears it only when it goes on.
        for program in self.channels.iter_mut().filter_map(Channel::program).filter(|p| p.has_terminal()) {
            program.signal(Signal::HUP.as_raw());
        }
        self.signal_everyone(Signal::CONT);
        self.dead = true;
    }

    /// The first process means every other one; an ordinary one those it has started.
    fn signal_everyone(&mut self, signal: Signal) {
        if self.is_first {
            let number = NixSignal::try_from(signal.as_raw()).ok();
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), number);
            return;
        }
        for program in self.channels.iter_mut().filter_map(Channel::program) {
            program.signal(signal.as_raw());
        }
    }

    fn is_over(&self, childless: bool) -> bool {
        self.stopping.as_ref().is_some_and(|s| childless || s.end_at <= Instant::now())
    }

    /// The last words, and a disk that is whole.
    fn end(&mut self) {
        self.signal_everyone(Signal::KILL);
        let (link, buffer) = (&mut self.link, &mut self.buffer);
        self.channels.retain_mut(|channel| !channel.finish(link, buffer));
        let until = Instant::now() + LAST_WORDS;
        while self.link.has_waiting() && Instant::now() < until {
            self.link.flush();
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.is_first {
            rustix::fs::sync();
            let _ = rustix::mount::mount_remount("/", rustix::mount::MountFlags::RDONLY, c"");
        }
    }
}

fn open_procs(cgroup: &Path) -> AgentResult<OwnedFd> {
    let path = cgroup.join("cgroup.procs");
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| AgentError::io("open", path.display(), e))
}

fn hold_signals() -> AgentResult<SignalFd> {
    let err = |e: nix::Error| AgentError::io("set up", "signals", e);
    let mut mask = SigSet::empty();
    mask.add(NixSignal::SIGCHLD);
    mask.add(NixSignal::SIGTERM);
    mask.thread_block().map_err(err)?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(err)
}
