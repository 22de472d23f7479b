//! Bringing a machine up: from its files to a guest that knows who it is and runs programs.

use super::{
    capture::Memory,
    link::Link,
    monitor::{Monitor, Parts},
    process::{self, Files},
    qmp::Qmp,
    spec::{Boot, VmSpec},
    unready::Unready,
};
use crate::{
    error::{MachineError, MachineResult},
    monitor::Stage,
    rundir::ACCEL,
    spec::StartSpec,
    start::StartClocks,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    process::{Signal, WaitId, WaitIdOptions, waitid},
};
use serde_json::json;
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tine_agent::message::{
    Entropy, GuestControl, HostControl, Identity, MacAddress, MachineId, NetworkIdentity, PROTOCOL, Refused,
};
use tine_sys::{open_listener::OpenListener, tap::open_tap};

/// How long QEMU may take for one command.
const PATIENCE: Duration = Duration::from_secs(30);
/// A guest's clock may be behind by as much as a message takes; it is set again until that is less than this.
const CLOCK_ERROR: Duration = Duration::from_millis(50);
/// How often it is set again at most.
const CLOCK_TRIES: u32 = 8;
/// How long a machine that goes on may take to answer before it is greeted again.
const GREETING_PERIOD: Duration = Duration::from_secs(1);
/// A tap that leads nowhere.
const NOWHERE: &str = "nowhere";
/// The name under which QEMU is given a state's descriptor.
const STATE_NAME: &str = "state";

/// Starts QEMU with everything it works with, and waits until it answers. `stage` gives its tap away.
pub(super) fn launch(
    stage: &mut Stage,
    spec: &StartSpec,
    vm: &VmSpec,
    unready: &mut Unready,
) -> MachineResult<Parts> {
    let (memory, is_empty) = open_memory(spec, vm)?;
    let files = Files { disk: open(&vm.disk, true)?, tap: tap(stage, vm), kernel: open_kernel(vm)? };
    let mac = stage.network.guest.as_ref().map_or_else(random_mac, |guest| Ok(guest.mac))?;
    let wiring = files.wiring(mac, random()?);
    stage.cgroup.enter()?;
    let started = process::start(&vm.qemu, &vm.hardware.arguments(&wiring), &files, &spec.id);
    stage.cgroup.leave_early()?;
    let (process, channels) = started?;
    unready.hold_room();
    let mut qmp = Qmp::new(channels.qmp)?;
    let found = await_answer(&mut qmp, &channels.opens, &memory, process.pidfd().as_fd())
        .and_then(|()| Memory::find(memory, is_empty, process.pid()))
        .map_err(|error| process::complaint(&channels.errors).map_or(error, MachineError::Start))?;
    // from here on whatever QEMU opens for writing fails: nobody answers it
    Ok(Parts {
        memory: found,
        disk: files.disk,
        link: Link::new(channels.agent, u64::from_le_bytes(random()?))?,
        console: channels.console,
        errors: channels.errors,
        qmp,
        process,
    })
}

/// Its network. A saved machine may have agreed with its device on what only a tap can do: without a network it gets a
/// tap all the same, in the monitor's empty namespace.
fn tap(stage: &mut Stage, vm: &VmSpec) -> Option<OwnedFd> {
    let goes_on = matches!(vm.boot, Boot::State { .. });
    // a host without taps has no saved machine that needs one
    stage.network.take_tap().or_else(|| goes_on.then(|| open_tap(NOWHERE).ok()).flatten())
}

/// A machine that boots gets memory that is one hole.
fn open_memory(spec: &StartSpec, vm: &VmSpec) -> MachineResult<(File, bool)> {
    match &vm.boot {
        Boot::State { memory, .. } => Ok((open(memory, false)?, false)),
        Boot::Kernel { .. } => {
            let path = spec.run_dir.join("memory");
            let err = |e| MachineError::io("make", path.display(), e);
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .map_err(err)?;
            file.set_len(vm.hardware.memory_bytes.bytes()).map_err(err)?;
            std::fs::remove_file(&path).map_err(err)?;
            Ok((file, true))
        }
    }
}

fn open_kernel(vm: &VmSpec) -> MachineResult<Option<(File, File)>> {
    match &vm.boot {
        Boot::Kernel { kernel, initrd } => Ok(Some((open(kernel, false)?, open(initrd, false)?))),
        Boot::State { .. } => Ok(None),
    }
}

fn open(path: &Path, write: bool) -> MachineResult<File> {
    File::options()
        .read(true)
        .write(write)
        .open(path)
        .map_err(|e| MachineError::io("open", path.display(), e))
}

