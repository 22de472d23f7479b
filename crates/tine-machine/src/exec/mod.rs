//! Running a program in a box: the side of whoever asks.
//!
//! No descriptor of a host's file, device, directory or terminal goes into the box, whose root could open it anew with
//! other rights: pipes and Unix sockets pass through where there is no time limit, everything else is copied. The box's
//! answers are an attacker's.

mod pump;
mod streams;

use crate::{
    control,
    error::{MachineError, MachineResult},
    rundir::{INIT_SOCKET, RunDir},
    wire::{self, ExecOrder, FailReason, Filled, FrameReader, InitReply, InitRequest, MAX_REPLY},
};
use pump::Pump;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    net::Shutdown,
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Receiver},
    time::{Duration, Instant},
};
use streams::Plan;
use tine_model::{BoxKind, EnvVar, ExecEvent, ExecOutcome, ExecRequest, ExecStreams, WindowSize};
use tine_sys::terminal;

/// How long the init may take to be there.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a program is told to have ended with whose box ended before it: as if by SIGKILL.
const BOX_ENDED: u8 = 137;
/// What a program is told to have ended with whose time was over.
const TIMED_OUT: u8 = 124;
/// How much longer than its time a program is waited for: ending it is the box's work, which a box that stands still or
/// is hostile does not do.
const BOX_PATIENCE: Duration = Duration::from_secs(10);

/// Where a program runs.
#[derive(Debug, Clone, Copy)]
pub struct ExecContext<'a> {
    /// The box's run directory.
    pub run_dir: &'a Path,
    /// The box's own environment.
    pub env: &'a [EnvVar],
    /// How the box runs.
    pub kind: BoxKind,
}

/// Runs a program in a running box. Returns when the program itself has ended and everything it had written by then
/// has been passed on; what descendants of it write later is lost unless the streams passed through. When the caller
/// dies, the program gets SIGHUP, and SIGKILL two seconds later. A program whose time is over is not waited for much longer,
/// also where its box does not end it; it is told to have ended with 124 then.
///
/// # Errors
/// [`MachineError::NotRunning`], [`MachineError::Paused`] also when its time was over in a box that was paused meanwhile,
/// [`MachineError::Stopping`], [`MachineError::NoSuchUser`], an unusable request, or the kernel's. A program that cannot be executed is no error: it ends with 126 or 127 after
/// saying why on its standard error.
pub fn exec(
    context: ExecContext<'_>,
    request: &ExecRequest,
    streams: ExecStreams,
) -> MachineResult<ExecOutcome> {
    check(request)?;
    control::require_running(context.run_dir)?;
    let dir = RunDir::open(context.run_dir)?;
    let socket = control::connect(&dir, INIT_SOCKET, Instant::now() + PATIENCE)?;
    let ExecStreams { stdin, stdout, stderr, events } = streams;
    let plan = Plan::new(request, [stdin, Some(stdout), Some(stderr)], context.kind)?;
    let order = ExecOrder { request: request.clone(), env: context.env.to_vec(), streams: plan.kinds };
    let passed: Vec<_> = plan.passed.iter().map(AsFd::as_fd).collect();
    wire::send(socket.as_fd(), &InitRequest::Exec(Box::new(order)), &passed)?;
    let shared = Arc::new(Shared { socket, kind: context.kind, screen: Mutex::default() });
    if !request.background {
        forward_events(events, Arc::clone(&shared));
    }
    let outcome = Session::new(context.run_dir, request, &shared, plan).run();
    shared.close();
    outcome
}

fn check(request: &ExecRequest) -> MachineResult<()> {
    let bad = |text: &str| Err(MachineError::Invalid(text.to_owned()));
    if request.argv.is_empty() {
        return bad("no program is given");
    }
    if request.argv.iter().chain(&request.working_dir).any(|text| text.contains('\0')) {
        return bad("an argument holds a NUL byte");
    }
    if request.background && request.tty.is_some() {
        return bad("a background program has no terminal");
    }
    Ok(())
}

/// What the events' thread and the session both use.
struct Shared {
    socket: OwnedFd,
    kind: BoxKind,
    screen: Mutex<Screen>,
}

/// The program's terminal.
#[derive(Default)]
struct Screen {
    master: Option<OwnedFd>,
    /// A size that came before the terminal did.
    size: Option<WindowSize>,
}

impl Screen {
    fn resize(&mut self, size: WindowSize) -> MachineResult<()> {
        match &self.master {
            Some(master) => Ok(terminal::set_size(master.as_fd(), size.rows, size.columns)?),
            None => {
                self.size = Some(size);
                Ok(())
            }
        }
    }

    fn connect(&mut self, master: OwnedFd) -> MachineResult<()> {
        self.master = Some(master);
        self.size.take().map_or(Ok(()), |size| self.resize(size))
    }
}

impl Shared {
    /// A thread that died with the lock has left nothing half-done.
    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After this the events' thread has nothing to act upon, however long it stays.
    fn close(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        self.screen().master = None;
    }

    fn act(&self, event: ExecEvent) -> MachineResult<()> {
        match event {
            ExecEvent::Signal(number) => wire::send(self.socket.as_fd(), &InitRequest::Signal(number), &[]),
            ExecEvent::Resize(size) if self.kind == BoxKind::Vm => {
                wire::send(self.socket.as_fd(), &InitRequest::Resize(size), &[])
            }
            ExecEvent::Resize(size) => self.screen().resize(size),
        }
    }
}

