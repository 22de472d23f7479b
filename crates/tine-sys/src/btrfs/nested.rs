//! Subvolumes inside subvolumes: finding them by the root tree, deleting them deepest first.
//!
//! A program in a box may make subvolumes at any depth, under any name. They are found and deleted by number,
//! never by walking or by a path, whose length it decides.

use super::{
    MAGIC, READ, SUBVOLUME_INODE, WRITE, call, delete_by_bytes,
    inodes::open_inode,
    search::{Key, Range, le16, le64, search},
    set_read_only, subvolume_info, zeroed,
};
use crate::{SysError, SysResult};
use rustix::fs::{Mode, OFlags};
use std::{
    mem,
    os::fd::{AsFd, BorrowedFd},
};

const ROOT_TREE: u64 = 1;
const ROOT_REF: u32 = 156;
const INO_LOOKUP: u64 = (READ | WRITE) << 30 | (mem::size_of::<LookupArgs>() as u64) << 16 | MAGIC << 8 | 18;

#[repr(C)]
struct LookupArgs {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

/// A subvolume that lies inside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NestedSubvolume {
    /// Its tree's number.
    pub id: u64,
    /// The tree its directory entry is in.
    pub parent_id: u64,
    /// The inode of the directory its entry is in.
    pub dir_id: u64,
    /// Its name in that directory.
    pub name: Vec<u8>,
    /// Its path from the subvolume that was asked about, without a leading slash. None when it is longer than
    /// the kernel can tell (4,079 bytes for each subvolume on the way).
    pub path: Option<Vec<u8>>,
}

/// Every subvolume inside the one that `fd` lies in, at any depth, each after the one that contains it.
/// Costs one search per subvolume, whatever the size of their trees. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's.
pub fn nested_subvolumes(fd: BorrowedFd<'_>) -> SysResult<Vec<NestedSubvolume>> {
    let mut found: Vec<NestedSubvolume> = children(fd, subvolume_info(fd)?.id, Some(&[]))?;
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        let prefix = parent.path.clone();
        let below = children(fd, parent.id, prefix.as_deref())?;
        found.extend(below);
        next += 1;
    }
    Ok(found)
}

fn children(fd: BorrowedFd<'_>, parent_id: u64, prefix: Option<&[u8]>) -> SysResult<Vec<NestedSubvolume>> {
    let key = |offset| Key { object: parent_id, kind: ROOT_REF, offset };
    let mut found = Vec::new();
    search(fd, &Range { tree: ROOT_TREE, min: key(0), max: key(u64::MAX) }, |key, data| {
        if key.object == parent_id && key.kind == ROOT_REF {
            found.extend(parse_root_ref(key, data));
        }
    })?;
    for child in &mut found {
        child.path = prefix.and_then(|p| path_of(fd, p, child));
    }
    Ok(found)
}

/// `struct btrfs_root_ref`: directory, sequence, length of the name, name.
fn parse_root_ref(key: Key, data: &[u8]) -> Option<NestedSubvolume> {
    let length = usize::from(le16(data, 16)?);
    let name = data.get(18..18 + length)?.to_vec();
    Some(NestedSubvolume { id: key.offset, parent_id: key.object, dir_id: le64(data, 0)?, name, path: None })
}

fn path_of(fd: BorrowedFd<'_>, prefix: &[u8], child: &NestedSubvolume) -> Option<Vec<u8>> {
    let mut args: LookupArgs = zeroed();
    args.treeid = child.parent_id;
    args.objectid = child.dir_id;
    call(fd, INO_LOOKUP, &mut args, "look up directory", &child.dir_id).ok()?;
    let end = args.name.iter().position(|b| *b == 0)?;
    let mut path = prefix.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    // the kernel closes a directory's path with a slash, and the subvolume's own directory has an empty one
    path.extend_from_slice(&args.name[..end]);
    path.extend_from_slice(&child.name);
    Some(path)
}

/// Deletes the subvolume `name` in `dir` and every subvolume inside it, the deepest first. Interrupted, it may be
/// called again. Needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's.
pub fn delete_subvolume_tree(dir: BorrowedFd<'_>, name: &str) -> SysResult<()> {
    match delete_by_bytes(dir, name.as_bytes()) {
        Err(e) if e.errno() == libc::ENOTEMPTY => {}
        done => return done,
    }
    let open_flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let subvolume = rustix::fs::openat(dir, name, open_flags, Mode::empty())
        .map_err(|e| SysError::new("open", name, e))?;
    for nested in nested_subvolumes(subvolume.as_fd())?.iter().rev() {
        delete_nested(dir, nested)?;
    }
    drop(subvolume);
    delete_by_bytes(dir, name.as_bytes())
}

/// Nothing can be deleted from a read-only subvolume, so the one it lies in becomes writable where need be.
fn delete_nested(mount: BorrowedFd<'_>, nested: &NestedSubvolume) -> SysResult<()> {
    let holder = open_inode(mount, nested.parent_id, nested.dir_id)?;
    match delete_by_bytes(holder.as_fd(), &nested.name) {
        Err(e) if e.errno() == libc::EROFS => {}
        done => return done,
    }
    set_read_only(open_inode(mount, nested.parent_id, SUBVOLUME_INODE)?.as_fd(), false)?;
    delete_by_bytes(holder.as_fd(), &nested.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(mem::size_of::<LookupArgs>(), 4096);
    }

    #[test]
    fn a_short_root_ref_is_no_subvolume() {
        let key = Key { object: 5, kind: ROOT_REF, offset: 300 };
        let mut item = vec![0u8; 18];
        item[0] = 7;
        item[16] = 3;
        assert_eq!(parse_root_ref(key, &item), None);
        item.extend_from_slice(b"abc");
        let nested = parse_root_ref(key, &item).unwrap();
        assert_eq!((nested.id, nested.parent_id, nested.dir_id, &nested.name[..]), (300, 5, 7, &b"abc"[..]));
    }
}
