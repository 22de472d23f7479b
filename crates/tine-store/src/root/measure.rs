//! How large a root is.
//!
//! Read from the subvolume's tree in one pass over its files by number, so that neither depth nor names of a hostile
//! tree matter and a file with many names counts once.

use crate::error::Result;
use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
};
use tine_model::ByteSize;
use tine_sys::{
    btrfs::{self, Uuid},
    extents::each_extent,
};

/// Sizes of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeSize {
    /// The sum of the lengths of its regular files and links.
    pub logical: u64,
    /// Bytes of file data without holes.
    pub stored: u64,
    /// Bytes of file data on disk that no other tree or file points to. Data that lies inside metadata (files of up
    /// to about 2 KiB) and metadata itself are not counted.
    pub exclusive: u64,
}

/// The logical size of the subvolume `root`: the sum of the lengths of its regular files and links, each file once.
///
/// # Errors
/// The kernel's.
pub fn logical_size(root: &OwnedFd) -> Result<ByteSize> {
    let mut sum = 0u64;
    btrfs::inodes(root.as_fd(), |inode| {
        if inode.is_file() || inode.is_symlink() {
            sum = sum.saturating_add(inode.size);
        }
    })?;
    Ok(ByteSize(sum))
}

/// What the files of the subvolume `root` hold, without holes: the size of a disk or memory, which are sparse.
///
/// # Errors
/// The kernel's.
pub fn stored_size(root: &OwnedFd) -> Result<ByteSize> {
    let mut sum = 0u64;
    btrfs::inodes(root.as_fd(), |inode| {
        if inode.is_file() {
            sum = sum.saturating_add(stored_bytes(&inode));
        }
    })?;
    Ok(ByteSize(sum))
}

/// A file that is all data may take more on disk than it is long.
fn stored_bytes(inode: &btrfs::Inode) -> u64 {
    inode.allocated.min(inode.size)
}

/// The logical and exclusive size of the subvolume `root`. `unchanging` are the UUIDs of read-only subvolumes: when
/// `root` was cloned from one of them, files not changed since then share all their data with it, and only the
/// others are looked at.
///
/// # Errors
/// The kernel's.
pub fn tree_size(root: &OwnedFd, unchanging: &HashSet<Uuid>) -> Result<TreeSize> {
    let info = btrfs::subvolume_info(root.as_fd())?;
    let source_is_there = info.parent_uuid.is_some_and(|parent| unchanging.contains(&parent));
    let shared_until = if source_is_there { info.made_in } else { 0 };
    let mut size = TreeSize::default();
    let mut candidates = Vec::new();
    btrfs::inodes(root.as_fd(), |inode| {
        if inode.is_file() || inode.is_symlink() {
            size.logical = size.logical.saturating_add(inode.size);
        }
        if inode.is_file() {
            size.stored = size.stored.saturating_add(stored_bytes(&inode));
        }
        if inode.is_file() && inode.allocated > 0 && inode.changed_in > shared_until {
            candidates.push(inode.number);
        }
    })?;
    for number in candidates {
        size.exclusive = size.exclusive.saturating_add(exclusive_bytes(root, info.id, number)?);
    }
    Ok(size)
}

/// 0 when the file was deleted meanwhile.
fn exclusive_bytes(root: &OwnedFd, subvolume: u64, inode: u64) -> Result<u64> {
    let Ok(file) = btrfs::open_inode(root.as_fd(), subvolume, inode) else { return Ok(0) };
    let mut sum = 0u64;
    each_extent(file.as_fd(), |extent| {
        if extent.place.is_some() && !extent.shared {
            sum = sum.saturating_add(extent.length);
        }
    })?;
    Ok(sum)
}
