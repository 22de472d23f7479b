//! Inodes: what an object is, apart from its content and its attributes (`fs/ext4/ext4.h`, `struct ext4_inode`).

use super::{
    checksum::{crc32c, crc32c_without},
    corrupt,
    fields::Fields,
    superblock::Superblock,
};
use crate::Result;
use tine_sys::tree::{Kind, Meta, Time};

/// Bytes of an inode of the first kind; what follows depends on its own `i_extra_isize`.
pub(super) const OLD_SIZE: usize = 128;
/// Where the checksum lies: its lower half, and the upper one if the inode is long enough.
pub(super) const CHECKSUM: (usize, usize) = (0x7c, 0x82);
/// Offset and length of `i_block`: where the content is, or the content itself.
const BLOCK: (usize, usize) = (0x28, 60);

const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_EA_INODE: u32 = 0x20_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;
/// Content that is not where it is looked for; the features that go with them are refused as well.
const FLAGS_REFUSED: u32 = FLAG_ENCRYPTED | FLAG_EA_INODE | FLAG_INLINE_DATA;

/// An object of a disk image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    meta: Meta,
    number: u32,
    flags: u32,
    xattr_block: u64,
    bytes: Box<[u8]>,
}

impl Inode {
    /// What `stat(2)` would say of it; `dev` is 0.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Parses an inode and checks its checksum.
    pub(super) fn parse(superblock: &Superblock, number: u32, bytes: Box<[u8]>) -> Result<Self> {
        if let Some(seed) = superblock.checksum_seed {
            check(seed, number, &bytes)?;
        }
        let fields = Fields(&bytes);
        let flags = fields.le32(0x20)?;
        if flags & FLAGS_REFUSED != 0 {
            return Err(corrupt(format!("inode {number} is encrypted or holds its content in itself")));
        }
        let kind = kind(fields.le16(0)?)
            .ok_or_else(|| corrupt(format!("inode {number} is of no type that there is")))?;
        let meta = meta(superblock, fields, kind, number)?;
        let xattr_block = u64::from(fields.le32(0x68)?) | u64::from(fields.le16(0x76)?) << 32;
        Ok(Self { meta, number, flags, xattr_block, bytes })
    }

    /// Whether its content is found by extents; by a block map otherwise.
    pub(super) fn has_extents(&self) -> bool {
        self.flags & FLAG_EXTENTS != 0
    }

    /// The root of its extents or of its block map, a device's number, or a short link's target.
    pub(super) fn block(&self) -> Result<&[u8]> {
        Fields(&self.bytes).bytes(BLOCK.0, BLOCK.1)
    }

    /// The block of its attributes, 0 when it has none.
    pub(super) fn xattr_block(&self) -> u64 {
        self.xattr_block
    }

    /// What lies behind the inode's own fields: attributes, if it has any there.
    pub(super) fn tail(&self) -> &[u8] {
        let extra = Fields(&self.bytes).le16(0x80).unwrap_or(0);
        self.bytes.get(OLD_SIZE + usize::from(extra)..).unwrap_or_default()
    }
}

fn check(seed: u32, number: u32, bytes: &[u8]) -> Result<()> {
    let fields = Fields(bytes);
    let (mut stored, mut wanted) = (u32::from(fields.le16(CHECKSUM.0)?), checksum(seed, number, bytes)?);
    if has_high_checksum(bytes) {
        stored |= u32::from(fields.le16(CHECKSUM.1)?) << 16;
    } else {
        wanted &= 0xffff;
    }
    if stored == wanted { Ok(()) } else { Err(corrupt(format!("inode {number} has a wrong checksum"))) }
}

