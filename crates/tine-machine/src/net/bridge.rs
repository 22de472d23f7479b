//! The bridge of a project: its name, its making and its end.
//!
//! The kernel is the record: a bridge's alias says which pool and project it belongs to, its address which
//! subnet it has. Every function is to be called under the host-wide lock.

use super::{
    dial::Dial,
    error::NetError,
    fields::{Link, Used},
    host,
    subnet::{self, Subnet},
};
use std::net::Ipv4Addr;

/// How the names of bridges begin; the firewall knows boxes by it.
pub const NAME_PREFIX: &str = "tine-";

/// The alias of a bridge that is being deleted.
const DISOWNED: &str = "tine -";

/// How many names are tried when others' hashes collide with a project's.
const ATTEMPTS: u32 = 8;

/// A bridge that is there, up, with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Its subnet.
    pub subnet: Subnet,
}

/// The bridge of a project, made when there is none. `avoid` are addresses outside the host that its subnet must
/// not hide.
pub fn ensure(dial: &mut Dial, pool: &str, project: &str, avoid: &[Ipv4Addr]) -> Result<Bridge, NetError> {
    let owner = format!("{} {pool} {project}", NAME_PREFIX.trim_end_matches('-'));
    let (name, found) = find(dial, &owner, project)?;
    let existed = found.is_some();
    complete(dial, &name, found, &owner, avoid).inspect_err(|_| {
        if !existed {
            // The first failure is the one to report; a sweep finds what stays.
            drop(dial.delete_link(&name));
        }
    })
}

/// The project's bridge, or the first of its candidate names that is free. All candidates are looked at: the
/// bridge may have got a later one while another device had the first.
fn find(dial: &mut Dial, owner: &str, project: &str) -> Result<(String, Option<Link>), NetError> {
    let mut usable = None;
    for attempt in 0..ATTEMPTS {
        let name = format!("{NAME_PREFIX}{:08x}", hash(owner, attempt));
        let found = dial.link(&name)?;
        match &found {
            Some(link) if link.is_bridge && link.alias == owner => return Ok((name, found)),
            // A bridge without alias is one that was left half-made.
            Some(link) if !(link.is_bridge && link.alias.is_empty()) => {}
            _ => usable = usable.or(Some((name, found))),
        }
    }
    usable.ok_or_else(|| NetError::NoSubnet { project: project.to_owned() })
}

/// Does whatever is still missing, in an order in which a bridge left half-made is completed by the next box.
fn complete(
    dial: &mut Dial,
    name: &str,
    found: Option<Link>,
    owner: &str,
    avoid: &[Ipv4Addr],
) -> Result<Bridge, NetError> {
    let addresses = dial.addresses()?;
    if let Some(link) = &found
        && link.alias == owner
        && let Some(subnet) = subnet_of(link, &addresses)
    {
        dial.set_up(link)?;
        return Ok(Bridge { name: name.to_owned(), index: link.index, subnet });
    }
    if found.is_some() {
        dial.delete_link(name)?;
    }
    let subnet = free_subnet(dial, addresses, owner, avoid)?;
    create(dial, name, owner, subnet)
}

fn create(dial: &mut Dial, name: &str, owner: &str, subnet: Subnet) -> Result<Bridge, NetError> {
    dial.add_bridge(name, subnet::hardware(subnet.gateway))?;
    let link = dial.existing_link(name)?;
    dial.set_alias(&link, owner)?;
    host::set_if_present(&format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
    dial.add_address(&link, subnet.gateway, subnet.prefix)?;
    dial.set_up(&link)?;
    Ok(Bridge { name: name.to_owned(), index: link.index, subnet })
}

fn subnet_of(link: &Link, addresses: &[Used]) -> Option<Subnet> {
    addresses
        .iter()
        .find(|a| a.index == Some(link.index))
        .map(|a| Subnet { gateway: a.address, prefix: a.prefix })
}

fn free_subnet(
    dial: &mut Dial,
    addresses: Vec<Used>,
    owner: &str,
    avoid: &[Ipv4Addr],
) -> Result<Subnet, NetError> {
    let mut used = addresses;
    used.extend(dial.routes()?);
    used.extend(avoid.iter().map(|address| Used { address: *address, prefix: 32, index: None }));
    let project = || owner.rsplit(' ').next().unwrap_or_default().to_owned();
    Subnet::first_free(&used).ok_or_else(|| NetError::NoSubnet { project: project() })
}

/// A bridge of boxes, as it is found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The device.
    pub link: Link,
    /// The names of what is plugged into it.
    pub ports: Vec<String>,
}

impl Found {
    /// Whether it is being deleted.
    pub fn is_disowned(&self) -> bool {
        self.link.alias == DISOWNED
    }
}

/// Every bridge of boxes on the host.
pub fn list(dial: &mut Dial) -> Result<Vec<Found>, NetError> {
    let links = dial.links()?;
    let ports = |index: u32| {
        links.iter().filter(|l| l.master == Some(index)).map(|l| l.name.clone()).collect::<Vec<_>>()
    };
    let found = |link: &Link| Found { link: link.clone(), ports: ports(link.index) };
    Ok(links.iter().filter(|l| is_ours(l)).map(found).collect())
}

/// Whether a device is a bridge of boxes, half-made ones included.
fn is_ours(link: &Link) -> bool {
    let marked = link.alias.is_empty() || link.alias.starts_with("tine ");
    let hashed = |rest: &str| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    link.is_bridge && marked && link.name.strip_prefix(NAME_PREFIX).is_some_and(hashed)
}

/// Makes a bridge nobody's, so that it can be deleted without the host-wide lock: the next box of the project
/// gets another one meanwhile. Deleting a device takes tens of milliseconds. Nothing is done to one that is nobody's
/// already: whoever disowned it may have deleted it by now.
pub fn disown(dial: &mut Dial, found: &Found) -> Result<(), NetError> {
    if found.is_disowned() { Ok(()) } else { dial.set_alias(&found.link, DISOWNED) }
}

/// Lets packets to and from 127.0.0.0/8 cross the bridge, so that a port published on the host's loopback leads
/// into a box. The firewall drops such packets when they come from a box.
pub fn allow_loopback(name: &str) -> Result<(), NetError> {
    host::set_if_present(&format!("/proc/sys/net/ipv4/conf/{name}/route_localnet"), "1")
}

/// FNV-1a over the owner and the attempt, folded to 32 bits. Collisions are found by the alias.
fn hash(owner: &str, attempt: u32) -> u32 {
    let bytes = owner.bytes().chain(attempt.to_le_bytes());
    let wide = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let [a, b, c, d, e, f, g, h] = wide.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])
}