/// QEMU answers commands once it has opened its files, and is answered meanwhile.
fn await_answer(
    qmp: &mut Qmp,
    opens: &OpenListener,
    memory: &File,
    qemu: BorrowedFd<'_>,
) -> MachineResult<()> {
    let deadline = Instant::now() + PATIENCE;
    qmp.send("qmp_capabilities", &json!({}), &[])?;
    // the greeting, and the answer
    let mut lines = 0;
    while lines < 2 {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [
            PollFd::new(&*qmp, PollFlags::IN),
            PollFd::new(opens, PollFlags::IN),
            PollFd::from_borrowed_fd(qemu, PollFlags::IN),
        ];
        let count = rustix::event::poll(&mut fds, Some(&timeout));
        let [spoke, opened, ended] = fds.map(|fd| !fd.revents().is_empty());
        match count {
            Ok(0) => return Err(MachineError::Timeout { what: "QEMU's start", seconds: PATIENCE.as_secs() }),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(MachineError::io("wait for", "QEMU", e)),
        }
        if opened {
            process::answer_open(opens, memory)?;
        }
        if spoke {
            lines += qmp.count_answers()?;
        }
        if ended {
            return Err(MachineError::Start(how_it_ended(qemu)));
        }
    }
    Ok(())
}

/// What is known of a QEMU that has ended before it answered. Leaves it to be reaped.
fn how_it_ended(qemu: BorrowedFd<'_>) -> String {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::PidFd(qemu), how).ok().flatten();
    match status.and_then(|status| status.terminating_signal()) {
        Some(signal) if signal == Signal::KILL.as_raw() => {
            "QEMU was killed as it started, most likely because the host or its control group is out of memory".into()
        }
        Some(signal) => format!("QEMU was ended by signal {signal} as it started"),
        None => "QEMU ended at once".into(),
    }
}

/// Lets a machine run whose QEMU has started, and returns when its guest has acknowledged who it is.
pub(super) fn bring_up(
    monitor: &mut Monitor<'_>,
    spec: &StartSpec,
    begun: Instant,
    unready: Unready,
) -> MachineResult<StartClocks> {
    let deadline = begun + Duration::from_secs(u64::from(monitor.spec.patience_seconds));
    let now = || u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut clocks = StartClocks { process_started_us: now(), ..Default::default() };
    if let Boot::State { vmstate, .. } = &monitor.spec.boot {
        load(monitor, vmstate, deadline)?;
        clocks.state_loaded_us = now();
    }
    let told = Instant::now();
    let identity = HostControl::Identity(Box::new(identity(monitor.stage, spec)?));
    monitor.link.tell(&identity)?;
    monitor.qmp.execute("cont", &json!({}), &[], PATIENCE)?;
    monitor.link.release();
    monitor.link.flush();
    clocks.resumed_us = now();
    await_greeting(monitor, &identity, deadline)?;
    settle_identity(monitor, told, deadline)?;
    clocks.agent_acknowledged_us = now();
    unready.end();
    monitor.process.is_ready();
    monitor.stage.write_address()?;
    monitor.stage.dir.write(ACCEL, monitor.spec.hardware.accel.to_string().as_bytes())?;
    monitor.listen()?;
    Ok(clocks)
}

fn load(monitor: &mut Monitor<'_>, vmstate: &Path, deadline: Instant) -> MachineResult<()> {
    let state = open(vmstate, false)?;
    let capability = json!({ "capabilities": [{ "capability": "events", "state": true }] });
    monitor.qmp.execute("migrate-set-capabilities", &capability, &[], PATIENCE)?;
    // it is nobody's successor, and each of its neighbours would be woken to hear of it
    monitor.qmp.execute("migrate-set-parameters", &json!({ "announce-rounds": 0 }), &[], PATIENCE)?;
    monitor.qmp.execute("getfd", &json!({ "fdname": STATE_NAME }), &[state.as_fd()], PATIENCE)?;
    let uri = format!("fd:{STATE_NAME}");
    monitor.qmp.execute("migrate-incoming", &json!({ "uri": uri }), &[], PATIENCE)?;
    monitor.take_events()?;
    loop {
        match monitor.migration.as_deref() {
            Some("completed") => return Ok(()),
            Some("failed") => {
                return Err(MachineError::Start("the saved state could not be loaded".to_owned()));
            }
            _ => {}
        }
        monitor.turn(deadline)?;
        check(monitor, deadline)?;
    }
}

/// Until the agent has answered. A machine that has just gone on may have missed the interrupt that told it of the
/// greeting; it is then greeted again.
fn await_greeting(monitor: &mut Monitor<'_>, identity: &HostControl, deadline: Instant) -> MachineResult<()> {
    let mut again = Instant::now() + GREETING_PERIOD;
    while monitor.link.greeting().is_none() {
        let until = if monitor.spec.boots() { deadline } else { deadline.min(again) };
        monitor.turn(until)?;
        check(monitor, deadline)?;
        refuse_failed_boot(monitor)?;
        if Instant::now() >= again && !monitor.spec.boots() {
            monitor.link.greet()?;
            monitor.link.tell(identity)?;
            again = Instant::now() + GREETING_PERIOD;
        }
    }
    Ok(())
}

/// Until the agent has set the clock well enough and lets programs run. `told` is the moment whose time the identity
/// holds.
fn settle_identity(monitor: &mut Monitor<'_>, told: Instant, deadline: Instant) -> MachineResult<()> {
    if monitor.link.greeting().is_some_and(|g| g.protocol != PROTOCOL) {
        return Err(MachineError::Unsupported("the guest's agent speaks another protocol".to_owned()));
    }
    await_word(monitor, deadline, |word| matches!(word, GuestControl::IdentitySet { .. }))?;
    if told.elapsed() > CLOCK_ERROR {
        set_clock(monitor, deadline)?;
    }
    monitor.link.tell(&HostControl::Thaw)?;
    await_word(monitor, deadline, |word| *word == GuestControl::Thawed)
}