/// The checksum that an inode with these bytes must have.
pub(super) fn checksum(seed: u32, number: u32, inode: &[u8]) -> Result<u32> {
    let generation = Fields(inode).bytes(0x64, 4)?;
    let seed = crc32c(crc32c(seed, &number.to_le_bytes()), generation);
    let (old, extra) = inode.split_at_checked(OLD_SIZE).ok_or_else(|| corrupt("an inode is cut short"))?;
    let sum = crc32c_without::<2>(seed, old, CHECKSUM.0);
    let high = CHECKSUM.1 - OLD_SIZE;
    Ok(if has_high_checksum(inode) { crc32c_without::<2>(sum, extra, high) } else { crc32c(sum, extra) })
}

/// Whether an inode is long enough for the upper half of its checksum.
pub(super) fn has_high_checksum(inode: &[u8]) -> bool {
    inode.len() > OLD_SIZE && Fields(inode).le16(0x80).is_ok_and(|extra| extra >= 4)
}

fn kind(mode: u16) -> Option<Kind> {
    Some(match mode & 0xf000 {
        0x1000 => Kind::Fifo,
        0x2000 => Kind::Char,
        0x4000 => Kind::Dir,
        0x6000 => Kind::Block,
        0x8000 => Kind::File,
        0xa000 => Kind::Symlink,
        0xc000 => Kind::Socket,
        _ => return None,
    })
}

fn meta(superblock: &Superblock, fields: Fields<'_>, kind: Kind, number: u32) -> Result<Meta> {
    let halves =
        |low, high| -> Result<u32> { Ok(u32::from(fields.le16(low)?) | u32::from(fields.le16(high)?) << 16) };
    Ok(Meta {
        kind,
        mode: u32::from(fields.le16(0)?) & 0o7777,
        uid: halves(2, 0x78)?,
        gid: halves(0x18, 0x7a)?,
        size: size(superblock, fields, kind, number)?,
        blocks: u64::from(fields.le32(0x1c)?) | u64::from(fields.le16(0x74)?) << 32,
        device: device(fields, kind)?,
        dev: 0,
        ino: u64::from(number),
        nlink: u64::from(fields.le16(0x1a)?),
        mtime: time(fields, 0x10, 0x88)?,
        ctime: time(fields, 0xc, 0x84)?,
    })
}

/// Only regular files, and directories where the file system says so, have more than 4 GiB. A file has at most
/// 2^32 blocks.
fn size(superblock: &Superblock, fields: Fields<'_>, kind: Kind, number: u32) -> Result<u64> {
    let wide = kind == Kind::File || (kind == Kind::Dir && superblock.large_dirs);
    let size = if wide { fields.le32_pair(4, 0x6c)? } else { u64::from(fields.le32(4)?) };
    if size > u64::from(superblock.block_size) << 32 {
        return Err(corrupt(format!("inode {number} claims to be larger than any file can be")));
    }
    Ok(size)
}

/// The numbers of a device are in the first word of `i_block` as 16 bits, else in the second as 32
/// (`include/linux/kdev_t.h`).
fn device(fields: Fields<'_>, kind: Kind) -> Result<(u32, u32)> {
    if !matches!(kind, Kind::Char | Kind::Block) {
        return Ok((0, 0));
    }
    let (old, new) = (fields.le32(BLOCK.0)?, fields.le32(BLOCK.0 + 4)?);
    Ok(match old {
        0 => ((new & 0xf_ff00) >> 8, (new & 0xff) | (new >> 12 & 0xf_ff00)),
        old => (old >> 8 & 0xff, old & 0xff),
    })
}

/// Seconds are signed; two bits of the extra word continue them, the other 30 are nanoseconds.
fn time(fields: Fields<'_>, seconds: usize, extra: usize) -> Result<Time> {
    let low = i64::from(i32::from_le_bytes(fields.array(seconds)?));
    let has_extra = fields.0.len() > OLD_SIZE && OLD_SIZE + usize::from(fields.le16(0x80)?) >= extra + 4;
    let word = if has_extra { fields.le32(extra)? } else { 0 };
    let nanoseconds = word >> 2;
    Ok(Time {
        seconds: low + (i64::from(word & 3) << 32),
        nanoseconds: if nanoseconds < 1_000_000_000 { nanoseconds } else { 0 },
    })
}
