//! Attaching one box to its project's bridge, and taking it off again: the order of the steps and the undoing.
//!
//! Under the host-wide lock: firewall table, bridge, lease, elements, names. Without it: the namespace and the
//! veth pair, which nobody else can see. A lease that is held keeps the bridge and the table.

use super::{
    NetworkSpec,
    bridge::{self, Bridge},
    dial::{Dial, VethPlan},
    error::NetError,
    host::{self, HostLock, Namespace},
    lease::{self, HeldLease, Lease, Leases},
    names, net_dir, nft, ports, resolver, subnet,
};
use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// The name of a box's own device.
const DEVICE: &str = "eth0";

/// What one box has of the host's network. Dropping it takes all of it away, only silently.
#[derive(Debug)]
pub struct NatAttachment {
    /// Forked children share the descriptors and must not undo anything.
    process: u32,
    host: Namespace,
    dial: Dial,
    bridge: Bridge,
    held: Option<HeldLease>,
    address: Ipv4Addr,
    net_dir: PathBuf,
    ports: Vec<OwnedFd>,
}

impl NatAttachment {
    /// The box's address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The hosts file of the box's project.
    pub fn hosts_file(&self) -> PathBuf {
        hosts_file(&self.net_dir.join(&self.bridge.name))
    }

    /// The quick part of [`NatAttachment::detach`].
    pub fn disconnect(&mut self) -> Result<(), NetError> {
        let Some(held) = self.held.as_mut() else { return Ok(()) };
        self.ports.clear();
        self.host.enter()?;
        let _lock = HostLock::take(&self.net_dir)?;
        leave(&self.net_dir, &self.bridge, held)
    }

    /// Takes everything away and says what could not be.
    pub fn detach(mut self) -> Result<(), NetError> {
        self.undo()
    }

    /// Moves the calling thread into a new network namespace and makes the box's device there.
    fn enter(&mut self) -> Result<(), NetError> {
        host::enter_new_namespace()?;
        let inside = Namespace::current()?;
        self.dial.add_veth(&VethPlan {
            name: &veth_name(self.address),
            master: self.bridge.index,
            peer_name: DEVICE,
            peer_hardware: subnet::hardware(self.address),
            peer_namespace: inside.0.as_fd(),
        })?;
        let mut dial = Dial::open()?;
        dial.set_up_loopback()?;
        let device = dial.existing_link(DEVICE)?;
        dial.add_address(&device, self.address, self.bridge.subnet.prefix)?;
        dial.set_up(&device)?;
        dial.add_default_route(self.bridge.subnet.gateway)?;
        dial.wait_until_operational(DEVICE)?;
        self.dial.wait_until_operational(&veth_name(self.address))?;
        self.dial.wait_until_operational(&self.bridge.name)
    }

    fn undo(&mut self) -> Result<(), NetError> {
        if self.held.is_none() || self.process != std::process::id() {
            return Ok(());
        }
        let disconnected = self.disconnect();
        let device = self.dial.delete_link(&veth_name(self.address));
        let given_back = self.held.take().map_or(Ok(()), |held| self.give_back(held));
        disconnected.and(device).and(given_back)
    }

