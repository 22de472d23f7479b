//! The monitor: one process per running box, which makes the machine and stays until nothing of it is left.
//!
//! It has one thread (the OCI runtime library forks), holds the lock that means "running", and blocks in poll
//! otherwise. It never trusts what comes out of the box.

mod container;
pub(crate) mod log;
mod root;
mod serve;

use crate::{
    cgroup::{self, BoxCgroup},
    error::{MachineError, MachineResult},
    init::{BoxInit, InitParts},
    net::{self, Attachment},
    rundir::{ADDRESS, CONTROL_SOCKET, ENDED, HOSTNAME, INIT_SOCKET, RunDir},
    seccomp,
    spec::{ContainerSpec, MAX_SPEC, MachineSpec, StartSpec},
    start::{StartReport, Started},
    vm,
};
use log::Log;
use rustix::{pipe::PipeFlags, process::Pid};
use serve::Monitor;
use std::{
    cell::RefCell,
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
};
use tine_sys::{fdpass, lock::OfdLock, process};

/// Descriptors the starter passes.
const SPEC_FD: i32 = 3;
const READY_FD: i32 = 4;

/// Everything the monitor holds while the box runs.
struct Running {
    init: Pid,
    control: OwnedFd,
    log: Log,
    /// Its closing tells the init that the monitor is dead.
    _life_line: Option<OwnedFd>,
}

/// A box that has run and of which nothing is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// Whether its starter changed its mind before releasing it, or died before showing it.
    pub abandoned: bool,
}

/// Runs the calling process as the monitor of the box described by its descriptor 3, and reports on descriptor 4 how
/// the start went. Returns after the box has ended and nothing of it is left.
///
/// # Errors
/// Why the box could not be started, which has been reported already; or what could not be removed at the end.
pub fn run() -> MachineResult<Ended> {
    let ready = process::inherited_fd(READY_FD)?;
    let _ = rustix::thread::set_name(c"tine-monitor");
    let prepared = read_spec().and_then(|spec| Ok((Stage::prepare(&spec)?, spec)));
    let (stage, spec) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return refuse(ready, error),
    };
    match spec.machine.clone() {
        MachineSpec::Vm(vm) => vm::run(stage, &spec, &vm, ready),
        MachineSpec::Container(container) => match stage.boot(&spec, &container) {
            Ok(running) => {
                drop((spec, container));
                process::release_free_memory();
                report(ready, &StartReport::Running(Started::at(stage.network.address)));
                stage.attend(running)
            }
            Err(error) => {
                stage.abandon();
                refuse(ready, error)
            }
        },
    }
}

/// Tells the starter why the box does not run.
pub(crate) fn refuse(ready: OwnedFd, error: MachineError) -> MachineResult<Ended> {
    let text = error.to_string();
    report(ready, &StartReport::Failed(tine_model::Error::from(error).body()));
    Err(MachineError::Start(text))
}

/// Tells the starter how it went.
pub(crate) fn report(ready: OwnedFd, report: &StartReport) {
    // The starter may be gone; then nobody is interested.
    let _ = serde_json::to_vec(report).map(|json| File::from(ready).write_all(&json));
}

fn read_spec() -> MachineResult<StartSpec> {
    let mut json = Vec::new();
    File::from(process::inherited_fd(SPEC_FD)?)
        .take(MAX_SPEC)
        .read_to_end(&mut json)
        .map_err(|e| MachineError::io("read", "start specification", e))?;
    let spec: StartSpec = serde_json::from_slice(&json).map_err(|e| MachineError::Start(e.to_string()))?;
    spec.check()?;
    Ok(spec)
}

/// What is there before the machine is, and after it.
pub(crate) struct Stage {
    id: String,
    pub(crate) dir: RunDir,
    _lock: OfdLock,
    pub(crate) cgroup: BoxCgroup,
    pub(crate) network: Attachment,
}

impl Stage {
    /// Takes the lock that means "running" and attaches the network. Whatever was made is undone when something fails.
    fn prepare(spec: &StartSpec) -> MachineResult<Self> {
        let dir = RunDir::open(&spec.run_dir)?;
        let lock = dir.lock()?.ok_or(MachineError::AlreadyRunning)?;
        dir.mark_paused(false)?;
        dir.remove(ENDED)?;
        let cgroup = BoxCgroup::open(&spec.id)?;
        let network = match net::attach(&spec.network) {
            Ok(network) => network,
            Err(error) => {
                let _ = cgroup.remove();
                depart(&cgroup);
                return Err(error.into());
            }
        };
        Ok(Self { id: spec.id.clone(), dir, _lock: lock, cgroup, network })
    }

