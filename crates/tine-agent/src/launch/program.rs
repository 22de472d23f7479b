//! A program that runs, as whoever started it sees it: signals, time limits, exit codes.

use rustix::process::{Pid, Signal, WaitStatus};
use std::time::{Duration, Instant};
use tine_model::ExecRequest;

/// Between SIGTERM or SIGHUP and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// The exit code of a program whose time was over.
const TIMED_OUT: u8 = 124;

/// A program that runs, and the leader of its process group.
#[derive(Debug)]
pub struct Program {
    pid: Pid,
    background: bool,
    terminal: bool,
    /// When the next, harsher signal is due.
    deadline: Option<Instant>,
    /// Set once the program has been told to end.
    ending: bool,
    timed_out: bool,
}

impl Program {
    /// A process that was just started for a request.
    pub(super) fn new(pid: Pid, request: &ExecRequest, terminal: bool) -> Self {
        let deadline = request.timeout_seconds.map(|s| Instant::now() + Duration::from_secs(u64::from(s)));
        Self { background: request.background, terminal, deadline, ..Self::worker(pid) }
    }

    /// A process that was just started and leads its group, without anything special.
    #[must_use]
    pub fn worker(pid: Pid) -> Self {
        Self { pid, background: false, terminal: false, deadline: None, ending: false, timed_out: false }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its process id as a message has it.
    #[must_use]
    pub fn raw_pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// True when it outlives whoever asked for it.
    #[must_use]
    pub fn is_background(&self) -> bool {
        self.background
    }

    /// True when it has a terminal.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.terminal
    }

    /// When [`press_if_due`](Self::press_if_due) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Sends a signal to its process group; a number that is none does nothing.
    pub fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            self.send(signal);
        }
    }

    /// Whoever asked for it is gone: it ends as when a terminal is closed, unless it runs in the background.
    pub fn hang_up(&mut self) {
        if self.background {
            return;
        }
        self.send(Signal::HUP);
        self.ending = true;
        self.deadline = Some(Instant::now() + GRACE);
    }

    /// Sends the signal whose time has come: SIGTERM to a program that runs too long, SIGKILL to one that does not heed
    /// the first.
    pub fn press_if_due(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.ending {
            self.send(Signal::KILL);
            self.deadline = None;
        } else {
            self.send(Signal::TERM);
            self.ending = true;
            self.timed_out = true;
            self.deadline = Some(now + GRACE);
        }
    }

    /// The code `exec` returns for how it ended: its own, 128+n for a signal, 124 when its time was over.
    #[must_use]
    pub fn exit_code(&self, status: WaitStatus) -> u8 {
        match (status.exit_status(), status.terminating_signal()) {
            _ if self.timed_out => TIMED_OUT,
            (Some(code), _) => (code & 0xff) as u8,
            (None, Some(signal)) => 128_u8.saturating_add(signal as u8),
            (None, None) => 255,
        }
    }

    fn send(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }
}
