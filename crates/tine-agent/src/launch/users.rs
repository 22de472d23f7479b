//! Who a program runs as, by the box's own `/etc/passwd` and `/etc/group`.
//!
//! Both files are the box's and may hold anything: they are opened without blocking, must be regular, and are read up
//! to a bound.

use rustix::fs::{FileType, Mode, OFlags};
use std::{fs::File, io::Read};

/// The largest user database that is read, in bytes.
const MAX_DATABASE: u64 = 4 << 20;
/// As many supplementary groups as the kernel takes.
const MAX_GROUPS: usize = 65_536;

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
    pub(super) name: Option<String>,
}

/// Looks up `name`, `uid`, `name:group` or `uid:gid`; root when none. A numeric id need not be in the database.
pub(super) fn look_up(wanted: Option<&str>) -> Result<Identity, String> {
    let passwd = read("/etc/passwd");
    let group = read("/etc/group");
    resolve(wanted.unwrap_or("0"), &passwd, &group)
}

fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let mut identity = resolve_user(user, passwd)?;
    match wanted_group {
        Some(name) => {
            identity.gid = resolve_group(name, group)?;
            identity.groups = vec![identity.gid];
        }
        None => identity.groups = memberships(&identity, group),
    }
    Ok(identity)
}

fn resolve_user(user: &str, passwd: &str) -> Result<Identity, String> {
    let number = id(user);
    let known = |wanted: &dyn Fn(&[&str]) -> bool| {
        let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        entries.find(|fields| fields.len() >= 6 && wanted(fields)).and_then(|fields| {
            let home = if fields[5].starts_with('/') { fields[5] } else { "/" };
            Some(Identity {
                uid: id(fields[2])?,
                gid: id(fields[3])?,
                groups: Vec::new(),
                home: home.to_owned(),
                name: Some(fields[0].to_owned()),
            })
        })
    };
    known(&|fields| !user.is_empty() && fields[0] == user)
        .or_else(|| number.and_then(|n| known(&|fields| id(fields[2]) == Some(n))))
        .or_else(|| {
            number.map(|uid| Identity { uid, gid: 0, groups: Vec::new(), home: "/".to_owned(), name: None })
        })
        .ok_or_else(|| format!("the box has no user {user:?}"))
}

fn resolve_group(wanted: &str, group: &str) -> Result<u32, String> {
    let entries = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let by_name =
        entries.filter(|f| f.len() >= 3 && !wanted.is_empty() && f[0] == wanted).find_map(|f| id(f[2]));
    by_name.or_else(|| id(wanted)).ok_or_else(|| format!("the box has no group {wanted:?}"))
}

fn memberships(identity: &Identity, group: &str) -> Vec<u32> {
    let mut groups = vec![identity.gid];
    let Some(name) = &identity.name else { return groups };
    for fields in group.lines().map(|line| line.split(':').collect::<Vec<_>>()) {
        let member = fields.get(3).is_some_and(|members| members.split(',').any(|m| m == name));
        if let Some(gid) = fields.get(2).and_then(|gid| id(gid)).filter(|_| member) {
            groups.push(gid);
        }
    }
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(MAX_GROUPS);
    groups
}

/// A numeric id; the largest one means "none" to the kernel and is not accepted.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n != u32::MAX)
}

fn read(path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return String::new() };
    let regular =
        rustix::fs::fstat(&file).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    let mut bytes = Vec::new();
    if !regular || File::from(file).take(MAX_DATABASE).read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbad\nann:x:7:8::/home/ann:\n9:x:10:11::rel:\n";
    const GROUP: &str = "root:x:0:\nann:x:8:\nwheel:x:20:bob,ann\nbroken:x:x:ann\n";

    #[test]
    fn users_and_groups_are_found_by_name_then_by_number() {
        let found = |wanted: &str| {
            let i = resolve(wanted, PASSWD, GROUP).unwrap();
            (i.uid, i.gid, i.groups, i.home)
        };
        assert_eq!(found("0"), (0, 0, vec![0], "/root".to_owned()));
        assert_eq!(found("ann"), (7, 8, vec![8, 20], "/home/ann".to_owned()));
        assert_eq!(found("7"), (7, 8, vec![8, 20], "/home/ann".to_owned()));
        assert_eq!(found("ann:wheel"), (7, 20, vec![20], "/home/ann".to_owned()));
        assert_eq!(found("1234:77"), (1234, 77, vec![77], "/".to_owned()));
        assert_eq!(found("9"), (10, 11, vec![11], "/".to_owned()));
    }

    #[test]
    fn what_the_box_does_not_know_is_refused() {
        for bad in ["", "bob", "ann:none", ":", "-1", "4294967295", "4294967296", "ann:"] {
            assert!(resolve(bad, PASSWD, GROUP).is_err(), "{bad:?}");
        }
    }
}