/// Ends when the caller drops its sender or the exec is over and another event comes.
fn forward_events(events: Receiver<ExecEvent>, shared: Arc<Shared>) {
    std::thread::spawn(move || {
        for event in events {
            if shared.act(event).is_err() {
                return;
            }
        }
    });
}

/// One exec from the request to the outcome.
struct Session<'a> {
    run_dir: &'a Path,
    request: &'a ExecRequest,
    shared: &'a Shared,
    reader: FrameReader,
    pumps: Vec<Pump>,
    /// The caller's input and output, until the terminal is there.
    terminal: Option<(Option<OwnedFd>, OwnedFd)>,
    started: bool,
    /// Why output did not reach the caller.
    failure: Option<Errno>,
    /// When the program is no longer waited for.
    deadline: Option<Instant>,
}

impl<'a> Session<'a> {
    fn new(run_dir: &'a Path, request: &'a ExecRequest, shared: &'a Shared, plan: Plan) -> Self {
        let Plan { pumps, terminal, .. } = plan;
        let patience = |seconds| Duration::from_secs(u64::from(seconds)) + BOX_PATIENCE;
        Self {
            run_dir,
            request,
            shared,
            reader: FrameReader::new(MAX_REPLY),
            pumps,
            terminal,
            started: false,
            failure: None,
            deadline: request.timeout_seconds.map(|seconds| Instant::now() + patience(seconds)),
        }
    }

    fn run(mut self) -> MachineResult<ExecOutcome> {
        loop {
            let (answered, ready) = self.wait()?;
            for (pump, ready) in self.pumps.iter_mut().zip(ready) {
                if ready {
                    pump.step();
                }
            }
            self.put_away_closed();
            if answered && let Some(outcome) = self.hear()? {
                return Ok(outcome);
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                control::require_running(self.run_dir)?;
                return self.finish(TIMED_OUT);
            }
        }
    }

    fn wait(&self) -> MachineResult<(bool, Vec<bool>)> {
        let mut fds = vec![PollFd::new(&self.shared.socket, PollFlags::IN)];
        fds.extend(self.pumps.iter().filter_map(Pump::interest));
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, Vec::new())),
            Err(e) => return Err(MachineError::io("wait for", "program", e)),
        }
        let mut fired = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok((fired.next().unwrap_or(false), fired.collect()))
    }

    fn hear(&mut self) -> MachineResult<Option<ExecOutcome>> {
        let closed = self.reader.fill(self.shared.socket.as_fd())? == Filled::Closed;
        while let Some(reply) = self.reader.next()? {
            if let Some(outcome) = self.take(reply)? {
                return Ok(Some(outcome));
            }
        }
        match (closed, self.started) {
            (false, _) => Ok(None),
            (true, true) => self.finish(BOX_ENDED).map(Some),
            (true, false) => Err(MachineError::NotRunning),
        }
    }

    fn take(&mut self, reply: InitReply) -> MachineResult<Option<ExecOutcome>> {
        match reply {
            InitReply::Started { pid } if self.request.background => Ok(Some(ExecOutcome::Started { pid })),
            InitReply::Started { .. } => {
                self.started = true;
                self.connect_terminal()?;
                Ok(None)
            }
            InitReply::Exited { code } => self.finish(code).map(Some),
            InitReply::Stat(_) => {
                Err(MachineError::Protocol { peer: "the box's init", reason: "an odd answer".to_owned() })
            }
            InitReply::Failed { reason, message } => Err(match reason {
                FailReason::NoSuchUser => MachineError::NoSuchUser(message),
                FailReason::Stopping => MachineError::Stopping,
                FailReason::Other => MachineError::Protocol { peer: "the box's init", reason: message },
            }),
        }
    }

    fn connect_terminal(&mut self) -> MachineResult<()> {
        let Some((stdin, stdout)) = self.terminal.take() else { return Ok(()) };
        let odd = || MachineError::Protocol { peer: "the box's init", reason: "no terminal came".to_owned() };
        let usable = |fd: &OwnedFd| self.shared.kind == BoxKind::Vm || terminal::is_master(fd.as_fd());
        let master = self.reader.take_fds().pop().filter(usable).ok_or_else(odd)?;
        let copy = || master.try_clone().map_err(|e| MachineError::io("use", "terminal", e));
        if let Some(stdin) = stdin {
            self.pumps.push(Pump::into_terminal(stdin, copy()?)?);
        }
        self.pumps.push(Pump::out_of_terminal(copy()?, stdout)?);
        match self.shared.kind {
            BoxKind::Container => self.shared.screen().connect(master),
            // the terminal is in the guest, and told its sizes there
            BoxKind::Vm => Ok(()),
        }
    }

    fn put_away_closed(&mut self) {
        let failures = self.pumps.iter().filter_map(Pump::failure);
        self.failure = self.failure.or_else(|| failures.into_iter().next());
        self.pumps.retain(Pump::is_open);
    }

    /// The program has ended: what it has written is there, and only has to be fetched. An exec whose output did not
    /// reach the caller has failed, whatever the program's code.
    fn finish(&mut self, code: u8) -> MachineResult<ExecOutcome> {
        for pump in &mut self.pumps {
            pump.finish();
        }
        self.put_away_closed();
        match self.failure {
            None => Ok(ExecOutcome::Exited { code }),
            Some(reason) => Err(MachineError::Output(reason.into())),
        }
    }
}
