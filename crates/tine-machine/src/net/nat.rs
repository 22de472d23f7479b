//! Attaching one box to its project's bridge, and taking it off again: the order of the steps and the undoing.
//!
//! Under the host-wide lock: firewall tables, bridge, lease, elements, names. Without it: the namespace and the
//! box's device, whose name only the holder of the lease uses. A lease that is held keeps the bridge and the
//! tables.

use super::{
    NetworkSpec,
    bridge::{self, Bridge},
    device::{self, Device, GuestNetwork},
    dial::{Dial, VethPlan},
    error::NetError,
    fields::Link,
    host::{self, HostLock, Namespace},
    kernel::Kernel,
    lease::{self, HeldLease, Lease, Leases},
    names, net_dir, nft,
    nftables_link::Ruleset,
    ports, resolver, subnet, tap,
};
use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The name of the device in a container's namespace.
const INSIDE: &str = "eth0";

/// What one box has of the host's network. Dropping it takes all of it away, only silently.
#[derive(Debug)]
pub struct NatAttachment {
    /// Forked children share the descriptors and must not undo anything.
    process: u32,
    host: Namespace,
    kernel: Kernel,
    bridge: Bridge,
    held: Option<HeldLease>,
    address: Ipv4Addr,
    net_dir: PathBuf,
    ports: Vec<OwnedFd>,
    tap: Option<OwnedFd>,
}

impl NatAttachment {
    /// The box's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What a guest has to set up at its end of the device.
    pub fn guest(&self) -> GuestNetwork {
        let subnet = self.bridge.subnet;
        let (address, mac) = (self.address, subnet::hardware(self.address));
        GuestNetwork { mac, address, prefix: subnet.prefix, gateway: subnet.gateway }
    }

    /// The hosts file of the box's project.
    pub fn hosts_file(&self) -> PathBuf {
        hosts_file(&self.net_dir.join(&self.bridge.name))
    }

    /// What is in the hosts file, not while it is being rewritten.
    pub fn hosts_content(&self) -> Result<String, NetError> {
        let _lock = HostLock::take(&self.net_dir)?;
        host::read_bounded(&self.hosts_file())
    }

    /// The descriptor of the tap device, once.
    pub fn take_tap(&mut self) -> Option<OwnedFd> {
        self.tap.take()
    }

    /// The quick part of [`NatAttachment::detach`].
    pub fn disconnect(&mut self) -> Result<(), NetError> {
        let Some(held) = self.held.as_mut() else { return Ok(()) };
        self.ports.clear();
        self.host.enter()?;
        let _lock = HostLock::take(&self.net_dir)?;
        leave(&mut self.kernel, &self.net_dir, &self.bridge, held)
    }

    /// Takes everything away and says what could not be.
    pub fn detach(mut self) -> Result<(), NetError> {
        self.undo()
    }

    /// Makes the box's device and moves the calling thread into a new network namespace.
    fn enter(&mut self, device: Device) -> Result<(), NetError> {
        match device {
            Device::Veth => {
                self.enter_with_veth()?;
                self.kernel.dial.wait_until_operational(&device::name(self.address))?;
            }
            // A tap does not tell; it is operational when it is up.
            Device::Tap => {
                self.tap = Some(self.add_tap()?);
                host::enter_new_namespace()?;
            }
        }
        self.kernel.dial.wait_until_operational(&self.bridge.name)
    }