    /// Takes everything away when the machine did not come up.
    pub(crate) fn abandon(self) {
        let (network, cgroup, _) = self.dismantle();
        let _ = network.detach();
        depart(&cgroup);
    }

    fn boot(&self, spec: &StartSpec, container: &ContainerSpec) -> MachineResult<Running> {
        let log = Log::open(&spec.log_dir, "log")?;
        let control = fdpass::listen_at(self.dir.fd(), CONTROL_SOCKET)?;
        let listener = fdpass::listen_at(self.dir.fd(), INIT_SOCKET)?;
        self.dir.write(HOSTNAME, format!("{}\n", spec.hostname).as_bytes())?;
        self.write_address()?;
        let pipe = |flags| rustix::pipe::pipe_with(flags).map_err(|e| MachineError::io("make", "pipe", e));
        let (life, monitor_lives) = pipe(PipeFlags::CLOEXEC)?;
        let (output, log_end) = pipe(PipeFlags::CLOEXEC)?;
        let lives = RefCell::new(Some(monitor_lives));
        let parts = InitParts { listener, log: log_end, life, lives, filters: seccomp::filters()? };
        let box_init = BoxInit::new(parts);
        let init = container::create(spec, container, self, box_init.clone())?;
        Ok(Running { init, control, log: log.fed_by(output)?, _life_line: box_init.take_life_line() })
    }

    /// Lets others find the box's address.
    pub(crate) fn write_address(&self) -> MachineResult<()> {
        match self.network.address {
            Some(address) => self.dir.write(ADDRESS, address.to_string().as_bytes()),
            None => Ok(()),
        }
    }

    /// Serves until the box has ended, then takes everything away.
    fn attend(self, running: Running) -> MachineResult<Ended> {
        let mut monitor = Monitor::new(running, &self.dir, &self.cgroup)?;
        let served = monitor.serve();
        let clients = monitor.finish();
        self.finish(served, clients, false)
    }

    /// Takes everything away after the machine's end. Whoever waits for the end learns of it by the
    /// connection's closing and the lock's release: all that others could miss is gone by then. What takes the kernel
    /// tens of milliseconds follows: the devices, and the monitor's own group.
    pub(crate) fn finish<T>(
        self,
        served: MachineResult<()>,
        clients: T,
        abandoned: bool,
    ) -> MachineResult<Ended> {
        let id = self.id.clone();
        let (network, cgroup, removed) = self.dismantle();
        drop(clients);
        let detached = network.detach();
        depart(&cgroup);
        served.and(removed).and(detached.map_err(MachineError::from)).map(|()| Ended { id, abandoned })
    }

    /// Takes away all but the network's devices and the monitor's own group; the lock is free and nothing of the pool
    /// is open on return.
    fn dismantle(mut self) -> (Attachment, BoxCgroup, MachineResult<()>) {
        let disconnected = self.network.disconnect();
        let removed = self.cgroup.remove();
        let cleared = [CONTROL_SOCKET, INIT_SOCKET, HOSTNAME, ADDRESS].map(|name| self.dir.remove(name));
        let unmarked = self.dir.mark_paused(false);
        let all = disconnected
            .map_err(MachineError::from)
            .and(removed)
            .and(cleared.into_iter().collect::<MachineResult<()>>())
            .and(unmarked);
        (self.network, self.cgroup, all)
    }
}

/// Leaves no group behind that this monitor was the last to need.
fn depart(cgroup: &BoxCgroup) {
    cgroup.leave_for_good();
    cgroup::remove_empty_parents();
}

/// Borrowed by the container's making.
impl Stage {
    fn files(&self) -> container::Files<'_> {
        container::Files {
            hosts: &self.network.hosts_file,
            resolv_conf: &self.network.resolv_conf,
            hostname: self.dir.path_of(HOSTNAME),
        }
    }
}

/// The bytes a background program has written, as a file that does not block.
fn unblocked(fd: OwnedFd) -> MachineResult<OwnedFd> {
    rustix::io::ioctl_fionbio(fd.as_fd(), true).map_err(|e| MachineError::io("set up", "pipe", e))?;
    Ok(fd)
}
