//! Starting a box: the side of whoever asks.

use crate::{
    cgroup::{self, BoxCgroup},
    error::{MachineError, MachineResult},
    rundir::RunDir,
    spec::{MAX_SPEC, MachineSpec, StartSpec},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::MemfdFlags,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::CString,
    fs::File,
    io::{Read, Seek, Write},
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};
use tine_model::{ErrorBody, Limits};
use tine_sys::process::{Detached, protected_program, spawn_detached};

/// How long a box may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest report of a monitor, in bytes.
const MAX_REPORT: u64 = 64 << 10;

/// The program that is started as the box's monitor: it must end up in [`crate::monitor::run`].
#[derive(Debug, Clone)]
pub struct MonitorProgram {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, its name first.
    pub argv: Vec<String>,
}

/// A box that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its address, where it has one.
    pub address: Option<Ipv4Addr>,
    /// When a vm box got where.
    #[serde(default)]
    pub clocks: Option<StartClocks>,
}

impl Started {
    /// A container box with this address.
    pub(crate) fn at(address: Option<Ipv4Addr>) -> Self {
        Self { address, clocks: None }
    }
}

/// When a vm box got where, in microseconds since its monitor began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartClocks {
    /// QEMU was started.
    pub process_started_us: u64,
    /// The devices' state was loaded; 0 for a machine that boots.
    pub state_loaded_us: u64,
    /// The processors ran.
    pub resumed_us: u64,
    /// The agent had acknowledged its identity, and programs ran.
    pub agent_acknowledged_us: u64,
}

/// What a starter says of a box that is to outlive it.
pub(crate) const RELEASED: u8 = 1;
/// What it says of one that is to end.
pub(crate) const UNWANTED: u8 = 0;

/// A box that runs as long as its starter wants it, until it is released.
#[derive(Debug)]
pub struct Tied {
    /// The box.
    pub started: Started,
    /// None once it is released.
    life: Option<OwnedFd>,
}

impl Tied {
    /// From now on the box outlives the caller. Until then it ends when this is dropped, and when the caller dies
    /// before it has moved the run directory to where the box is shown.
    ///
    /// # Errors
    /// When the box has ended meanwhile.
    pub fn release(mut self) -> MachineResult<Started> {
        match self.life.take().map(|life| rustix::io::write(life, &[RELEASED])) {
            Some(Err(e)) => Err(MachineError::io("release", "the box", e)),
            _ => Ok(self.started.clone()),
        }
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // one that has ended already does not listen
        let _ = self.life.take().map(|life| rustix::io::write(life, &[UNWANTED]));
    }
}

/// What the monitor says when the box runs or does not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartReport {
    /// It runs.
    Running(Started),
    /// It does not.
    Failed(ErrorBody),
}

/// Starts a box: returns when its init answers requests. What a former run left behind is removed first.
///
/// # Errors
/// [`MachineError::AlreadyRunning`]; an unusable specification; whatever the monitor reports, or its silence. Nothing
/// is left running then.
pub fn start(spec: &StartSpec, program: &MonitorProgram) -> MachineResult<Started> {
    start_with(spec, program, None)
}

/// As [`start`], but the box is the caller's until it is released; see [`Tied::release`]. For vm boxes.
///
/// # Errors
/// As [`start`].
pub fn start_tied(spec: &StartSpec, program: &MonitorProgram) -> MachineResult<Tied> {
    let (theirs, life) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| MachineError::io("make", "pipe", e))?;
    Ok(Tied { started: start_with(spec, program, Some(theirs.as_fd()))?, life: Some(life) })
}

fn start_with(
    spec: &StartSpec,
    program: &MonitorProgram,
    life: Option<BorrowedFd<'_>>,
) -> MachineResult<Started> {
    spec.check()?;
    if RunDir::open(&spec.run_dir)?.is_locked()? {
        return Err(MachineError::AlreadyRunning);
    }
    cgroup::reap_leftovers(&spec.id)?;
    let cgroup = BoxCgroup::create(&spec.id, &cgroup_limits(spec))?;
    let patience = patience(spec);
    let started = launch(spec, program, &cgroup, life).and_then(|report| await_report(report, patience));
    if started.is_err() {
        clean_up(spec);
    }
    started
}

