//! Extended attributes: behind the fields of an inode, and in a block of their own
//! (`Documentation/filesystems/ext4/attributes.rst`).

use super::{Image, Inode, corrupt, fields::Fields};
use crate::Result;
use std::{ffi::OsString, os::unix::ffi::OsStringExt};
use tine_sys::tree::Xattr;

const MAGIC: u32 = 0xea02_0000;
/// Bytes of the header of a block.
const BLOCK_HEAD: usize = 32;
/// Bytes of the magic number before the entries in an inode.
const INODE_HEAD: usize = 4;
/// Bytes of an entry before its name.
const ENTRY_HEAD: usize = 16;

/// What the numbers of name spaces stand for (`fs/ext4/xattr.h`); names of others are not listed by the kernel.
const PREFIXES: [(u8, &str); 5] = [
    (1, "user."),
    (ACL_ACCESS, "system.posix_acl_access"),
    (ACL_DEFAULT, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
];
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;

impl Image {
    /// The extended attributes of an object, sorted by name, as `getxattr(2)` gives them.
    ///
    /// # Errors
    /// `Corrupt`; the kernel's.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut found = Vec::new();
        let tail = inode.tail();
        if tail.len() > INODE_HEAD && Fields(tail).le32(0)? == MAGIC {
            entries(tail.get(INODE_HEAD..).unwrap_or_default(), 0, &mut found)?;
        }
        if inode.xattr_block() != 0 {
            let block = self.block(inode.xattr_block())?;
            let fields = Fields(&block);
            if fields.le32(0)? != MAGIC || fields.le32(8)? != 1 {
                return Err(damaged());
            }
            entries(&block, BLOCK_HEAD, &mut found)?;
        }
        found.sort();
        if found.windows(2).any(|pair| matches!(pair, [a, b] if a.name == b.name)) {
            return Err(damaged());
        }
        Ok(found)
    }
}

/// Adds the entries that begin at `at`; offsets of values count from the begin of `bytes`.
fn entries(bytes: &[u8], mut at: usize, found: &mut Vec<Xattr>) -> Result<()> {
    let fields = Fields(bytes);
    while bytes.len().saturating_sub(at) >= 4 && fields.le32(at)? != 0 {
        let (length, index) = (usize::from(fields.u8(at)?), fields.u8(at + 1)?);
        if fields.le32(at + 4)? != 0 {
            // the value lies in an inode of its own
            return Err(damaged());
        }
        let size = usize::try_from(fields.le32(at + 8)?).map_err(|_| damaged())?;
        let value = if size == 0 { &[] } else { fields.bytes(usize::from(fields.le16(at + 2)?), size)? };
        let suffix = fields.bytes(at + ENTRY_HEAD, length)?;
        found.extend(attribute(index, suffix, value)?);
        at += (ENTRY_HEAD + length).next_multiple_of(4);
    }
    Ok(())
}

/// An attribute with its whole name; `None` for one the kernel would not show.
fn attribute(index: u8, suffix: &[u8], value: &[u8]) -> Result<Option<Xattr>> {
    let Some((_, prefix)) = PREFIXES.iter().find(|(number, _)| *number == index) else { return Ok(None) };
    let is_acl = matches!(index, ACL_ACCESS | ACL_DEFAULT);
    if is_acl != suffix.is_empty() || suffix.contains(&0) {
        return Err(damaged());
    }
    let value = if is_acl { acl(value)? } else { value.to_vec() };
    Ok(Some(Xattr { name: OsString::from_vec([prefix.as_bytes(), suffix].concat()), value }))
}

/// On the disk an ACL has version 1 and no id where none is needed (`fs/ext4/acl.h`); `getxattr(2)` gives version 2
/// with an id everywhere (`linux/posix_acl_xattr.h`).
fn acl(disk: &[u8]) -> Result<Vec<u8>> {
    const USER: u16 = 2;
    const GROUP: u16 = 8;
    const NO_ID: u32 = u32::MAX;
    let fields = Fields(disk);
    if fields.le32(0)? != 1 {
        return Err(damaged());
    }
    let (mut value, mut at) = (2u32.to_le_bytes().to_vec(), 4);
    while at < disk.len() {
        let has_id = [USER, GROUP].contains(&fields.le16(at)?);
        value.extend(fields.bytes(at, 4)?);
        value.extend(if has_id { fields.le32(at + 4)? } else { NO_ID }.to_le_bytes());
        at += if has_id { 8 } else { 4 };
    }
    Ok(value)
}

fn damaged() -> crate::StoreError {
    corrupt("an object has damaged attributes")
}
