//! Becoming who the host says: clock, random numbers, names, network.
//!
//! The files among it are written in place, so that whoever has one open or mounted sees the new content. They never lie
//! on the box's disk.

use crate::{
    error::{AgentError, AgentResult},
    message::Identity,
};
use rustix::{
    fs::{Mode, OFlags},
    time::{ClockId, Timespec},
};
use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};
use tine_sys::{guest, interface::Interface};

/// The machine's one network device.
const DEVICE: &str = "eth0";
/// Names of the files, also below `/etc`.
pub const FILES: [&str; 4] = ["hostname", "hosts", "resolv.conf", "machine-id"];

/// The files that say who the machine is, in the order of [`FILES`].
#[derive(Debug)]
pub struct IdentityFiles([File; 4]);

impl IdentityFiles {
    /// Makes them, empty, in a directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(dir: &Path) -> AgentResult<Self> {
        let create = |name: &str| -> AgentResult<File> {
            let path = dir.join(name);
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made: Result<OwnedFd, _> = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644));
            made.map(File::from).map_err(|e| AgentError::io("create", path.display(), e))
        };
        let [hostname, hosts, resolv_conf, machine_id] = FILES;
        Ok(Self([create(hostname)?, create(hosts)?, create(resolv_conf)?, create(machine_id)?]))
    }

    fn write(&self, identity: &Identity) -> AgentResult<()> {
        let contents = [
            &format!("{}\n", identity.hostname),
            &identity.hosts,
            &identity.resolv_conf,
            &format!("{}\n", identity.machine_id.as_str()),
        ];
        for ((file, content), name) in self.0.iter().zip(contents).zip(FILES) {
            let written =
                file.write_all_at(content.as_bytes(), 0).and_then(|()| file.set_len(content.len() as u64));
            written.map_err(|e| AgentError::io("write", name, e))?;
        }
        Ok(())
    }
}

/// Takes on an identity; of the machine's own, unless it is `machine`'s, only the files. The clock comes last, for it
/// is what gets old.
pub(super) fn assume(identity: &Identity, files: &IdentityFiles, machine: bool) -> AgentResult<()> {
    if machine {
        stir(identity.entropy.as_bytes())?;
        rustix::system::sethostname(identity.hostname.to_string().as_bytes())
            .map_err(|e| AgentError::io("set", "hostname", e))?;
        set_network(identity)?;
    }
    files.write(identity)?;
    set_clock(identity.wall_clock_ns, machine)
}

/// Sets the wall clock, nanoseconds since the Unix epoch; of a machine only.
pub(super) fn set_clock(wall_clock_ns: u64, machine: bool) -> AgentResult<()> {
    const SECOND: u64 = 1_000_000_000;
    if !machine {
        return Ok(());
    }
    let time = Timespec {
        tv_sec: (wall_clock_ns / SECOND).cast_signed(),
        tv_nsec: (wall_clock_ns % SECOND).cast_signed(),
    };
    rustix::time::clock_settime(ClockId::Realtime, time).map_err(|e| AgentError::io("set", "clock", e))
}

/// The wall clock now, nanoseconds since the Unix epoch.
pub(super) fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The address of a device that leads nowhere: clones differ in it all the same, as programs name things after it.
fn unplugged(machine_id: &str) -> [u8; 6] {
    let byte = |n: usize| machine_id.get(2 * n..2 * n + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let [first, rest @ ..]: [u8; 6] = std::array::from_fn(|n| byte(n).unwrap_or(0));
    let [a, b, c, d, e] = rest;
    // not a group's, and given by nobody
    [(first & 0xfc) | 2, a, b, c, d, e]
}

fn stir(entropy: &[u8]) -> AgentResult<()> {
    let path = "/dev/urandom";
    let device = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| AgentError::io("open", path, e))?;
    Ok(guest::add_entropy(device.as_fd(), entropy)?)
}

/// What the device was before is gone first: a clone must not send anything as another.
fn set_network(identity: &Identity) -> AgentResult<()> {
    let device = Interface::named(DEVICE)?;
    match (device.set_down(), identity.network) {
        (Err(_), None) => return Ok(()),
        (down, _) => down?,
    }
    device.clear_address()?;
    let Some(network) = identity.network else {
        return Ok(device.set_hardware(unplugged(identity.machine_id.as_str()))?);
    };
    device.set_hardware(network.mac.octets())?;
    device.set_address(network.address, network.prefix)?;
    device.set_up()?;
    Ok(device.add_default_route(network.gateway)?)
}
