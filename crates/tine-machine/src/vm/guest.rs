//! Asking the guest of a running vm box for what a container's root tells by itself: files and processes.
//!
//! The side of whoever asks. The guest's answers are an attacker's.

use crate::{
    control,
    error::{MachineError, MachineResult},
    rundir::{INIT_SOCKET, RunDir},
    wire::{self, FailReason, Filled, FrameReader, InitReply, InitRequest, MAX_REPLY},
};
use std::{
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tine_agent::processes::parse_list;
use tine_model::{PathKind, ProcessInfo, RawPath};

/// How long the monitor may take to be there.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;
/// The largest list of processes, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// What lies at a path of the running vm box whose run directory this is, a link at its end followed.
///
/// # Errors
/// [`MachineError::NotRunning`], [`MachineError::Paused`], or the guest's.
pub fn stat_path(run_dir: &Path, path: &RawPath) -> MachineResult<PathKind> {
    let asked = Asked::new(run_dir, &InitRequest::StatPath(path.clone()), None)?;
    match asked.reply()? {
        InitReply::Stat(kind) => Ok(kind),
        _ => Err(odd()),
    }
}

/// Writes the file or tree at a path as a tar whose first entry is named by the path's last component.
///
/// # Errors
/// As [`stat_path`]; [`MachineError::Output`] when `out` does not take it.
pub fn copy_out(run_dir: &Path, path: &RawPath, out: &mut dyn Write) -> MachineResult<()> {
    let (from, to) = new_pipe()?;
    let asked = Asked::new(run_dir, &InitRequest::CopyOut(path.clone()), Some(to.into()))?;
    pass_on(from, out)?;
    asked.done()
}

/// Extracts a tar into the directory at a path, which must exist.
///
/// # Errors
/// As [`stat_path`]; what `tar` says when it cannot be read.
pub fn copy_in(run_dir: &Path, path: &RawPath, tar: &mut (dyn Read + Send)) -> MachineResult<()> {
    let (from, to) = new_pipe()?;
    let asked = Asked::new(run_dir, &InitRequest::CopyIn(path.clone()), Some(from.into()))?;
    thread::scope(|scope| {
        let feeder = scope.spawn(move || feed(tar, to));
        let done = asked.done();
        let fed = feeder.join().unwrap_or_else(|_| Err(odd()));
        // the guest's word tells more than that nobody read on
        done.and(fed)
    })
}

/// The processes of a running vm box, by process id.
///
/// # Errors
/// As [`stat_path`].
pub fn processes(run_dir: &Path) -> MachineResult<Vec<ProcessInfo>> {
    let (from, to) = new_pipe()?;
    let asked = Asked::new(run_dir, &InitRequest::Processes, Some(to.into()))?;
    let mut list = Vec::new();
    from.take(MAX_LIST).read_to_end(&mut list).map_err(|e| MachineError::io("read", "processes", e))?;
    asked.done()?;
    parse_list(&list).map_err(|e| MachineError::Protocol { peer: "the guest's agent", reason: e.to_string() })
}

/// A request that was sent.
struct Asked {
    socket: OwnedFd,
}

impl Asked {
    fn new(run_dir: &Path, request: &InitRequest, fd: Option<OwnedFd>) -> MachineResult<Self> {
        control::require_running(run_dir)?;
        let socket = control::connect(&RunDir::open(run_dir)?, INIT_SOCKET, Instant::now() + PATIENCE)?;
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        wire::send(socket.as_fd(), request, &fds)?;
        Ok(Self { socket })
    }

    fn reply(&self) -> MachineResult<InitReply> {
        let mut reader = FrameReader::new(MAX_REPLY);
        loop {
            match reader.next()? {
                Some(InitReply::Started { .. }) => {}
                Some(InitReply::Failed { reason, message }) => return Err(failed(reason, message)),
                Some(reply) => return Ok(reply),
                None if reader.fill(self.socket.as_fd())? == Filled::Closed => {
                    return Err(MachineError::NotRunning);
                }
                None => {}
            }
        }
    }

    fn done(&self) -> MachineResult<()> {
        match self.reply()? {
            InitReply::Exited { code: 0 } => Ok(()),
            _ => Err(odd()),
        }
    }
}

fn failed(reason: FailReason, message: String) -> MachineError {
    match reason {
        FailReason::Stopping => MachineError::Stopping,
        FailReason::NoSuchUser | FailReason::Other => MachineError::Invalid(message),
    }
}

fn new_pipe() -> MachineResult<(PipeReader, PipeWriter)> {
    pipe().map_err(|e| MachineError::io("make", "pipe", e))
}

fn pass_on(mut from: PipeReader, out: &mut dyn Write) -> MachineResult<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => out.write_all(&buffer[..n]).map_err(MachineError::Output)?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(MachineError::io("read", "the guest's tar", e)),
        }
    }
}

/// Ends quietly when nobody reads on: the guest says why.
fn feed(tar: &mut (dyn Read + Send), mut to: PipeWriter) -> MachineResult<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = tar.read(&mut buffer).map_err(|e| MachineError::io("read", "archive", e))?;
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            return Ok(());
        }
    }
}

fn odd() -> MachineError {
    MachineError::Protocol { peer: "the box's monitor", reason: "an unexpected answer".to_owned() }
}
