//! Looking for what killed monitors have left, and at whether the host has what networks need.

use super::{
    bridge, device,
    error::NetError,
    host::{self, HostLock},
    kernel::Kernel,
    lease, nat, net_dir, nft,
};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use tine_model::{CheckStatus, DoctorItem};
use tine_sys::tap::TUN;

/// Removes what no running box holds: boxes' devices on bridges, leases with their firewall elements, bridges
/// without ports, their directories, and the firewall tables when no bridge is left. With `dry_run` only says so. Returns a line per
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
    let mut kernel = Kernel::open()?;
    let found = find(&mut kernel, &net_dir)?;
    if !dry_run {
        found.remove(&mut kernel, &net_dir)?;
    }
    Ok(found.lines())
}

/// What is left over.
#[derive(Debug, Default)]
struct Leftovers {
    devices: Vec<String>,
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
        let devices = self.devices.iter().map(|name| format!("device {name}"));
        devices
            .chain(leases)
            .chain(bridges)
            .chain(self.table.then(|| "firewall tables inet tine and bridge tine".to_owned()))
            .collect()
    }

    fn remove(&self, kernel: &mut Kernel, net_dir: &Path) -> Result<(), NetError> {
        for name in &self.devices {
            kernel.dial.delete_link(name)?;
        }
        for (dir, lease) in &self.leases {
            nft::remove(&mut kernel.ruleset, lease)?;
            lease::discard(dir, lease)?;
        }
        for name in &self.bridges {
            nat::remove_unused(kernel, net_dir, name)?;
        }
        if self.table && bridge::list(&mut kernel.dial)?.is_empty() {
            nft::delete(&mut kernel.ruleset)?;
        }
        Ok(())
    }
}

fn find(kernel: &mut Kernel, net_dir: &Path) -> Result<Leftovers, NetError> {
    let mut found = Leftovers::default();
    for dir in nat::bridge_dirs(net_dir)? {
        let stale = lease::read(&dir)?.stale;
        found.leases.extend(stale.into_iter().map(|lease| (dir.clone(), lease)));
    }
    let bridges = bridge::list(&mut kernel.dial)?;
    for bridge in &bridges {
        let taken = lease::read(&net_dir.join(&bridge.link.name))?.taken();
        let (orphans, others): (Vec<String>, _) =
            bridge.ports.iter().cloned().partition(|port| is_orphan(port, &taken));
        if taken.is_empty() && others.is_empty() {
            found.bridges.push(bridge.link.name.clone());
        }
        found.devices.extend(orphans);
    }
    let orphans = nat::bridge_dirs(net_dir)?.into_iter().filter_map(|dir| orphan(&dir, &bridges));
    found.bridges.extend(orphans);
    found.table = found.bridges.len() >= bridges.len() && nft::is_ready(&mut kernel.ruleset)?;
    Ok(found)
}

/// Whether a port of a bridge is a box's device and no box has the address any more. A killed box's veth pair is
/// soon gone without anybody's doing; a tap stays as long as some process holds it.
fn is_orphan(port: &str, taken: &[Ipv4Addr]) -> bool {
    device::address_of(port).is_some_and(|address| !taken.contains(&address))
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
    let items =
        [Some(tool_item()), Some(tap_item()), Some(forwarding_item()), Some(table_item()), foreign_item()];
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

fn tap_item() -> DoctorItem {
    let (status, detail, mend) = if Path::new(TUN).exists() {
        (CheckStatus::Ok, TUN.to_owned(), None)
    } else {
        let detail = format!("no {TUN}; vm boxes with --net nat need it");
        (CheckStatus::Warning, detail, Some("modprobe tun".to_owned()))
    };
    DoctorItem { name: "tap devices".to_owned(), status, detail, mend }
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
    let look = || {
        let mut kernel = Kernel::open()?;
        Ok::<_, NetError>((nft::is_ready(&mut kernel.ruleset)?, bridge::list(&mut kernel.dial)?.len()))
    };
    let (status, detail, mend) = match look() {
        Ok((true, count)) => (CheckStatus::Ok, format!("present; {count} bridges"), None),
        Ok((false, 0)) => (CheckStatus::Ok, "absent; made by the first box with --net nat".to_owned(), None),
        Ok((false, count)) => (
            CheckStatus::Failed,
            format!("its tables are gone while {count} bridges exist: boxes are not kept apart"),
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
