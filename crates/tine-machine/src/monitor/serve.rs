//! The monitor's loop: control requests, the log, and the init's end.

use super::{Running, log::Log};
use crate::{
    cgroup::BoxCgroup,
    error::{MachineError, MachineResult},
    rundir::RunDir,
    wire::{self, ControlReply, ControlRequest, Filled, FrameReader, MAX_REPLY},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, WaitOptions},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};
use tine_sys::fdpass;

/// At most so many clients at a time; more wait in the listener's queue.
const MAX_CLIENTS: usize = 64;
/// What the init gets beyond the grace its programs have.
const INIT_GRACE: Duration = Duration::from_secs(1);

/// A client's connection.
pub(super) struct Client {
    socket: OwnedFd,
    reader: FrameReader,
}

/// The monitor of a box that runs.
pub(super) struct Monitor<'a> {
    init: Pid,
    init_fd: OwnedFd,
    control: OwnedFd,
    log: Log,
    dir: &'a RunDir,
    cgroup: &'a BoxCgroup,
    clients: Vec<Client>,
    _life_line: Option<OwnedFd>,
    /// When the init is killed, once the box is to stop.
    deadline: Option<Instant>,
}

impl<'a> Monitor<'a> {
    pub(super) fn new(running: Running, dir: &'a RunDir, cgroup: &'a BoxCgroup) -> MachineResult<Self> {
        let init_fd = rustix::process::pidfd_open(running.init, PidfdFlags::empty())
            .map_err(|e| MachineError::io("watch", "init", e))?;
        Ok(Self {
            init: running.init,
            init_fd,
            control: running.control,
            log: running.log,
            dir,
            cgroup,
            clients: Vec::new(),
            _life_line: running._life_line,
            deadline: None,
        })
    }

    /// Serves until the init is dead, and with it every process of the box.
    pub(super) fn serve(&mut self) -> MachineResult<()> {
        // a limit or freeze of the box must not catch its monitor
        let served = self.cgroup.leave_late().and_then(|()| self.turn_until_end());
        self.kill();
        let _ = rustix::process::waitpid(Some(self.init), WaitOptions::empty());
        self.log.drain();
        served
    }

    fn turn_until_end(&mut self) -> MachineResult<()> {
        while !self.turn()? {}
        Ok(())
    }

    /// The clients that are still connected.
    pub(super) fn finish(self) -> Vec<Client> {
        self.clients
    }

    /// One round; true when the init is dead.
    fn turn(&mut self) -> MachineResult<bool> {
        let fired = self.wait()?;
        let Some((fixed, clients)) = fired.split_first_chunk::<3>() else { return Ok(false) };
        if fixed[0] {
            return Ok(true);
        }
        if fixed[1] {
            self.log.take_chunk();
        }
        for index in (0..clients.len()).rev().filter(|i| clients[*i]) {
            self.hear(index);
        }
        if fixed[2] {
            self.accept();
        }
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.kill();
        }
        Ok(false)
    }

    /// Waits; tells for the init, the log, the listener and each client whether something is there.
    fn wait(&self) -> MachineResult<Vec<bool>> {
        let accepting = self.clients.len() < MAX_CLIENTS;
        let interest = |wanted| if wanted { PollFlags::IN } else { PollFlags::empty() };
        let pipe = self.log.pipe();
        let mut fds = vec![
            PollFd::new(&self.init_fd, PollFlags::IN),
            PollFd::new(pipe.unwrap_or(&self.control), interest(pipe.is_some())),
            PollFd::new(&self.control, interest(accepting)),
        ];
        fds.extend(self.clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)));
        let patience = self.deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match rustix::event::poll(&mut fds, patience.as_ref()) {
            Ok(_) => Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(Errno::INTR) => Ok(vec![false; fds.len()]),
            Err(e) => Err(MachineError::io("wait", "monitor", e)),
        }
    }

    fn accept(&mut self) {
        if let Ok(Some(socket)) = fdpass::accept(self.control.as_fd()) {
            self.clients.push(Client { socket, reader: FrameReader::new(MAX_REPLY) });
        }
    }

    /// Takes what a client says; one that closes or says something odd is dropped.
    fn hear(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let filled = client.reader.fill(client.socket.as_fd());
        let mut keep = matches!(filled, Ok(Filled::Some | Filled::Nothing));
        while keep {
            match self.clients[index].reader.next::<ControlRequest>() {
                Ok(Some(request)) => keep = self.answer(index, &request),
                Ok(None) => return,
                Err(_) => keep = false,
            }
        }
        self.clients.remove(index);
    }

    /// False when the client is not to be heard any more.
    fn answer(&mut self, index: usize, request: &ControlRequest) -> bool {
        let done = match request {
            ControlRequest::Stop { grace_seconds } => {
                self.stop(Duration::from_secs(u64::from(*grace_seconds)));
                return true;
            }
            ControlRequest::Kill => {
                self.kill();
                return true;
            }
            ControlRequest::Pause => self.pause(),
            ControlRequest::Resume => self.resume(),
            ControlRequest::SetLimits(limits) => self.cgroup.set_limits(limits),
            ControlRequest::Quiesce
            | ControlRequest::Thaw
            | ControlRequest::Capture { .. }
            | ControlRequest::Usage => {
                Err(MachineError::Invalid("only a vm box has a state of its own".to_owned()))
            }
        };
        let failed = |error| ControlReply::Failed(tine_model::Error::from(error).body());
        let reply = done.map_or_else(failed, |()| ControlReply::Done);
        wire::send(self.clients[index].socket.as_fd(), &reply, &[]).is_ok()
    }

    fn pause(&self) -> MachineResult<()> {
        self.cgroup.freeze(true)?;
        self.dir.mark_paused(true)
    }

    fn resume(&self) -> MachineResult<()> {
        self.cgroup.freeze(false)?;
        self.dir.mark_paused(false)
    }

    /// The init passes SIGTERM on and ends when it is alone.
    fn stop(&mut self, grace: Duration) {
        let _ = self.resume();
        let _ = rustix::process::pidfd_send_signal(&self.init_fd, Signal::TERM);
        let deadline = Instant::now() + grace + INIT_GRACE;
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    /// The kernel kills everything in the box with its init.
    fn kill(&mut self) {
        self.deadline = None;
        let _ = rustix::process::pidfd_send_signal(&self.init_fd, Signal::KILL);
        let _ = self.resume();
    }
}
