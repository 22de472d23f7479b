//! The superblock: the geometry of the file system, checked so that what follows can count on it
//! (`fs/ext4/ext4.h`, `struct ext4_super_block`).

use super::{checksum::crc32c, corrupt, fields::Fields};
use crate::{Result, StoreError};

/// Offset in the file.
pub(super) const PLACE: u64 = 1024;
/// Bytes on disk.
pub(super) const SIZE: usize = 1024;

const MAGIC: u16 = 0xef53;
const CHECKSUM: usize = 0x3fc;
/// Block sizes that every kernel mounts: no larger than a page.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 1024..=4096;
/// The least that mkfs allows. Bounds how many groups a disk can claim to have.
const GROUP_BLOCKS_MIN: u32 = 256;

const COMPAT_JOURNAL: u32 = 0x4;
const RO_METADATA_CHECKSUM: u32 = 0x400;
const FILE_TYPE: u32 = 0x2;
const RECOVER: u32 = 0x4;
const WIDE: u32 = 0x80;
const CHECKSUM_SEED: u32 = 0x2000;
const LARGE_DIR: u32 = 0x4000;
/// What can be read: file types in directories, recovery, extents, 64 bit, multiple mount protection, flexible
/// groups, checksum seed, large directories.
const KNOWN: u32 = FILE_TYPE | RECOVER | 0x40 | WIDE | 0x100 | 0x200 | CHECKSUM_SEED | LARGE_DIR;
/// Those that are not, as e2fsprogs names them.
const REFUSED: [(u32, &str); 8] = [
    (0x1, "compression"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];

/// What the superblock says, with every number in its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    /// 1024, 2048 or 4096.
    pub block_size: u32,
    /// Blocks of the file system; the file has as many.
    pub blocks: u64,
    /// Inodes that exist; the first has the number 1.
    pub inodes: u32,
    pub inodes_per_group: u32,
    pub groups: u32,
    /// Bytes, from 128 to a block.
    pub inode_size: u16,
    /// Where the group descriptors begin, in blocks.
    pub descriptors: u64,
    /// Bytes: 32, or 64 and more.
    pub descriptor_size: u16,
    /// The first inode number that is not reserved.
    pub first_inode: u32,
    /// What checksums of structures begin with; none when they have none.
    pub checksum_seed: Option<u32>,
    /// The inode of a journal that is still to be replayed.
    pub journal_to_replay: Option<u32>,
    /// Whether directories may have more than 4 GiB.
    pub large_dirs: bool,
}

impl Superblock {
    /// Parses the superblock of a file of `length` bytes.
    ///
    /// # Errors
    /// `Incompatible` for features that change what is read, `Corrupt` for numbers that contradict each other.
    pub fn parse(bytes: &[u8], length: u64) -> Result<Self> {
        let fields = Fields(bytes);
        if fields.le16(0x38)? != MAGIC {
            return Err(corrupt("is not an ext4 file system"));
        }
        // revision 0 has no features, so none that is required
        let incompat = if fields.le32(0x4c)? == 0 { 0 } else { fields.le32(0x60)? };
        check_features(incompat)?;
        let checksum_seed = checksum_seed(fields, incompat)?;
        let block_size = block_size(fields)?;
        let geometry = Geometry::parse(fields, incompat, block_size)?;
        geometry.check(block_size, length)?;
        Ok(Self {
            block_size,
            blocks: geometry.blocks,
            inodes: fields.le32(0)?,
            inodes_per_group: geometry.inodes_per_group,
            groups: geometry.groups()?,
            inode_size: inode_size(fields, block_size)?,
            descriptors: u64::from(geometry.first_block) + 1,
            descriptor_size: descriptor_size(fields, incompat, block_size)?,
            first_inode: fields.le32(0x54)?,
            checksum_seed,
            journal_to_replay: journal_to_replay(fields, incompat)?,
            large_dirs: incompat & LARGE_DIR != 0,
        })
    }
}

fn check_features(incompat: u32) -> Result<()> {
    let refused = REFUSED.iter().filter(|(bit, _)| incompat & bit != 0);
    let mut features: Vec<String> = refused.map(|(_, name)| (*name).to_owned()).collect();
    let named = REFUSED.iter().fold(KNOWN, |sum, (bit, _)| sum | bit);
    if incompat & !named != 0 {
        features.push(format!("feature bits {:#x}", incompat & !named));
    }
    if incompat & FILE_TYPE == 0 {
        features.push("directories without file types".to_owned());
    }
    if features.is_empty() {
        return Ok(());
    }
    Err(StoreError::Incompatible { object: "the disk image".to_owned(), features })
}