/// What the groups of a box are limited to: a machine needs some memory beside that of its guest.
fn cgroup_limits(spec: &StartSpec) -> Limits {
    match &spec.machine {
        MachineSpec::Container(_) => spec.limits,
        MachineSpec::Vm(vm) => Limits { memory_bytes: Some(vm.memory_limit()), ..spec.limits },
    }
}

fn patience(spec: &StartSpec) -> Duration {
    match &spec.machine {
        MachineSpec::Container(_) => PATIENCE,
        // the monitor gives up first, and says why
        MachineSpec::Vm(vm) => PATIENCE + Duration::from_secs(u64::from(vm.patience_seconds)),
    }
}

fn launch(
    spec: &StartSpec,
    program: &MonitorProgram,
    cgroup: &BoxCgroup,
    life: Option<BorrowedFd<'_>>,
) -> MachineResult<OwnedFd> {
    let sent = spec_file(&StartSpec { tied: life.is_some(), ..spec.clone() })?;
    let (report, ready) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| MachineError::io("make", "pipe", e))?;
    let argv: Vec<CString> = program
        .argv
        .iter()
        .map(|a| CString::new(a.as_str()))
        .collect::<Result<_, _>>()
        .map_err(|_| MachineError::Invalid("an argument holds a NUL byte".to_owned()))?;
    let fds: Vec<BorrowedFd<'_>> = [sent.as_fd(), ready.as_fd()].into_iter().chain(life).collect();
    spawn_detached(&Detached {
        program: protected_program(&program.path)?.as_fd(),
        argv: &argv,
        fds: &fds,
        cgroup: cgroup.start_dir(),
    })?;
    Ok(report)
}

fn spec_file(spec: &StartSpec) -> MachineResult<OwnedFd> {
    let json = serde_json::to_vec(spec).map_err(|e| MachineError::Invalid(e.to_string()))?;
    if json.len() as u64 > MAX_SPEC {
        return Err(MachineError::Invalid("the box's settings are larger than 1 MiB".to_owned()));
    }
    let write = || -> std::io::Result<File> {
        let mut file = File::from(rustix::fs::memfd_create("spec", MemfdFlags::CLOEXEC)?);
        file.write_all(&json)?;
        file.rewind()?;
        Ok(file)
    };
    Ok(write().map_err(|e| MachineError::io("write", "start specification", e))?.into())
}

fn await_report(report: OwnedFd, patience: Duration) -> MachineResult<Started> {
    let deadline = Instant::now() + patience;
    let mut report = File::from(report);
    let mut text = Vec::new();
    loop {
        wait_readable(&report, deadline)?;
        let mut part = [0; 4096];
        match report.read(&mut part).map_err(|e| MachineError::io("read", "monitor's report", e))? {
            0 => break,
            n => text.extend_from_slice(&part[..n]),
        }
        if text.len() as u64 > MAX_REPORT {
            return Err(MachineError::Start("the monitor says too much".to_owned()));
        }
    }
    match serde_json::from_slice(&text) {
        Ok(StartReport::Running(started)) => Ok(started),
        Ok(StartReport::Failed(why)) => Err(MachineError::reported(why)),
        Err(_) => Err(MachineError::Start("its monitor died".to_owned())),
    }
}

fn wait_readable(file: &File, deadline: Instant) -> MachineResult<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match rustix::event::poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(MachineError::Timeout { what: "starting the box", seconds: PATIENCE.as_secs() }),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(MachineError::io("wait for", "monitor", e)),
    }
}

/// After a start that failed. A monitor that still lives cleans up itself.
fn clean_up(spec: &StartSpec) {
    let locked = RunDir::open(&spec.run_dir).and_then(|dir| dir.is_locked());
    if matches!(locked, Ok(false)) {
        let _ = cgroup::reap_leftovers(&spec.id);
        cgroup::remove_empty_parents();
    }
}