    /// Makes the tap in the host's namespace, in which the calling thread still is.
    fn add_tap(&mut self) -> Result<OwnedFd, NetError> {
        let name = device::name(self.address);
        let tap = tap::open(&mut self.kernel.dial, &name)?;
        host::set_if_present(&format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
        self.kernel.dial.plug_in(&name, self.bridge.index)?;
        Ok(tap)
    }

    /// Makes the pair with one end in the new namespace, and sets that end up.
    fn enter_with_veth(&mut self) -> Result<(), NetError> {
        host::enter_new_namespace()?;
        let inside = Namespace::current()?;
        self.kernel.dial.add_veth(&VethPlan {
            name: &device::name(self.address),
            master: self.bridge.index,
            peer_name: INSIDE,
            peer_hardware: subnet::hardware(self.address),
            peer_namespace: inside.0.as_fd(),
        })?;
        let mut dial = Dial::open()?;
        dial.set_up_loopback()?;
        let device = dial.existing_link(INSIDE)?;
        dial.add_address(&device, self.address, self.bridge.subnet.prefix)?;
        dial.set_up(&device)?;
        dial.add_default_route(self.bridge.subnet.gateway)?;
        dial.wait_until_operational(INSIDE)
    }

    fn undo(&mut self) -> Result<(), NetError> {
        if self.held.is_none() || self.process != std::process::id() {
            return Ok(());
        }
        let disconnected = self.disconnect();
        let device = self.kernel.dial.delete_link(&device::name(self.address));
        let given_back = self.held.take().map_or(Ok(()), |held| self.give_back(held));
        disconnected.and(device).and(given_back)
    }

    /// Gives the address back, and takes the bridge away when it was the last.
    fn give_back(&mut self, held: HeldLease) -> Result<(), NetError> {
        let lock = HostLock::take(&self.net_dir)?;
        held.give_back()?;
        let retired = retire_unused(&mut self.kernel, &self.net_dir, &self.bridge.name)?;
        drop(lock);
        retired.map_or(Ok(()), |bridge| self.kernel.dial.delete(&bridge))
    }
}

impl Drop for NatAttachment {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            tracing::warn!(%error, address = %self.address, "network of a box not removed");
        }
    }
}

/// Attaches a box; nothing stays when it fails.
pub fn attach(spec: &NetworkSpec) -> Result<NatAttachment, NetError> {
    let ports = ports::reserve(&spec.publish)?;
    let host = Namespace::current()?;
    let mut kernel = Kernel::open()?;
    let net_dir = net_dir(&spec.runtime_dir);
    let (bridge, held) = {
        let _lock = HostLock::take(&net_dir)?;
        join(&mut kernel, &net_dir, spec)?
    };
    let address = held.lease.address;
    let process = std::process::id();
    let (held, tap) = (Some(held), None);
    let mut attachment = NatAttachment { process, host, kernel, bridge, held, address, net_dir, ports, tap };
    attachment.enter(spec.device)?;
    Ok(attachment)
}

/// The host's side of a box, up to its device.
fn join(kernel: &mut Kernel, net_dir: &Path, spec: &NetworkSpec) -> Result<(Bridge, HeldLease), NetError> {
    host::enable_forwarding()?;
    let servers = resolver::servers()?;
    let bridge = bridge::ensure(&mut kernel.dial, &spec.pool_id, spec.project.as_str(), &servers)?;
    let joined = take_lease(&mut kernel.ruleset, net_dir, &bridge, spec).and_then(|mut held| {
        match open(&mut kernel.ruleset, net_dir, &bridge, &held.lease) {
            Ok(()) => Ok(held),
            // The first failure is the one to report; a sweep finds what stays.
            Err(error) => {
                drop(leave(kernel, net_dir, &bridge, &mut held).and(held.give_back()));
                Err(error)
            }
        }
    });
    match joined {
        Ok(held) => Ok((bridge, held)),
        Err(error) => {
            drop(remove_unused(kernel, net_dir, &bridge.name));
            Err(error)
        }
    }
}

fn take_lease(
    ruleset: &mut Ruleset,
    net_dir: &Path,
    bridge: &Bridge,
    spec: &NetworkSpec,
) -> Result<HeldLease, NetError> {
    let bridge_dir = net_dir.join(&bridge.name);
    host::create_dir(&bridge_dir)?;
    if !spec.publish.is_empty() {
        reclaim_everywhere(ruleset, net_dir)?;
    }
    let taken = reclaim(ruleset, &bridge_dir)?.taken();
    let full = || NetError::NoAddress { bridge: bridge.name.clone(), gateway: bridge.subnet.gateway };
    let lease = Lease {
        box_name: spec.box_name.clone(),
        address: bridge.subnet.first_address(&taken).ok_or_else(full)?,
        publish: spec.publish.clone(),
        host_ports: spec.host_ports.clone(),
    };
    HeldLease::take(&bridge_dir, lease)
}

