//! Simple quotas: who wrote how much, and how much a subvolume may write.
//!
//! Under simple quotas (kernel 6.7) an extent is charged once, to the subvolume that wrote it; what a snapshot
//! shares with its source is not charged to it.

use super::{
    MAGIC, READ, WRITE, call,
    search::{Key, Range, le64, search},
};
use crate::SysResult;
use std::{mem, os::fd::AsRawFd, os::fd::BorrowedFd};

const QUOTA_TREE: u64 = 8;
const QGROUP_STATUS: u32 = 240;
const QGROUP_INFO: u32 = 242;
const QGROUP_LIMIT: u32 = 244;
const STATUS_FLAG_ON: u64 = 1;
const STATUS_FLAG_SIMPLE: u64 = 1 << 3;
const ENABLE_SIMPLE: u64 = 4;
const LIMIT_MAX_REFERENCED: u64 = 1;

const QUOTA_CTL: u64 = (READ | WRITE) << 30 | (mem::size_of::<ControlArgs>() as u64) << 16 | MAGIC << 8 | 40;
const SET_LIMIT: u64 = READ << 30 | (mem::size_of::<LimitArgs>() as u64) << 16 | MAGIC << 8 | 43;

#[repr(C)]
struct ControlArgs {
    command: u64,
    status: u64,
}

#[repr(C)]
struct LimitArgs {
    group: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// What a subvolume has written and may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaGroup {
    /// Bytes charged to it.
    pub referenced: u64,
    /// The most that may be charged to it, if there is a limit.
    pub max_referenced: Option<u64>,
}

/// Turns on simple quotas for the file system `fd` lies on. What was written before is charged to no one.
///
/// # Errors
/// `EINVAL` or `EOPNOTSUPP` when the kernel has none; `EINVAL` when full quotas are on.
pub fn enable_simple_quotas(fd: BorrowedFd<'_>) -> SysResult<()> {
    let mut args = ControlArgs { command: ENABLE_SIMPLE, status: 0 };
    call(fd, QUOTA_CTL, &mut args, "enable simple quotas", &fd.as_raw_fd())
}

/// True when simple quotas are on. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's.
pub fn simple_quotas_enabled(fd: BorrowedFd<'_>) -> SysResult<bool> {
    let key = Key { object: 0, kind: QGROUP_STATUS, offset: 0 };
    let mut flags = 0;
    search_quota_tree(fd, key, |data| flags = le64(data, 16).unwrap_or(0))?;
    Ok(flags & STATUS_FLAG_ON != 0 && flags & STATUS_FLAG_SIMPLE != 0)
}

/// Limits what may be charged to the subvolume number `subvolume`; none removes the limit.
///
/// # Errors
/// `ENOTCONN` when quotas are off, `ENOENT` when the subvolume has no group.
pub fn limit_referenced(fd: BorrowedFd<'_>, subvolume: u64, limit: Option<u64>) -> SysResult<()> {
    let mut args = LimitArgs {
        group: subvolume,
        flags: LIMIT_MAX_REFERENCED,
        // the kernel takes all ones as "no limit" and clears the flag
        max_referenced: limit.unwrap_or(u64::MAX),
        max_exclusive: 0,
        reserved_referenced: 0,
        reserved_exclusive: 0,
    };
    call(fd, SET_LIMIT, &mut args, "limit subvolume", &subvolume)
}

/// What is charged to the subvolume number `subvolume` as of the last commit; none when it has no group.
/// Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's.
pub fn quota_group(fd: BorrowedFd<'_>, subvolume: u64) -> SysResult<Option<QuotaGroup>> {
    let (mut info, mut limit) = (None, None);
    let key = |kind| Key { object: 0, kind, offset: subvolume };
    search_quota_tree(fd, key(QGROUP_INFO), |data| info = le64(data, 8))?;
    search_quota_tree(fd, key(QGROUP_LIMIT), |data| {
        limit = le64(data, 0).filter(|f| f & LIMIT_MAX_REFERENCED != 0).and_then(|_| le64(data, 8));
    })?;
    Ok(info.map(|referenced| QuotaGroup { referenced, max_referenced: limit }))
}

/// Calls `found` with the item of exactly this key. A file system without quotas has no such tree and so no item.
fn search_quota_tree(fd: BorrowedFd<'_>, key: Key, mut found: impl FnMut(&[u8])) -> SysResult<()> {
    let range = Range { tree: QUOTA_TREE, min: key, max: key };
    match search(fd, &range, |at, data| {
        if at == key {
            found(data)
        }
    }) {
        Err(e) if e.errno() == libc::ENOENT => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!((mem::size_of::<ControlArgs>(), mem::size_of::<LimitArgs>()), (16, 48));
    }
}
