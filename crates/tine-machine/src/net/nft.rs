//! The firewall: the table `inet tine`, which knows boxes by the names of their bridges, and the elements that
//! single boxes have in it. The table of [`frames`] comes and goes with it.
//!
//! Never touches a table of anybody else: a foreign table that drops forwarded packets keeps dropping them.
//! Every function is to be called under the host-wide lock, in the host's network namespace.

use super::{
    error::NetError,
    frames,
    lease::Lease,
    nftables_link::{Ruleset, Table},
};
use serde::Deserialize;
use std::{
    fmt::Write as _,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};
use tine_model::PublishedPort;

/// The table; the family is `NFPROTO_INET`.
const TABLE: Table = Table { family: 1, name: "tine" };

/// Both tables, by the words nft has for them.
const TABLES: [(Table, &str); 2] = [(TABLE, "inet"), (frames::TABLE, "bridge")];

/// An empty chain of both tables whose name changes whenever the rules of one do; without it the tables are
/// replaced.
const VERSION_CHAIN: &str = "rules_2";

/// Where nft is looked for.
const PROGRAMS: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft"];

/// The whole table, made in one transaction.
///
/// `from_box` comes before connection tracking: no IPv6, nothing for loopback addresses (a bridge that publishes
/// on loopback would take it), no source address that is not of the bridge's subnet, the bridge's own included. `forward` tells one bridge from
/// another by whether the destination lies behind the device the packet came from, so that it also holds where
/// `br_netfilter` shows it packets between two boxes of one bridge. A packet from outside to 127.0.0.0/8 is not
/// led into a box that publishes on loopback.
const RULES: &str = r#"
table inet tine {
  chain rules_2 { }
  set host_ports { type ipv4_addr . inet_service; }
  map published { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
  map published_anywhere { type inet_proto . inet_service : ipv4_addr . inet_service; }
  chain from_box {
    meta nfproto ipv6 drop
    ip daddr 127.0.0.0/8 drop
    fib saddr . iif oif missing drop
  }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname "tine-*" jump from_box
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != "tine-*" accept
    ct state established,related accept
    ip saddr . tcp dport @host_ports accept
    udp dport 53 ip saddr . udp dport @host_ports accept
    drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname != "tine-*" oifname != "tine-*" accept
    ct state established,related accept
    ct status dnat accept
    iifname "tine-*" oifname "tine-*" fib daddr . iif oif missing drop
    iifname != "tine-*" oifname "tine-*" drop
  }
  chain publish {
    meta l4proto != { tcp, udp } return
    dnat ip addr . port to meta l4proto . ip daddr . th dport map @published
    fib daddr type local dnat ip addr . port to meta l4proto . th dport map @published_anywhere
  }
  chain publish_to_others {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 127.0.0.0/8 return
    jump publish
  }
  chain publish_to_host {
    type nat hook output priority -100; policy accept;
    jump publish
  }
  chain leave {
    type nat hook postrouting priority srcnat; policy accept;
    iifname "tine-*" oifname != "tine-*" masquerade
    oifname "tine-*" ip saddr 127.0.0.0/8 masquerade
    iifname "tine-*" oifname "tine-*" ct status dnat masquerade
  }
}
"#;

/// Whether both tables are there, with the present rules.
pub fn is_ready(ruleset: &mut Ruleset) -> Result<bool, NetError> {
    for (table, _) in TABLES {
        if !ruleset.has_chain(table, VERSION_CHAIN)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the tables with the elements of every lease in `live`. One that somebody flushed is so restored with
/// all its elements by the next box.
pub fn create(ruleset: &mut Ruleset, live: &[Lease]) -> Result<(), NetError> {
    let mut script = String::new();
    for (table, family) in TABLES {
        // Only when there is one: after a deletion the kernel lets nft wait for a grace period.
        if ruleset.has_table(table)? {
            // Writing to a String does not fail.
            let _ = writeln!(script, "delete table {family} {}", table.name);
        }
    }
    script += RULES;
    script += &frames::rules(VERSION_CHAIN);
    for lease in live {
        script += &frames::line(lease.address);
        script += &elements("add", lease);
    }
    run("set up the firewall tables", &script)
}

/// Adds the elements of a box. When it fails, [`remove`] takes away what is there.
pub fn add(ruleset: &mut Ruleset, lease: &Lease) -> Result<(), NetError> {
    frames::admit(ruleset, lease.address)?;
    if !lease.has_ports() {
        return Ok(());
    }
    run("open the ports of a box", &elements("add", lease))
}

/// Removes the elements of a box, those that are missing left out.
pub fn remove(ruleset: &mut Ruleset, lease: &Lease) -> Result<(), NetError> {
    let dismissed = frames::dismiss(ruleset, lease.address);
    close_ports(ruleset, lease).and(dismissed)
}

fn close_ports(ruleset: &mut Ruleset, lease: &Lease) -> Result<(), NetError> {
    if !lease.has_ports() || !is_ready(ruleset)? {
        return Ok(());
    }
    // Adding what is there changes nothing, and deleting what is missing fails.
    let both = |lease: &Lease| elements("add", lease) + &elements("delete", lease);
    match run("close the ports of a box", &both(lease)) {
        Err(NetError::Nft { .. }) => {
            // One element that somebody else has taken meanwhile must not keep the others.
            single(lease).iter().for_each(|part| drop(run("close a port of a box", &both(part))));
            Ok(())
        }
        other => other,
    }
}

/// Takes both tables away.
pub fn delete(ruleset: &mut Ruleset) -> Result<(), NetError> {
    TABLES.iter().try_for_each(|(table, _)| ruleset.delete_table(*table).map(drop))
}

/// Where nft is.
pub fn program() -> Option<&'static str> {
    PROGRAMS.into_iter().find(|path| Path::new(path).exists())
}

/// A lease per element.
fn single(lease: &Lease) -> Vec<Lease> {
    let bare = Lease { publish: Vec::new(), host_ports: Vec::new(), ..lease.clone() };
    let published = lease.publish.iter().map(|p| Lease { publish: vec![*p], ..bare.clone() });
    let allowed = lease.host_ports.iter().map(|p| Lease { host_ports: vec![*p], ..bare.clone() });
    published.chain(allowed).collect()
}

/// A line per element of a box. Nothing in it comes from a program in a box: addresses and numbers only.
fn elements(verb: &str, lease: &Lease) -> String {
    let mut script = String::new();
    for port in &lease.host_ports {
        // Writing to a String does not fail.
        let _ = writeln!(script, "{verb} element inet tine host_ports {{ {} . {port} }}", lease.address);
    }
    for port in &lease.publish {
        let (map, key) = map_and_key(port);
        let value = match verb {
            "add" => format!(" : {} . {}", lease.address, port.box_port),
            _ => String::new(),
        };
        let _ = writeln!(script, "{verb} element inet tine {map} {{ {key}{value} }}");
    }
    script
}

fn map_and_key(port: &PublishedPort) -> (&'static str, String) {
    let (protocol, number) = (port.protocol, port.host_port);
    match port.address.filter(|a| *a != Ipv4Addr::UNSPECIFIED) {
        Some(address) => ("published", format!("{protocol} . {address} . {number}")),
        None => ("published_anywhere", format!("{protocol} . {number}")),
    }
}

/// Gives nft a script, which it applies as one transaction.
fn run(doing: &'static str, script: &str) -> Result<(), NetError> {
    call(doing, &["-f", "-"], script).map(drop)
}

/// Runs nft with `input` and returns what it prints.
fn call(doing: &'static str, arguments: &[&str], input: &str) -> Result<Vec<u8>, NetError> {
    let program = program().ok_or(NetError::NoNft)?;
    let call = || {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output()?;
        // What nft says when it refuses to read on is worth more than the broken pipe.
        if output.status.success() { written.map(|()| output) } else { Ok(output) }
    };
    let output = call().map_err(NetError::io("run", program))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let detail = String::from_utf8_lossy(&output.stderr).lines().take(3).collect::<Vec<_>>().join("; ");
    Err(NetError::Nft { doing, detail })
}

/// A chain of somebody else that drops forwarded packets unless a rule accepts them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ForeignChain {
    /// `ip` or `inet`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    hook: Option<String>,
    policy: Option<String>,
}

