//! Which box holds which address of a bridge: one file per address, locked by the monitor for as long as it
//! lives, so that an unlocked file is what a killed monitor has left.
//!
//! `<net_dir>/<bridge>/<address>` holds the lease as JSON. It appears complete and locked (written aside, then
//! renamed). While only the box's devices are left to go it is called `<address>.leaving`: nobody gets the
//! address, and nobody finds the box. Every function is to be called under the host-wide lock.

use super::{error::NetError, host};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use tine_model::{BoxName, PublishedPort};

/// Where a lease is written before it gets its name.
const STAGING: &str = ".new";

/// What a lease may take at most, in bytes.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// What the name of a lease ends in when the box is gone and its devices are not.
const LEAVING: &str = ".leaving";

/// What a box holds, enough to take all of it away again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The box.
    pub box_name: BoxName,
    /// Its address.
    pub address: Ipv4Addr,
    /// Ports of the host that lead into it.
    pub publish: Vec<PublishedPort>,
    /// TCP ports of the host that it may reach.
    pub host_ports: Vec<u16>,
}

impl Lease {
    /// Whether it takes any element in the firewall.
    pub fn has_ports(&self) -> bool {
        !(self.publish.is_empty() && self.host_ports.is_empty())
    }
}

/// A lease held by this process.
#[derive(Debug)]
pub struct HeldLease {
    /// What is held.
    pub lease: Lease,
    path: PathBuf,
    _lock: File,
}

impl HeldLease {
    /// Writes and locks a lease. Its address must be free.
    pub fn take(bridge_dir: &Path, lease: Lease) -> Result<Self, NetError> {
        let staging = bridge_dir.join(STAGING);
        let path = bridge_dir.join(lease.address.to_string());
        host::remove_file(&staging)?;
        let write = || {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&staging)?;
            file.lock()?;
            file.write_all(&serde_json::to_vec(&lease)?)?;
            fs::rename(&staging, &path)?;
            Ok(file)
        };
        let lock = write().map_err(NetError::io("write lease", path.display()))?;
        Ok(Self { lease, path, _lock: lock })
    }

    /// Marks the box as gone; nothing when it is already.
    pub fn leave(&mut self) -> Result<(), NetError> {
        let leaving = leaving_path(&self.path);
        if self.path.extension().is_some_and(|e| e == &LEAVING[1..]) {
            return Ok(());
        }
        fs::rename(&self.path, &leaving).map_err(NetError::io("rename lease", self.path.display()))?;
        self.path = leaving;
        Ok(())
    }

    /// Gives the address back.
    pub fn give_back(self) -> Result<(), NetError> {
        host::remove_file(&self.path)
    }
}

/// The leases of one bridge, each list in the order of addresses.
#[derive(Debug, Default)]
pub struct Leases {
    /// Of running boxes.
    pub live: Vec<Lease>,
    /// Of boxes that are gone and whose monitor takes away what is left of them.
    pub leaving: Vec<Lease>,
    /// Left by a monitor that was killed.
    pub stale: Vec<Lease>,
}

impl Leases {
    /// Addresses that nobody else may have yet.
    pub fn taken(&self) -> Vec<Ipv4Addr> {
        self.live.iter().chain(&self.leaving).map(|l| l.address).collect()
    }
}

/// Reads the leases of a bridge; none when it has no directory.
pub fn read(bridge_dir: &Path) -> Result<Leases, NetError> {
    let mut leases = Leases::default();
    for (address, is_leaving) in entries(bridge_dir)? {
        let path = bridge_dir.join(address.to_string());
        let path = if is_leaving { leaving_path(&path) } else { path };
        let (is_held, lease) = read_one(&path, address)?;
        match (is_held, is_leaving) {
            (false, _) => leases.stale.push(lease),
            (true, true) => leases.leaving.push(lease),
            (true, false) => leases.live.push(lease),
        }
    }
    Ok(leases)
}

/// Deletes the file of a lease whose monitor is gone.
pub fn discard(bridge_dir: &Path, lease: &Lease) -> Result<(), NetError> {
    let path = bridge_dir.join(lease.address.to_string());
    host::remove_file(&path).and(host::remove_file(&leaving_path(&path)))
}

fn leaving_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(LEAVING);
    name.into()
}

fn read_one(path: &Path, address: Ipv4Addr) -> Result<(bool, Lease), NetError> {
    let file = File::open(path).map_err(NetError::io("open lease", path.display()))?;
    let is_held = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(e)) => return Err(NetError::io("lock lease", path.display())(e)),
    };
    let lease: Lease = serde_json::from_reader(file.take(SIZE_LIMIT))
        .map_err(io::Error::from)
        .map_err(NetError::io("read lease", path.display()))?;
    Ok((is_held, Lease { address, ..lease }))
}

/// The addresses that have a lease, in order, and whether it is one of a box that is gone.
fn entries(bridge_dir: &Path) -> Result<Vec<(Ipv4Addr, bool)>, NetError> {
    let entries = match fs::read_dir(bridge_dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(NetError::io("list", bridge_dir.display()))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let parse = |name: String| match name.strip_suffix(LEAVING) {
        Some(address) => Some((address.parse().ok()?, true)),
        None => Some((name.parse().ok()?, false)),
    };
    let mut found: Vec<_> = names.filter_map(parse).collect();
    found.sort_unstable();
    Ok(found)
}
