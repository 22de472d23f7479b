//! Hosts files: the names boxes know each other by.
//!
//! A project's file is rewritten in place, because boxes have it mounted and see only the inode they mounted.

use super::{error::NetError, lease::Lease};
use std::{
    fmt::Write as _,
    fs::OpenOptions,
    net::Ipv4Addr,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use tine_model::{BoxName, NetworkMode};

/// The name by which a box finds the host.
const HOST_NAME: &str = "host.tine";

const LOOPBACK: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// Writes the hosts file of a project: every running box, and the host at the bridge's address.
pub fn write_shared(path: &Path, gateway: Ipv4Addr, boxes: &[Lease]) -> Result<(), NetError> {
    let mut text = format!("{LOOPBACK}{gateway} {HOST_NAME}\n");
    for lease in boxes {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} {}", lease.address, lease.box_name);
    }
    rewrite(path, &text)
}

/// Writes the hosts file of a box without a bridge: itself, and the host when it shares the host's network.
pub fn write_private(state_dir: &Path, box_name: &BoxName, mode: NetworkMode) -> Result<PathBuf, NetError> {
    let host = if mode == NetworkMode::Host { format!(" {HOST_NAME}") } else { String::new() };
    let path = state_dir.join("hosts");
    rewrite(&path, &format!("{LOOPBACK}127.0.1.1 {box_name}{host}\n"))?;
    Ok(path)
}

/// Replaces a file's content and keeps its inode. The old tail goes last, so that a reader never finds the file
/// empty.
pub fn rewrite(path: &Path, text: &str) -> Result<(), NetError> {
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let write = || {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o644).open(path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(length)
    };
    write().map_err(NetError::io("write", path.display()))
}
