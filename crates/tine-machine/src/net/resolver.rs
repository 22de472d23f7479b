//! The `resolv.conf` a box gets, made from the host's (resolv.conf(5)).
//!
//! A box on a bridge reaches neither the host's loopback nor IPv6, so name servers there are left out; when the
//! host uses systemd-resolved's stub on loopback, the servers behind it are used.

use super::{error::NetError, host, names};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use tine_model::NetworkMode;

const HOST_FILE: &str = "/etc/resolv.conf";
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// How many name servers a box gets; the C library reads three.
const SERVERS: usize = 3;

/// Writes `resolv.conf` into a box's directory and says where.
pub fn write(mode: NetworkMode, state_dir: &Path) -> Result<PathBuf, NetError> {
    let text = match mode {
        NetworkMode::None => String::new(),
        NetworkMode::Host => host::read_bounded(Path::new(HOST_FILE))?,
        NetworkMode::Nat => reachable_from_bridge(&source()?),
    };
    let path = state_dir.join("resolv.conf");
    names::rewrite(&path, &text)?;
    Ok(path)
}

/// The name servers a box on a bridge is given.
pub fn servers() -> Result<Vec<Ipv4Addr>, NetError> {
    Ok(source()?.lines().filter_map(server).collect())
}

/// The host's file, or the one behind it when it names nothing a box can reach.
fn source() -> Result<String, NetError> {
    let text = host::read_bounded(Path::new(HOST_FILE))?;
    if text.lines().any(|line| server(line).is_some()) {
        return Ok(text);
    }
    let behind = host::read_bounded(Path::new(BEHIND_STUB))?;
    Ok(if behind.is_empty() { text } else { behind })
}

fn reachable_from_bridge(text: &str) -> String {
    let servers = text.lines().filter_map(server).take(SERVERS).map(|a| format!("nameserver {a}\n"));
    let kept = |line: &&str| matches!(line.split_whitespace().next(), Some("search" | "domain" | "options"));
    let settings = text.lines().filter(kept).map(|line| format!("{line}\n"));
    servers.chain(settings).collect()
}

fn server(line: &str) -> Option<Ipv4Addr> {
    let mut words = line.split_whitespace();
    let address: Ipv4Addr = (words.next() == Some("nameserver")).then(|| words.next())??.parse().ok()?;
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_a_box_can_reach_are_kept() {
        let host = "# made by hand\nsearch lan example\nnameserver 127.0.0.53\nnameserver fd00::1\n\
            nameserver 192.0.2.53\nnameserver\nnameserver 192.0.2.54 \noptions edns0 trust-ad\nsortlist 1\n";
        assert_eq!(
            reachable_from_bridge(host),
            "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch lan example\noptions edns0 trust-ad\n"
        );
    }

    #[test]
    fn at_most_three_servers_are_kept() {
        let host: String = (1..9).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(reachable_from_bridge(&host).lines().count(), 3);
    }
}
