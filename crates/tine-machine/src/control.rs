//! Talking to a running box's monitor.

use crate::{
    error::{MachineError, MachineResult},
    rundir::{self, CONTROL_SOCKET, RunDir},
    wire::{self, Captured, ControlReply, ControlRequest, Filled, FrameReader, MAX_REPLY, MachineUsage},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};
use tine_model::{BoxStatus, Limits};
use tine_sys::fdpass;

/// How long the monitor may take for anything but stopping.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it may take to save a machine's state, whose memory may be large.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(600);

/// Stops a box: SIGTERM to every process, SIGKILL after `grace_seconds`. Returns when nothing of it is left; nothing
/// to do for a stopped box. A paused box is resumed to that end.
///
/// # Errors
/// A monitor that does not answer or takes too long.
pub fn stop(run_dir: &Path, grace_seconds: u32) -> MachineResult<()> {
    end(
        run_dir,
        &ControlRequest::Stop { grace_seconds },
        Duration::from_secs(u64::from(grace_seconds)) + PATIENCE,
    )
}

/// Kills every process of a box. Returns when nothing of it is left; nothing to do for a stopped box.
///
/// # Errors
/// A monitor that does not answer or takes too long.
pub fn kill(run_dir: &Path) -> MachineResult<()> {
    end(run_dir, &ControlRequest::Kill, PATIENCE)
}

/// Freezes every process of a box; nothing to do for a paused one.
///
/// # Errors
/// [`MachineError::NotRunning`], or the monitor's.
pub fn pause(run_dir: &Path) -> MachineResult<()> {
    ask(run_dir, &ControlRequest::Pause)
}

/// Thaws a paused box; nothing to do for a running one.
///
/// # Errors
/// [`MachineError::NotRunning`], or the monitor's.
pub fn resume(run_dir: &Path) -> MachineResult<()> {
    ask(run_dir, &ControlRequest::Resume)
}

/// Gives a running box other limits, at once.
///
/// # Errors
/// [`MachineError::NotRunning`], or the monitor's.
pub fn set_limits(run_dir: &Path, limits: &Limits) -> MachineResult<()> {
    ask(run_dir, &ControlRequest::SetLimits(*limits))
}

/// Brings the disk of a running vm box into a state that can be copied, and keeps it there until [`thaw`].
///
/// # Errors
/// [`MachineError::NotRunning`]; the monitor's, when the guest does not do it in time.
pub fn quiesce(run_dir: &Path) -> MachineResult<()> {
    ask(run_dir, &ControlRequest::Quiesce)
}

/// Undoes [`quiesce`].
///
/// # Errors
/// [`MachineError::NotRunning`], or the monitor's.
pub fn thaw(run_dir: &Path) -> MachineResult<()> {
    ask(run_dir, &ControlRequest::Thaw)
}

/// Where the state of a vm box is saved.
#[derive(Debug)]
pub struct CaptureTarget<'a> {
    /// An empty file on the pool's file system for the memory.
    pub memory: BorrowedFd<'a>,
    /// An empty file for the devices' state.
    pub vmstate: BorrowedFd<'a>,
    /// The root that holds the disk.
    pub root: BorrowedFd<'a>,
    /// The directory in which a read-only snapshot of it is made as `root`.
    pub directory: BorrowedFd<'a>,
}

/// Saves the state of a vm box, which goes on. With `quiesce` its programs are stopped in order first, so that clones
/// can be given identities of their own before anything runs in them.
///
/// # Errors
/// [`MachineError::NotRunning`], or the monitor's; what the files hold then is worth nothing.
pub fn capture(run_dir: &Path, quiesce: bool, target: &CaptureTarget<'_>) -> MachineResult<Captured> {
    let fds = [target.memory, target.vmstate, target.root, target.directory];
    match converse(run_dir, &ControlRequest::Capture { quiesce }, &fds, CAPTURE_PATIENCE)? {
        ControlReply::Captured(captured) => Ok(captured),
        _ => Err(unexpected()),
    }
}