fn checksum_seed(fields: Fields<'_>, incompat: u32) -> Result<Option<u32>> {
    if fields.le32(0x64)? & RO_METADATA_CHECKSUM == 0 {
        return Ok(None);
    }
    if crc32c(!0, fields.bytes(0, CHECKSUM)?) != fields.le32(CHECKSUM)? {
        return Err(corrupt("the superblock's checksum is wrong"));
    }
    let stored = incompat & CHECKSUM_SEED != 0;
    Ok(Some(if stored { fields.le32(0x270)? } else { crc32c(!0, fields.bytes(0x68, 16)?) }))
}

fn block_size(fields: Fields<'_>) -> Result<u32> {
    let shift = fields.le32(0x18)?;
    let size = (shift < 16).then(|| 1024u32 << shift);
    size.filter(|size| BLOCK_SIZES.contains(size)).ok_or_else(|| corrupt("its block size is not 1 to 4 KiB"))
}

fn inode_size(fields: Fields<'_>, block_size: u32) -> Result<u16> {
    let size = fields.le16(0x58)?;
    let fits = size.is_power_of_two() && size >= 128 && u32::from(size) <= block_size;
    if fits { Ok(size) } else { Err(corrupt("its inodes have an impossible size")) }
}

fn descriptor_size(fields: Fields<'_>, incompat: u32, block_size: u32) -> Result<u16> {
    if incompat & WIDE == 0 {
        return Ok(32);
    }
    let size = fields.le16(0xfe)?;
    let fits = size.is_power_of_two() && size >= 64 && u32::from(size) <= block_size;
    if fits { Ok(size) } else { Err(corrupt("its group descriptors have an impossible size")) }
}

fn journal_to_replay(fields: Fields<'_>, incompat: u32) -> Result<Option<u32>> {
    if incompat & RECOVER == 0 {
        return Ok(None);
    }
    let inode = fields.le32(0xe0)?;
    if fields.le32(0x5c)? & COMPAT_JOURNAL == 0 || inode == 0 {
        return Err(corrupt("it needs recovery and has no journal of its own"));
    }
    Ok(Some(inode))
}

struct Geometry {
    blocks: u64,
    first_block: u32,
    blocks_per_group: u32,
    inodes_per_group: u32,
    inodes: u32,
}

impl Geometry {
    fn parse(fields: Fields<'_>, incompat: u32, block_size: u32) -> Result<Self> {
        let wide = incompat & WIDE != 0;
        let blocks = if wide { fields.le32_pair(4, 0x150)? } else { u64::from(fields.le32(4)?) };
        let first_block = fields.le32(0x14)?;
        if first_block != u32::from(block_size == 1024) {
            return Err(corrupt("its first block is not where it must be"));
        }
        Ok(Self {
            blocks,
            first_block,
            blocks_per_group: fields.le32(0x20)?,
            inodes_per_group: fields.le32(0x28)?,
            inodes: fields.le32(0)?,
        })
    }

    fn check(&self, block_size: u32, length: u64) -> Result<()> {
        if self.blocks.checked_mul(u64::from(block_size)).is_none_or(|bytes| bytes > length) {
            return Err(corrupt("the file system is larger than the image"));
        }
        if self.blocks_per_group < GROUP_BLOCKS_MIN || self.inodes_per_group == 0 {
            return Err(corrupt("its groups have an impossible size"));
        }
        let inodes = u64::from(self.groups()?) * u64::from(self.inodes_per_group);
        if inodes != u64::from(self.inodes) {
            return Err(corrupt("its groups do not hold the inodes it claims to have"));
        }
        Ok(())
    }

    fn groups(&self) -> Result<u32> {
        let blocks = self.blocks.checked_sub(u64::from(self.first_block)).filter(|blocks| *blocks > 0);
        let groups = blocks.map(|blocks| blocks.div_ceil(u64::from(self.blocks_per_group)));
        groups.and_then(|n| n.try_into().ok()).ok_or_else(|| corrupt("it has an impossible number of blocks"))
    }
}