/// The chains that may keep boxes from the outside, as far as nft sees them.
pub fn foreign_drops() -> Result<Vec<ForeignChain>, NetError> {
    let doing = "list the chains of the firewall";
    parse_drops(&call(doing, &["-j", "list", "chains"], "")?)
        .map_err(|e| NetError::Nft { doing, detail: e.to_string() })
}

fn parse_drops(json: &[u8]) -> serde_json::Result<Vec<ForeignChain>> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        chain: Option<ForeignChain>,
    }
    let listing: Listing = serde_json::from_slice(json)?;
    let drops = |chain: &ForeignChain| {
        chain.hook.as_deref() == Some("forward")
            && chain.policy.as_deref() == Some("drop")
            && matches!(chain.family.as_str(), "ip" | "inet")
    };
    Ok(listing.nftables.into_iter().filter_map(|item| item.chain).filter(drops).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_chain_is_in_the_rules() {
        assert!(RULES.contains(&format!("chain {VERSION_CHAIN} {{")));
        assert!(RULES.contains(&format!("table inet {} {{", TABLE.name)));
    }

    #[test]
    fn elements_hold_a_value_only_when_added() {
        let lease = Lease {
            box_name: "web".parse().unwrap(),
            address: Ipv4Addr::new(10, 201, 0, 2),
            publish: vec!["8080:80".parse().unwrap(), "192.0.2.1:53:5353/udp".parse().unwrap()],
            host_ports: vec![5432],
        };
        assert_eq!(
            elements("add", &lease),
            "add element inet tine host_ports { 10.201.0.2 . 5432 }\n\
             add element inet tine published_anywhere { tcp . 8080 : 10.201.0.2 . 80 }\n\
             add element inet tine published { udp . 192.0.2.1 . 53 : 10.201.0.2 . 5353 }\n"
        );
        assert_eq!(
            elements("delete", &lease),
            "delete element inet tine host_ports { 10.201.0.2 . 5432 }\n\
             delete element inet tine published_anywhere { tcp . 8080 }\n\
             delete element inet tine published { udp . 192.0.2.1 . 53 }\n"
        );
    }

    #[test]
    fn only_chains_that_drop_forwarded_ipv4_are_reported() {
        let chain = |family: &str, hook: &str, policy: &str| {
            format!(
                r#"{{"chain":{{"family":"{family}","table":"t","name":"c","handle":1,{hook}{policy}"x":0}}}}"#
            )
        };
        let listing = |chains: &[String]| {
            format!(r#"{{"nftables":[{{"metainfo":{{"version":"1"}}}},{}]}}"#, chains.join(","))
        };
        let (forward, drop) = (r#""hook":"forward","#, r#""policy":"drop","#);
        let accept = r#""policy":"accept","#;
        let harmless = [
            chain("ip", forward, accept),
            chain("ip6", forward, drop),
            chain("ip", r#""hook":"input","#, drop),
            chain("ip", "", ""),
        ];
        assert_eq!(parse_drops(listing(&harmless).as_bytes()).unwrap(), []);
        assert_eq!(parse_drops(listing(&[chain("ip", forward, drop)]).as_bytes()).unwrap().len(), 1);
        assert!(parse_drops(b"").is_err());
    }
}
