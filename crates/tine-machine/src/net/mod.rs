//! The network of boxes: bridge, device, address, names, firewall and published ports.
//!
//! Owns everything of the host's network that exists because of boxes, and the files under `<runtime_dir>/net`
//! that go with it. Knows nothing of roots, processes or cgroups. The kernel is the record of bridges and
//! subnets; a lease file per box, locked for as long as the box's monitor lives, is the record of addresses.
//!
//! Every pool of one host must be given the same `runtime_dir`: the firewall table is one per host and so is
//! the lock that guards it.
//!
//! What a box with [`NetworkMode::Nat`] can reach: the boxes of its own project, the outside (masqueraded), the
//! TCP ports of the host it was allowed, and ports that other boxes publish on the host's addresses. Nothing
//! else of the host, its name server included: a host that runs its own (not on loopback) has to allow port 53,
//! which then covers UDP too. Boxes of one project share one Ethernet segment, on which
//! each can send only as itself: frames that are not IPv4 or ARP from its own addresses are dropped where they
//! come out of its device. IPv6 is off on both ends. Where `br_netfilter` shows bridged packets to the firewall, a box does
//! not reach the ports that it publishes itself by the host's address; others do.
//!
//! Somebody who flushes the whole firewall takes the rules of running boxes with it; the next box to start
//! restores them, and [`doctor`] tells.

mod bridge;
mod device;
mod dial;
mod error;
mod fields;
mod frames;
mod host;
mod kernel;
mod lease;
mod names;
mod nat;
mod nft;
mod nftables_link;
mod ports;
mod resolver;
mod subnet;
mod sweep;
mod tap;

pub use device::{Device, GuestNetwork};
pub use error::NetError;
pub use sweep::{doctor, sweep};

use nat::NatAttachment;
use serde::{Deserialize, Serialize};
use std::{
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use tine_model::{BoxName, NetworkMode, ProjectName, PublishedPort};

/// What network one box is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Which kind.
    pub mode: NetworkMode,
    /// What plugs the box in.
    #[serde(default)]
    pub device: Device,
    /// The box's project: boxes of one project reach each other.
    pub project: ProjectName,
    /// The box's name, under which others of its project find it.
    pub box_name: BoxName,
    /// Identifies the pool, so that equal project names of two pools stay apart; at most 64 bytes.
    pub pool_id: String,
    /// Ports of the host that lead into the box; only with `Nat`.
    pub publish: Vec<PublishedPort>,
    /// TCP ports of the host itself that the box may reach; only with `Nat`.
    pub host_ports: Vec<u16>,
    /// The box's own directory, gone with the run; `hosts` and `resolv.conf` may be written there.
    pub state_dir: PathBuf,
    /// The host's directory for things that do not outlive a reboot.
    pub runtime_dir: PathBuf,
}

/// The network a box has: the calling thread is in its network namespace, and processes started from it inherit
/// that. For a vm box that namespace is empty, and the network is what comes by the tap device.
///
/// Holds descriptors of the host's namespace, all close-on-exec: what runs in the box has to be exec'ed.
/// Dropping it takes the network away as [`Attachment::detach`] does, only silently; in a forked child of the
/// process that made it, dropping does nothing.
#[derive(Debug)]
pub struct Attachment {
    /// The box's address on its project's bridge; none without a bridge.
    pub address: Option<Ipv4Addr>,
    /// What a vm box's guest has to set up; none for a container and without a bridge.
    pub guest: Option<GuestNetwork>,
    /// What the box is to see as `/etc/hosts`. Rewritten in place as boxes of the project come and go.
    pub hosts_file: PathBuf,
    /// What the box is to see as `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    nat: Option<NatAttachment>,
}

impl Attachment {
    /// The descriptor of a vm box's tap device, close-on-exec; none the second time, for a container, and without
    /// a bridge. The device vanishes with the last copy of it. A frame is read or written behind a
    /// `virtio_net_hdr`.
    pub fn take_tap(&mut self) -> Option<OwnedFd> {
        self.nat.as_mut()?.take_tap()
    }

    /// What the box is to see as `/etc/hosts`, as it is now.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn hosts_content(&self) -> Result<String, NetError> {
        self.nat.as_ref().map_or_else(|| host::read_bounded(&self.hosts_file), NatAttachment::hosts_content)
    }

    /// What the box is to see as `/etc/resolv.conf`.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn resolv_conf_content(&self) -> Result<String, NetError> {
        host::read_bounded(&self.resolv_conf)
    }

    /// Gives back at once what others may be waiting for: published ports, permissions, the name. The rest (the
    /// address and the devices, whose deletion takes the kernel tens of milliseconds) goes with
    /// [`Attachment::detach`], which a caller may do after it has told the world that the box has ended. To be
    /// called once the box's processes are gone; the calling thread is in the host's network namespace
    /// afterwards. Optional, and harmless when repeated.
    ///
    /// # Errors
    /// The first thing that could not be given back; [`Attachment::detach`] tries again.
    pub fn disconnect(&mut self) -> Result<(), NetError> {
        self.nat.as_mut().map_or(Ok(()), NatAttachment::disconnect)
    }

    /// Takes away what [`attach`] made, once the box's processes are gone. The calling thread is in the host's
    /// network namespace afterwards.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest is removed all the same, and [`sweep`] tries the
    /// failed part again.
    pub fn detach(mut self) -> Result<(), NetError> {
        self.nat.take().map_or(Ok(()), NatAttachment::detach)
    }
}

/// Makes the network of one box and moves the calling thread into its network namespace (except with `Host`).
/// To be called in a single-threaded process, before the container or the machine is created.
///
/// # Errors
/// A vm box that is to share the host's network, a published port that is taken, a host without nft, no free subnet, or a refusal of the kernel. Nothing of
/// what was made by then stays, but the thread may be left in an empty network namespace.
pub fn attach(spec: &NetworkSpec) -> Result<Attachment, NetError> {
    if spec.mode != NetworkMode::Nat && !(spec.publish.is_empty() && spec.host_ports.is_empty()) {
        return Err(NetError::NeedsNat { mode: spec.mode });
    }
    if (spec.device, spec.mode) == (Device::Tap, NetworkMode::Host) {
        return Err(NetError::VmOnHostNetwork);
    }
    let resolv_conf = resolver::write(spec.mode, &spec.state_dir)?;
    match spec.mode {
        NetworkMode::Host => without_bridge(spec, resolv_conf),
        NetworkMode::None => {
            host::enter_new_namespace()?;
            if spec.device == Device::Veth {
                dial::Dial::open()?.set_up_loopback()?;
            }
            without_bridge(spec, resolv_conf)
        }
        NetworkMode::Nat => {
            let nat = nat::attach(spec)?;
            let (address, hosts_file) = (Some(nat.address()), nat.hosts_file());
            let guest = (spec.device == Device::Tap).then(|| nat.guest());
            Ok(Attachment { address, guest, hosts_file, resolv_conf, nat: Some(nat) })
        }
    }
}

fn without_bridge(spec: &NetworkSpec, resolv_conf: PathBuf) -> Result<Attachment, NetError> {
    let hosts_file = names::write_private(&spec.state_dir, &spec.box_name, spec.mode)?;
    Ok(Attachment { address: None, guest: None, hosts_file, resolv_conf, nat: None })
}

/// Where the network's own files lie.
fn net_dir(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("net")
}