/// Sets the clock again until the guest has been quick to answer: then it is behind by less than that took.
fn set_clock(monitor: &mut Monitor<'_>, deadline: Instant) -> MachineResult<()> {
    for _ in 0..CLOCK_TRIES {
        let sent = Instant::now();
        monitor.link.tell(&HostControl::SetClock { wall_clock_ns: wall_clock() })?;
        await_word(monitor, deadline, |word| matches!(word, GuestControl::ClockSet { .. }))?;
        if sent.elapsed() < CLOCK_ERROR {
            break;
        }
    }
    Ok(())
}

/// Waits for a word of the agent's about the machine as a whole.
pub(super) fn await_word(
    monitor: &mut Monitor<'_>,
    deadline: Instant,
    wanted: impl Fn(&GuestControl) -> bool,
) -> MachineResult<()> {
    loop {
        while let Some(word) = monitor.words.pop_front() {
            match word {
                word if wanted(&word) => return Ok(()),
                GuestControl::Refused { what, message } => {
                    let doing = match what {
                        Refused::Identity => "take on its identity",
                        Refused::SetClock => "set its clock",
                        Refused::Quiesce => "quiesce",
                        Refused::Thaw => "thaw",
                    };
                    return Err(MachineError::Start(format!("the guest could not {doing}: {message}")));
                }
                _ => {}
            }
        }
        monitor.turn(deadline)?;
        check(monitor, deadline)?;
    }
}

fn refuse_failed_boot(monitor: &mut Monitor<'_>) -> MachineResult<()> {
    match monitor.words.front() {
        Some(GuestControl::Boot { message }) => {
            Err(MachineError::Start(format!("the guest did not come up: {message}")))
        }
        _ => Ok(()),
    }
}

fn check(monitor: &Monitor<'_>, deadline: Instant) -> MachineResult<()> {
    if monitor.is_dead() {
        return Err(MachineError::NotRunning);
    }
    if monitor.paused {
        // nobody else stops a machine that somebody waits for
        return Err(MachineError::io("write", "the disk", Errno::NOSPC));
    }
    if Instant::now() >= deadline {
        let seconds = u64::from(monitor.spec.patience_seconds);
        return Err(MachineError::Timeout { what: "the guest's start", seconds });
    }
    Ok(())
}

fn identity(stage: &Stage, spec: &StartSpec) -> MachineResult<Identity> {
    let network = match &stage.network.guest {
        Some(guest) => Some(NetworkIdentity {
            mac: MacAddress::new(guest.mac).map_err(|e| unusable(&e))?,
            address: guest.address,
            prefix: guest.prefix,
            gateway: guest.gateway,
        }),
        None => None,
    };
    let mut entropy = vec![0; 64];
    fill(&mut entropy)?;
    Ok(Identity {
        wall_clock_ns: wall_clock(),
        entropy: Entropy::new(entropy).map_err(|e| unusable(&e))?,
        machine_id: spec.id.parse::<MachineId>().map_err(|e| unusable(&e))?,
        hostname: spec.hostname.clone(),
        hosts: stage.network.hosts_content()?,
        resolv_conf: stage.network.resolv_conf_content()?,
        network,
    })
}

fn unusable(error: &dyn std::fmt::Display) -> MachineError {
    MachineError::Invalid(error.to_string())
}

/// Nanoseconds since the Unix epoch.
pub(super) fn wall_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// An address for one device that nobody assigned.
fn random_mac() -> MachineResult<[u8; 6]> {
    let mut mac: [u8; 6] = random()?;
    mac[0] = (mac[0] & 0xfc) | 2;
    Ok(mac)
}

fn random<const N: usize>() -> MachineResult<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

fn fill(bytes: &mut [u8]) -> MachineResult<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(MachineError::io("read", "random numbers", e)),
        }
    }
    Ok(())
}

impl VmSpec {
    fn boots(&self) -> bool {
        matches!(self.boot, Boot::Kernel { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open};
    use std::process::Command;

    #[test]
    fn a_killed_one_is_told_from_one_that_gave_up() {
        let ended = |signal: Option<Signal>| {
            let mut child =
                Command::new(if signal.is_some() { "sleep" } else { "true" }).arg("60").spawn().unwrap();
            let pid = Pid::from_child(&child);
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
            if let Some(signal) = signal {
                kill_process(pid, signal).unwrap();
            }
            waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
            let how = how_it_ended(pidfd.as_fd());
            child.wait().unwrap();
            how
        };
        assert!(ended(Some(Signal::KILL)).contains("out of memory"));
        assert_eq!(ended(Some(Signal::TERM)), "QEMU was ended by signal 15 as it started");
        assert_eq!(ended(None), "QEMU ended at once");
    }
}
