//! Disks of vm boxes: image files with an ext4 file system, made here and read here, never mounted.
//!
//! A guest's kernel is an attacker, and with it every byte of its disk. So an image is parsed in user space, without
//! trust in any number: each is checked against what holds it, every loop ends by what it reads, and what is read in
//! all is bounded by the size of the image. What contradicts itself is refused, never repaired. Nothing is written
//! but by [`make`].

mod block_map;
mod checksum;
mod content;
mod directory;
mod extents;
mod extract;
mod fields;
mod inode;
mod journal;
mod make;
mod resolve;
mod same;
mod source;
mod superblock;
mod walk;
mod xattrs;

pub use content::{Stretch, Stretches};
pub use extract::extract;
pub use inode::Inode;
pub use make::make;
pub use resolve::Resolved;
pub use walk::logical_size;

pub(crate) use content::PIECE;
pub(crate) use same::Same;
pub(crate) use walk::Visits;

use crate::{Result, StoreError};
use fields::Fields;
use source::Source;
use std::{fs::File, os::fd::OwnedFd};
use superblock::Superblock;
use tine_sys::tree::Kind;

/// The inode of the root directory.
const ROOT: u32 = 2;

/// A read-only view of a disk image: what a guest would see after it has mounted it and replayed the journal.
///
/// The file must not change while it is read. An image is meant for one operation (a walk, an extraction, the look
/// at a path): it gives up when it has been read several times over, which only a damaged one makes necessary.
pub struct Image {
    source: Source,
    superblock: Superblock,
    /// The first block of each group's inodes.
    inode_tables: Vec<u64>,
}

impl Image {
    /// Opens an image. A journal with changes that are not yet in their places (the machine was killed, or is
    /// running) is replayed in memory; the file is not written.
    ///
    /// # Errors
    /// `Corrupt` when it is no ext4 file system or contradicts itself, `Incompatible` for features that are not
    /// known here; the kernel's.
    pub fn open(file: OwnedFd) -> Result<Self> {
        let mut image = Self::parse(Source::new(File::from(file))?)?;
        if let Some(inode) = image.superblock.journal_to_replay {
            let overlay = journal::replay(&image, inode)?;
            image.source.lay_over(overlay);
            // the journal may hold newer versions of these two as well
            image = Self::parse(image.source)?;
        }
        Ok(image)
    }

    fn parse(source: Source) -> Result<Self> {
        let mut bytes = vec![0; superblock::SIZE];
        source.read(superblock::PLACE, &mut bytes)?;
        let superblock = Superblock::parse(&bytes, source.length())?;
        let inode_tables = inode_tables(&source, &superblock)?;
        Ok(Self { source, superblock, inode_tables })
    }

    /// The root directory.
    ///
    /// # Errors
    /// `Corrupt` when it is none.
    pub fn root(&self) -> Result<Inode> {
        let root = self.any_inode(ROOT)?;
        if root.meta().kind == Kind::Dir { Ok(root) } else { Err(corrupt("its root is no directory")) }
    }

    /// The object that a name in a directory stands for.
    ///
    /// # Errors
    /// `Corrupt` for the number of an inode that no name can stand for.
    pub fn inode(&self, number: u32) -> Result<Inode> {
        if number == ROOT {
            return self.root();
        }
        if number < self.superblock.first_inode {
            return Err(corrupt(format!("a name stands for the reserved inode {number}")));
        }
        let inode = self.any_inode(number)?;
        if inode.meta().nlink == 0 {
            return Err(corrupt(format!("a name stands for the deleted inode {number}")));
        }
        Ok(inode)
    }

    fn any_inode(&self, number: u32) -> Result<Inode> {
        let mut bytes = vec![0; usize::from(self.superblock.inode_size)].into_boxed_slice();
        self.source.read(self.inode_place(number)?, &mut bytes)?;
        Inode::parse(&self.superblock, number, bytes)
    }

    /// Offset of an inode in the file.
    fn inode_place(&self, number: u32) -> Result<u64> {
        let index = number.checked_sub(1).filter(|_| number <= self.superblock.inodes);
        let index = index.ok_or_else(|| corrupt(format!("there is no inode {number}")))?;
        let per_group = self.superblock.inodes_per_group;
        let table = self.inode_tables.get((index / per_group) as usize).copied();
        let table = table.ok_or_else(|| corrupt(format!("there is no group for inode {number}")))?;
        let within = u64::from(index % per_group) * u64::from(self.superblock.inode_size);
        self.block_place(table)?.checked_add(within).ok_or_else(|| corrupt("an inode lies past its end"))
    }

    /// Offset of a block in the file.
    fn block_place(&self, block: u64) -> Result<u64> {
        if block == 0 || block >= self.superblock.blocks {
            return Err(corrupt(format!("a structure points to block {block}, which there is not")));
        }
        Ok(block * u64::from(self.superblock.block_size))
    }

    /// A whole block.
    fn block(&self, block: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.superblock.block_size as usize];
        self.source.read(self.block_place(block)?, &mut bytes)?;
        Ok(bytes)
    }
}

/// Reads from the group descriptors where the inodes are (`struct ext4_group_desc`).
fn inode_tables(source: &Source, superblock: &Superblock) -> Result<Vec<u64>> {
    let size = usize::from(superblock.descriptor_size);
    let bytes = (superblock.groups as usize).checked_mul(size).filter(|n| *n as u64 <= source.length());
    let mut bytes = vec![0; bytes.ok_or_else(|| corrupt("it has more groups than fit into it"))?];
    source.read(superblock.descriptors * u64::from(superblock.block_size), &mut bytes)?;
    let table = |descriptor: &[u8]| {
        let fields = Fields(descriptor);
        if size >= 64 { fields.le32_pair(8, 0x28) } else { fields.le32(8).map(u64::from) }
    };
    bytes.chunks_exact(size).map(table).collect()
}

/// Something about an image that contradicts itself.
fn corrupt(problem: impl Into<String>) -> StoreError {
    StoreError::Corrupt { object: "the disk image".to_owned(), problem: problem.into() }
}
