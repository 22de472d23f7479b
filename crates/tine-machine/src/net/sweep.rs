//! Looking for what killed monitors have left, and at whether the host has what networks need.

use super::{
    bridge,
    dial::Dial,
    error::NetError,
    host::{self, HostLock},
    lease, nat, net_dir, nft,
};
use std::path::{Path, PathBuf};
use tine_model::{CheckStatus, DoctorItem};

/// Removes what no running box holds: leases with their firewall elements, bridges without ports, their
/// directories, and the firewall table when no bridge is left. With `dry_run` only says so. Returns a line per
/// thing. To be called in the host's network namespace.
///
/// # Errors
/// A refusal of the kernel or of nft; what was removed by then stays removed.
pub fn sweep(runtime_dir: &Path, dry_run: bool) -> Result<Vec<String>, NetError> {
    let net_dir = net_dir(runtime_dir);
    if dry_run && !net_dir.exists() {
        return Ok(Vec::new());
    }
    let _lock = HostLock::take(&net_dir)?;
    let mut dial = Dial::open()?;
    let found = find(&mut dial, &net_dir)?;
    if !dry_run {
        found.remove(&mut dial, &net_dir)?;
    }
    Ok(found.lines())
}

/// What is left over.
#[derive(Debug, Default)]
struct Leftovers {
    leases: Vec<(PathBuf, lease::Lease)>,
    bridges: Vec<String>,
    table: bool,
}

impl Leftovers {
    fn lines(&self) -> Vec<String> {
        let address =
            |(_, l): &(PathBuf, lease::Lease)| format!("address {} of box {}", l.address, l.box_name);
        let leases = self.leases.iter().map(address);
        let bridges = self.bridges.iter().map(|name| format!("bridge {name}"));
        leases.chain(bridges).chain(self.table.then(|| "firewall table inet tine".to_owned())).collect()
    }

    fn remove(&self, dial: &mut Dial, net_dir: &Path) -> Result<(), NetError> {
        for (dir, lease) in &self.leases {
            nft::remove(lease)?;
            lease::discard(dir, lease)?;
        }
        for name in &self.bridges {
            nat::remove_unused(dial, net_dir, name)?;
        }
        if self.table && bridge::list(dial)?.is_empty() {
            nft::delete()?;
        }
        Ok(())
    }
}

fn find(dial: &mut Dial, net_dir: &Path) -> Result<Leftovers, NetError> {
    let mut found = Leftovers::default();
    for dir in nat::bridge_dirs(net_dir)? {
        let stale = lease::read(&dir)?.stale;
        found.leases.extend(stale.into_iter().map(|lease| (dir.clone(), lease)));
    }
    let bridges = bridge::list(dial)?;
    for bridge in &bridges {
        if !bridge.has_ports && lease::read(&net_dir.join(&bridge.link.name))?.taken().is_empty() {
            found.bridges.push(bridge.link.name.clone());
        }
    }
    let orphans = nat::bridge_dirs(net_dir)?.into_iter().filter_map(|dir| orphan(&dir, &bridges));
    found.bridges.extend(orphans);
    found.table = found.bridges.len() >= bridges.len() && nft::is_ready()?;
    Ok(found)
}

/// The name of a bridge that has a directory and is gone, unless a box holds a lease of it.
fn orphan(dir: &Path, bridges: &[bridge::Found]) -> Option<String> {
    let name = dir.file_name()?.to_str()?.to_owned();
    let is_there = bridges.iter().any(|bridge| bridge.link.name == name);
    let is_held = !lease::read(dir).ok()?.taken().is_empty();
    (!is_there && !is_held).then_some(name)
}

/// Looks at what networks of boxes need of the host. To be called in the host's network namespace.
#[must_use]
pub fn doctor() -> Vec<DoctorItem> {
    let items = [Some(tool_item()), Some(forwarding_item()), Some(table_item()), foreign_item()];
    items.into_iter().flatten().collect()
}

fn tool_item() -> DoctorItem {
    let (status, detail, mend) = match nft::program() {
        Some(path) => (CheckStatus::Ok, path.to_owned(), None),
        None => (
            CheckStatus::Failed,
            "not installed; boxes with --net nat need it".to_owned(),
            Some("apt-get install nftables".to_owned()),
        ),
    };
    DoctorItem { name: "nft".to_owned(), status, detail, mend }
}

fn forwarding_item() -> DoctorItem {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let is_on = host::read_bounded(path).is_ok_and(|value| value.trim() == "1");
    let detail = if is_on { "on" } else { "off; turned on by the first box with --net nat" };
    DoctorItem {
        name: "ip forwarding".to_owned(),
        status: CheckStatus::Ok,
        detail: detail.to_owned(),
        mend: None,
    }
}

/// Bridges without the table are boxes that nothing keeps apart.
fn table_item() -> DoctorItem {
    let look = || Ok::<_, NetError>((nft::is_ready()?, bridge::list(&mut Dial::open()?)?.len()));
    let (status, detail, mend) = match look() {
        Ok((true, count)) => (CheckStatus::Ok, format!("present; {count} bridges"), None),
        Ok((false, 0)) => (CheckStatus::Ok, "absent; made by the first box with --net nat".to_owned(), None),
        Ok((false, count)) => (
            CheckStatus::Failed,
            format!("table inet tine is gone while {count} bridges exist: boxes are not kept apart"),
            Some("start any box with --net nat".to_owned()),
        ),
        Err(error) => (CheckStatus::Failed, error.to_string(), None),
    };
    DoctorItem { name: "firewall".to_owned(), status, detail, mend }
}

/// Somebody else's chain that drops what it does not know (Docker's, say) also drops what comes from boxes.
fn foreign_item() -> Option<DoctorItem> {
    let chain = nft::foreign_drops().ok()?.into_iter().next()?;
    let place = format!("{} {} {}", chain.family, chain.table, chain.name);
    let rule = |name: &str| format!("nft insert rule {place} {name} '\"tine-*\"' accept");
    Some(DoctorItem {
        name: "forwarding policy".to_owned(),
        status: CheckStatus::Warning,
        detail: format!("chain {place} drops forwarded packets: boxes may not reach the outside"),
        mend: Some(format!("{}; {}", rule("iifname"), rule("oifname"))),
    })
}