    /// Gives the address back, and takes the bridge away when it was the last.
    fn give_back(&mut self, held: HeldLease) -> Result<(), NetError> {
        let lock = HostLock::take(&self.net_dir)?;
        held.give_back()?;
        let is_unused = retire_unused(&mut self.dial, &self.net_dir, &self.bridge.name)?;
        drop(lock);
        if is_unused { self.dial.delete_link(&self.bridge.name) } else { Ok(()) }
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
    let mut dial = Dial::open()?;
    let net_dir = net_dir(&spec.runtime_dir);
    let (bridge, held) = {
        let _lock = HostLock::take(&net_dir)?;
        join(&mut dial, &net_dir, spec)?
    };
    let address = held.lease.address;
    let process = std::process::id();
    let mut attachment =
        NatAttachment { process, host, dial, bridge, held: Some(held), address, net_dir, ports };
    attachment.enter()?;
    Ok(attachment)
}

/// The host's side of a box, up to its device.
fn join(dial: &mut Dial, net_dir: &Path, spec: &NetworkSpec) -> Result<(Bridge, HeldLease), NetError> {
    host::enable_forwarding()?;
    let servers = resolver::servers()?;
    let bridge = bridge::ensure(dial, &spec.pool_id, spec.project.as_str(), &servers)?;
    let joined = take_lease(net_dir, &bridge, spec).and_then(|mut held| {
        match open(net_dir, &bridge, &held.lease) {
            Ok(()) => Ok(held),
            // The first failure is the one to report; a sweep finds what stays.
            Err(error) => {
                drop(leave(net_dir, &bridge, &mut held).and(held.give_back()));
                Err(error)
            }
        }
    });
    match joined {
        Ok(held) => Ok((bridge, held)),
        Err(error) => {
            drop(remove_unused(dial, net_dir, &bridge.name));
            Err(error)
        }
    }
}

fn take_lease(net_dir: &Path, bridge: &Bridge, spec: &NetworkSpec) -> Result<HeldLease, NetError> {
    let bridge_dir = net_dir.join(&bridge.name);
    host::create_dir(&bridge_dir)?;
    if !spec.publish.is_empty() {
        reclaim_everywhere(net_dir)?;
    }
    let taken = reclaim(&bridge_dir)?.taken();
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
fn open(net_dir: &Path, bridge: &Bridge, lease: &Lease) -> Result<(), NetError> {
    if nft::is_ready()? {
        nft::add(lease)?;
    } else {
        nft::create(&every_live_lease(net_dir)?)?;
    }
    if lease.publish.iter().any(|p| p.address.is_none_or(|a| a.is_loopback() || a.is_unspecified())) {
        bridge::allow_loopback(&bridge.name)?;
    }
    write_names(net_dir, bridge)
}

/// The reverse of [`open`]. Goes on when a step fails and returns the first failure. The lease is marked only
/// after its elements are gone, and stays, so that a crash in between leaves what [`reclaim`] needs.
fn leave(net_dir: &Path, bridge: &Bridge, held: &mut HeldLease) -> Result<(), NetError> {
    let elements = nft::remove(&held.lease);
    let marked = held.leave();
    elements.and(marked).and(write_names(net_dir, bridge))
}

fn write_names(net_dir: &Path, bridge: &Bridge) -> Result<(), NetError> {
    let bridge_dir = net_dir.join(&bridge.name);
    let live = lease::read(&bridge_dir)?.live;
    names::write_shared(&hosts_file(&bridge_dir), bridge.subnet.gateway, &live)
}

/// Takes away a bridge that nothing uses, and with the last bridge the firewall table.
pub fn remove_unused(dial: &mut Dial, net_dir: &Path, name: &str) -> Result<(), NetError> {
    if retire_unused(dial, net_dir, name)? { dial.delete_link(name) } else { Ok(()) }
}

/// Prepares the end of a bridge that no box holds a lease of and that has no ports: true when the device may be
/// deleted, which needs no lock any more.
fn retire_unused(dial: &mut Dial, net_dir: &Path, name: &str) -> Result<bool, NetError> {
    let bridge_dir = net_dir.join(name);
    if !reclaim(&bridge_dir)?.taken().is_empty() {
        return Ok(false);
    }
    let bridges = bridge::list(dial)?;
    let found = bridges.iter().find(|bridge| bridge.link.name == name);
    if found.is_some_and(|bridge| bridge.has_ports) {
        return Ok(false);
    }
    host::remove_file(&hosts_file(&bridge_dir))?;
    // What is not empty holds something of somebody else.
    drop(std::fs::remove_dir(&bridge_dir));
    if let Some(bridge) = found {
        bridge::disown(dial, &bridge.link)?;
    }
    if bridges.iter().all(|bridge| bridge.link.name == name || bridge.is_disowned()) {
        nft::delete()?;
    }
    Ok(true)
}

/// Removes what killed monitors have left of one bridge, and returns the leases that are held.
pub fn reclaim(bridge_dir: &Path) -> Result<Leases, NetError> {
    let mut leases = lease::read(bridge_dir)?;
    for stale in leases.stale.drain(..) {
        nft::remove(&stale)?;
        lease::discard(bridge_dir, &stale)?;
    }
    Ok(leases)
}

fn reclaim_everywhere(net_dir: &Path) -> Result<(), NetError> {
    bridge_dirs(net_dir)?.iter().try_for_each(|dir| reclaim(dir).map(drop))
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

fn veth_name(address: Ipv4Addr) -> String {
    format!("tv{:08x}", u32::from(address))
}