/// What the machine of a running vm box takes.
///
/// # Errors
/// [`MachineError::NotRunning`], or the monitor's.
pub fn usage(run_dir: &Path) -> MachineResult<MachineUsage> {
    match converse(run_dir, &ControlRequest::Usage, &[], PATIENCE)? {
        ControlReply::Usage(usage) => Ok(usage),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> MachineError {
    MachineError::Protocol { peer: "the box's monitor", reason: "an unexpected answer".to_owned() }
}

fn ask(run_dir: &Path, request: &ControlRequest) -> MachineResult<()> {
    match converse(run_dir, request, &[], PATIENCE)? {
        ControlReply::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

fn converse(
    run_dir: &Path,
    request: &ControlRequest,
    fds: &[BorrowedFd<'_>],
    patience: Duration,
) -> MachineResult<ControlReply> {
    let deadline = Instant::now() + patience;
    let socket = connect(&RunDir::open(run_dir)?, CONTROL_SOCKET, deadline)?;
    wire::send(socket.as_fd(), request, fds)?;
    let mut reader = FrameReader::new(MAX_REPLY);
    loop {
        match reader.next()? {
            Some(ControlReply::Failed(why)) => return Err(MachineError::reported(why)),
            Some(reply) => return Ok(reply),
            None => {}
        }
        wait(&socket, deadline)?;
        if reader.fill(socket.as_fd())? == Filled::Closed {
            return Err(MachineError::NotRunning);
        }
    }
}

fn end(run_dir: &Path, request: &ControlRequest, patience: Duration) -> MachineResult<()> {
    let deadline = Instant::now() + patience;
    let dir = RunDir::open(run_dir)?;
    match connect(&dir, CONTROL_SOCKET, deadline) {
        Err(MachineError::NotRunning) => return Ok(()),
        Err(e) => return Err(e),
        Ok(socket) => await_end(&socket, request, deadline)?,
    }
    while dir.is_locked()? {
        if Instant::now() > deadline {
            return Err(MachineError::Timeout { what: "stopping the box", seconds: patience.as_secs() });
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// The monitor closes the connection when all is gone; so does the kernel when the monitor dies.
fn await_end(socket: &OwnedFd, request: &ControlRequest, deadline: Instant) -> MachineResult<()> {
    match wire::send(socket.as_fd(), request, &[]) {
        Err(MachineError::Sys(e)) if e.errno() == libc::EPIPE => return Ok(()),
        other => other?,
    }
    let mut reader = FrameReader::new(MAX_REPLY);
    loop {
        wait(socket, deadline)?;
        if reader.fill(socket.as_fd())? == Filled::Closed {
            return Ok(());
        }
    }
}

/// Connects to one of a running box's sockets; waits while the box comes up.
pub(crate) fn connect(dir: &RunDir, name: &str, deadline: Instant) -> MachineResult<OwnedFd> {
    loop {
        match fdpass::connect_at(dir.fd(), name) {
            Ok(socket) => return Ok(socket),
            Err(e) if !matches!(e.errno(), libc::ENOENT | libc::ECONNREFUSED) => return Err(e.into()),
            Err(_) if !dir.is_locked()? => return Err(MachineError::NotRunning),
            Err(_) if Instant::now() > deadline => {
                return Err(MachineError::Timeout { what: "reaching the box", seconds: PATIENCE.as_secs() });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Refuses to go on with a box that is not running, or paused.
pub(crate) fn require_running(run_dir: &Path) -> MachineResult<()> {
    match rundir::status(run_dir)? {
        BoxStatus::Running => Ok(()),
        BoxStatus::Paused if rundir::is_full(run_dir) => Err(MachineError::Full),
        BoxStatus::Paused => Err(MachineError::Paused),
        BoxStatus::Stopped => Err(MachineError::NotRunning),
    }
}

fn wait(socket: &OwnedFd, deadline: Instant) -> MachineResult<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match rustix::event::poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(MachineError::Timeout { what: "the monitor's answer", seconds: PATIENCE.as_secs() }),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(MachineError::io("wait for", "monitor", e)),
    }
}