/// Lets the firewall and the other boxes know of a box.
fn open(ruleset: &mut Ruleset, net_dir: &Path, bridge: &Bridge, lease: &Lease) -> Result<(), NetError> {
    if nft::is_ready(ruleset)? {
        nft::add(ruleset, lease)?;
    } else {
        nft::create(ruleset, &every_live_lease(net_dir)?)?;
    }
    if lease.publish.iter().any(|p| p.address.is_none_or(|a| a.is_loopback() || a.is_unspecified())) {
        bridge::allow_loopback(&bridge.name)?;
    }
    write_names(net_dir, bridge)
}

/// The reverse of [`open`]. Goes on when a step fails and returns the first failure. The lease is marked only
/// after its elements are gone, and stays, so that a crash in between leaves what [`reclaim`] needs.
fn leave(kernel: &mut Kernel, net_dir: &Path, bridge: &Bridge, held: &mut HeldLease) -> Result<(), NetError> {
    let elements = nft::remove(&mut kernel.ruleset, &held.lease);
    let marked = held.leave();
    elements.and(marked).and(write_names(net_dir, bridge))
}

fn write_names(net_dir: &Path, bridge: &Bridge) -> Result<(), NetError> {
    let bridge_dir = net_dir.join(&bridge.name);
    let live = lease::read(&bridge_dir)?.live;
    names::write_shared(&hosts_file(&bridge_dir), bridge.subnet.gateway, &live)
}

/// Takes away a bridge that nothing uses, and with the last bridge the firewall tables.
pub fn remove_unused(kernel: &mut Kernel, net_dir: &Path, name: &str) -> Result<(), NetError> {
    let retired = retire_unused(kernel, net_dir, name)?;
    retired.map_or(Ok(()), |bridge| kernel.dial.delete(&bridge))
}

/// Prepares the end of a bridge that no box holds a lease of and that has no ports. The device that is returned may be
/// deleted, which needs no lock any more: only that very device, since another may have its name by then.
fn retire_unused(kernel: &mut Kernel, net_dir: &Path, name: &str) -> Result<Option<Link>, NetError> {
    let bridge_dir = net_dir.join(name);
    if !reclaim(&mut kernel.ruleset, &bridge_dir)?.taken().is_empty() {
        return Ok(None);
    }
    let bridges = bridge::list(&mut kernel.dial)?;
    let found = bridges.iter().find(|bridge| bridge.link.name == name);
    if found.is_some_and(|bridge| !bridge.ports.is_empty()) {
        return Ok(None);
    }
    host::remove_file(&hosts_file(&bridge_dir))?;
    // What is not empty holds something of somebody else.
    drop(std::fs::remove_dir(&bridge_dir));
    if let Some(bridge) = found {
        bridge::disown(&mut kernel.dial, bridge)?;
    }
    if bridges.iter().all(|bridge| bridge.link.name == name || bridge.is_disowned()) {
        nft::delete(&mut kernel.ruleset)?;
    }
    Ok(found.map(|bridge| bridge.link.clone()))
}

/// Removes what killed monitors have left of one bridge, and returns the leases that are held.
pub fn reclaim(ruleset: &mut Ruleset, bridge_dir: &Path) -> Result<Leases, NetError> {
    let mut leases = lease::read(bridge_dir)?;
    for stale in leases.stale.drain(..) {
        nft::remove(ruleset, &stale)?;
        lease::discard(bridge_dir, &stale)?;
    }
    Ok(leases)
}

fn reclaim_everywhere(ruleset: &mut Ruleset, net_dir: &Path) -> Result<(), NetError> {
    bridge_dirs(net_dir)?.iter().try_for_each(|dir| reclaim(ruleset, dir).map(drop))
}

fn every_live_lease(net_dir: &Path) -> Result<Vec<Lease>, NetError> {
    let dirs = bridge_dirs(net_dir)?;
    let leases: Result<Vec<Vec<Lease>>, _> =
        dirs.iter().map(|dir| lease::read(dir).map(|leases| leases.live)).collect();
    Ok(leases?.concat())
}

/// The directories of bridges, whether their bridges exist or not.
pub fn bridge_dirs(net_dir: &Path) -> Result<Vec<PathBuf>, NetError> {
    let entries = std::fs::read_dir(net_dir).map_err(NetError::io("list", net_dir.display()))?;
    let is_bridge = |path: &PathBuf| {
        path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(bridge::NAME_PREFIX))
    };
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_bridge).collect())
}

fn hosts_file(bridge_dir: &Path) -> PathBuf {
    bridge_dir.join("hosts")
}
