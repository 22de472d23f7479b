//! What the init does before it serves: devices, filters, privileges, descriptors.

use super::InitParts;
use crate::error::{MachineError, MachineResult};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{DumpableBehavior, Signal},
    thread::CapabilitySet,
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use tine_sys::{namespace, process};

/// The device nodes of a box.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Gives up everything that only setting up needs. The order matters: mounts and filters need the privilege that
/// goes last.
pub(super) fn confine(parts: &InitParts) -> MachineResult<()> {
    fix_devices()?;
    process::close_all_except(&[parts.listener.as_fd(), parts.log.as_fd(), parts.life.as_fd()])?;
    for filter in &parts.filters {
        process::install_seccomp(filter)?;
    }
    drop_administration().map_err(|e| MachineError::io("drop", "CAP_SYS_ADMIN", e))?;
    die_with_monitor(&parts.life)?;
    let io = |e| MachineError::io("set up", "init", e);
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io)?;
    rustix::thread::set_name(c"tine-init").map_err(io)
}

/// The box may make device nodes. They are useless to it because its mounts forbid opening them; only the six it was
/// given stay usable, each a mount of its own.
fn fix_devices() -> MachineResult<()> {
    for device in DEVICES {
        namespace::pin_flags(Path::new(device))?;
    }
    Ok(namespace::forbid_devices(Path::new("/dev"))?)
}

fn drop_administration() -> rustix::io::Result<()> {
    let admin = CapabilitySet::SYS_ADMIN;
    rustix::thread::remove_capability_from_bounding_set(admin)?;
    rustix::thread::clear_ambient_capability_set()?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective.remove(admin);
    sets.permitted.remove(admin);
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)
}

/// From here on the kernel kills this process when the monitor dies; that it is not dead already is checked after.
pub(super) fn die_with_monitor(life: &OwnedFd) -> MachineResult<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| MachineError::io("set", "parent death signal", e))?;
    let mut fds = [PollFd::new(life, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(0) => Ok(()),
        _ => Err(MachineError::Start("its monitor is dead".to_owned())),
    }
}
