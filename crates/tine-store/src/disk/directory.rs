//! Names in directories (`Documentation/filesystems/ext4/directory.rst`).
//!
//! Read block by block in order, hashed or not: to who reads so, the nodes of the hash tree are empty entries.

use super::{Image, Inode, corrupt, fields::Fields};
use crate::{Result, StoreError};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
};
use tine_sys::tree::Kind;

/// The most names one directory may have: they are kept in memory.
const NAMES_MAX: usize = 4 << 20;
/// The most bytes one directory may have.
const BYTES_MAX: u64 = 1 << 30;
/// Bytes of an entry before its name.
const HEAD: usize = 8;
/// The length of an entry with a name of one byte.
const ENTRY_MIN: usize = 12;

impl Image {
    /// The names of a directory with the numbers of their inodes, without `.` and `..`.
    ///
    /// # Errors
    /// `Corrupt` for what is no directory, and for names that no directory can have or that occur twice; `TooLarge`
    /// for more than four million of them.
    pub fn names(&self, directory: &Inode) -> Result<BTreeMap<OsString, u32>> {
        let mut names = BTreeMap::new();
        self.each_name(directory, &mut |name, inode| {
            if names.len() >= NAMES_MAX {
                return Err(too_large());
            }
            if names.insert(OsStr::from_bytes(name).to_os_string(), inode).is_some() {
                return Err(corrupt("a directory has a name twice"));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(names)
    }

    /// The number of the inode that a name in a directory stands for.
    pub(super) fn lookup(&self, directory: &Inode, wanted: &OsStr) -> Result<Option<u32>> {
        let mut found = None;
        self.each_name(directory, &mut |name, inode| {
            if name != wanted.as_bytes() {
                return Ok(ControlFlow::Continue(()));
            }
            found = Some(inode);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    fn each_name(&self, directory: &Inode, each: &mut Each<'_>) -> Result<()> {
        if directory.meta().kind != Kind::Dir {
            return Err(corrupt(format!("inode {} is no directory", directory.number())));
        }
        let block_size = u64::from(self.superblock.block_size);
        if !directory.meta().size.is_multiple_of(block_size) {
            return Err(corrupt("a directory does not end with a block"));
        }
        let mut read = 0u64;
        for stretch in self.stretches(directory)? {
            let stretch = stretch?;
            read = read.saturating_add(stretch.length);
            if read > BYTES_MAX {
                return Err(too_large());
            }
            for at in (0..stretch.length).step_by(block_size as usize) {
                let mut block = vec![0; block_size as usize];
                self.read_at(stretch.place + at, &mut block)?;
                if self.names_in(&block, each)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn names_in(&self, block: &[u8], each: &mut Each<'_>) -> Result<ControlFlow<()>> {
        let mut rest = block;
        while !rest.is_empty() {
            let fields = Fields(rest);
            let (inode, length) = (fields.le32(0)?, usize::from(fields.le16(4)?));
            let (entry, after) = rest
                .split_at_checked(length)
                .filter(|_| length >= ENTRY_MIN && length.is_multiple_of(4))
                .ok_or_else(|| corrupt("a directory has a damaged entry"))?;
            rest = after;
            let name = Fields(entry).bytes(HEAD, usize::from(fields.u8(6)?))?;
            if inode != 0 && name != b"." && name != b".." && self.name(name, inode, each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn name(&self, name: &[u8], inode: u32, each: &mut Each<'_>) -> Result<ControlFlow<()>> {
        if name.is_empty() || name.contains(&b'/') || name.contains(&0) || inode > self.superblock.inodes {
            return Err(corrupt("a directory has a name that cannot be"));
        }
        each(name, inode)
    }
}

/// Takes a name and the number of its inode.
type Each<'a> = dyn FnMut(&[u8], u32) -> Result<ControlFlow<()>> + 'a;

fn too_large() -> StoreError {
    StoreError::TooLarge { message: "a directory of the disk image has too many names".to_owned() }
}
