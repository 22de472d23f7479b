//! The host's side that is neither device nor firewall: network namespaces, kernel settings, the host-wide lock
//! and small files.
//!
//! Decides nothing about networks.

use super::error::NetError;
use nix::sched::{CloneFlags, setns, unshare};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
};

/// What a file of this module may hold at most: the names of as many boxes as a bridge takes.
const FILE_LIMIT: u64 = 128 * 1024;

/// The network namespace of the calling thread, kept so that it can be entered or named later.
#[derive(Debug)]
pub struct Namespace(pub File);

impl Namespace {
    /// The one the calling thread is in.
    pub fn current() -> Result<Self, NetError> {
        let path = "/proc/thread-self/ns/net";
        File::open(path).map(Self).map_err(NetError::io("open", path))
    }

    /// Moves the calling thread into it.
    pub fn enter(&self) -> Result<(), NetError> {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .map_err(NetError::io("enter", "the host's network namespace"))
    }
}

/// Moves the calling thread into a new network namespace (unshare(2)), whose devices have no IPv6 except
/// loopback.
pub fn enter_new_namespace() -> Result<(), NetError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .map_err(NetError::io("create", "a network namespace"))?;
    set_if_present("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
}

/// Writes a kernel setting unless it has that value; nothing when the kernel lacks it.
pub fn set_if_present(path: &str, value: &str) -> Result<(), NetError> {
    match fs::read_to_string(path) {
        Ok(current) if current.trim() == value => Ok(()),
        Ok(_) => fs::write(path, value).map_err(NetError::io("write kernel setting", path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(NetError::io("read kernel setting", path)(e)),
    }
}

/// Lets the kernel forward IPv4 packets between devices. It stays on: something else may have come to rely on
/// it by the time the last box is gone.
pub fn enable_forwarding() -> Result<(), NetError> {
    set_if_present("/proc/sys/net/ipv4/ip_forward", "1")
}

/// The lock every change of the host's network happens under; held until dropped.
#[derive(Debug)]
pub struct HostLock(#[expect(dead_code, reason = "held for its lock")] File);

impl HostLock {
    /// Waits for the lock and takes it, making its directory when there is none.
    pub fn take(net_dir: &Path) -> Result<Self, NetError> {
        create_dir(net_dir)?;
        let path = net_dir.join("lock");
        let lock = || {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
            file.lock()?;
            Ok(Self(file))
        };
        lock().map_err(NetError::io("lock", path.display()))
    }
}

/// Makes a directory with its parents.
pub fn create_dir(path: &Path) -> Result<(), NetError> {
    fs::create_dir_all(path).map_err(NetError::io("create directory", path.display()))
}

/// Removes a file; nothing when there is none.
pub fn remove_file(path: &Path) -> Result<(), NetError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(NetError::io("delete", path.display())(e)),
        _ => Ok(()),
    }
}

/// Reads a text file's first 128 KiB; empty when there is no such file.
pub fn read_bounded(path: &Path) -> Result<String, NetError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_LIMIT).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Err(e) if io::Error::kind(&e) == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(NetError::io("read", path.display())),
    }
}
