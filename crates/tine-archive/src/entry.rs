//! A tar header of 512 bytes, read and made: `ustar` of POSIX.1-1988 and the GNU variant.
//!
//! Field positions are those of `tar.h` and of the GNU tar manual, "Basic Tar Format".

use std::ops::Range;
use tine_sys::tree::{Time, Xattr};

/// Everything in an archive comes in blocks of this size.
pub const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const GNU_SPARSE: Range<usize> = 386..482;
const GNU_EXTENDED: usize = 482;
const GNU_REAL_SIZE: Range<usize> = 483..495;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file, sparse or not.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A further name of an earlier member.
    HardLink,
    /// A named pipe.
    Fifo,
    /// A character device: major and minor number.
    Char(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
}

/// Stretches of a file as (offset, length), in bytes.
pub type Stretches = Vec<(u64, u64)>;

/// Which stretches of a sparse file hold data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseMap {
    /// Bytes of the file with its holes.
    pub size: u64,
    /// Stretches that hold data; the rest is a hole.
    pub data: Stretches,
}

/// A member with everything its headers say.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name, any bytes.
    pub name: Vec<u8>,
    /// Where it links to, any bytes; empty for what is no link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permissions and set-id bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// When it was last changed.
    pub mtime: Time,
    /// Extended attributes.
    pub xattrs: Vec<Xattr>,
    /// Bytes of content in the archive.
    pub stored: u64,
    /// The map of a sparse file; its stretches ascend, lie within the file and hold exactly `stored` bytes.
    pub sparse: Option<SparseMap>,
}

/// A header block.
#[derive(Clone)]
pub(crate) struct Header(pub [u8; BLOCK]);

impl Header {
    fn field(&self, range: Range<usize>) -> &[u8] {
        self.0.get(range).unwrap_or_default()
    }

    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Whether the checksum is that of the block; old writers summed signed bytes.
    pub fn is_sound(&self) -> bool {
        let bytes = || self.0.iter().enumerate().map(|(i, b)| if CHECKSUM.contains(&i) { b' ' } else { *b });
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
        number(self.field(CHECKSUM)).is_some_and(|sum| sum == unsigned || sum == signed)
    }

    pub fn kind(&self) -> u8 {
        self.0.get(TYPE).copied().unwrap_or(0)
    }

    fn is_ustar(&self) -> bool {
        self.field(MAGIC).starts_with(b"ustar\0")
    }

    pub fn name(&self) -> Vec<u8> {
        let name = text(self.field(NAME));
        let prefix = if self.is_ustar() { text(self.field(PREFIX)) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub fn link(&self) -> Vec<u8> {
        text(self.field(LINK)).to_vec()
    }

    pub fn mode(&self) -> Option<i64> {
        number(self.field(MODE))
    }
    pub fn uid(&self) -> Option<i64> {
        number(self.field(UID))
    }
    pub fn gid(&self) -> Option<i64> {
        number(self.field(GID))
    }
    pub fn size(&self) -> Option<u64> {
        number(self.field(SIZE)).and_then(|n| u64::try_from(n).ok())
    }
    pub fn mtime(&self) -> Option<i64> {
        number(self.field(MTIME))
    }
    pub fn device(&self) -> Option<(u32, u32)> {
        let part = |range| number(self.field(range)).and_then(|n| u32::try_from(n).ok());
        Some((part(MAJOR)?, part(MINOR)?))
    }

    /// The old GNU sparse fields: pairs in this header, whether a block with more follows, the real size.
    pub fn gnu_sparse(&self) -> Option<(Stretches, bool, u64)> {
        let pairs = sparse_pairs(self.field(GNU_SPARSE))?;
        let size = number(self.field(GNU_REAL_SIZE)).and_then(|n| u64::try_from(n).ok())?;
        Some((pairs, self.0.get(GNU_EXTENDED) == Some(&1), size))
    }

    /// A header block of a writer: numbers that do not fit are left 0, as an extended header has them.
    pub fn new(kind: u8, name: &[u8], size: u64) -> Self {
        let mut header = Self([0; BLOCK]);
        header.put(NAME, name);
        header.put_number(SIZE, size);
        header.put(TYPE..TYPE + 1, &[kind]);
        header.put(MAGIC, b"ustar\x0000");
        header
    }

    /// A header block of a writer in the GNU form, whose numbers have no bound.
    pub fn gnu(kind: u8, name: &[u8], size: u64) -> Self {
        let mut header = Self::new(kind, name, 0);
        header.put(MAGIC, b"ustar  \0");
        header.put(SIZE, &gnu_number(size));
        header
    }

    /// The old GNU sparse fields: up to 4 pairs, whether a block with more follows, and the real size.
    pub fn put_gnu_sparse(&mut self, pairs: &[(u64, u64)], more: bool, real_size: u64) {
        let fields: Vec<u8> =
            pairs.iter().flat_map(|(o, l)| [gnu_number(*o), gnu_number(*l)]).flatten().collect();
        self.put(GNU_SPARSE, &fields);
        self.put(GNU_EXTENDED..GNU_EXTENDED + 1, &[u8::from(more)]);
        self.put(GNU_REAL_SIZE, &gnu_number(real_size));
    }

    pub fn put_link(&mut self, target: &[u8]) {
        self.put(LINK, target);
    }
    pub fn put_owner(&mut self, mode: u32, uid: u64, gid: u64) {
        self.put_number(MODE, u64::from(mode));
        self.put_number(UID, uid);
        self.put_number(GID, gid);
    }
    pub fn put_mtime(&mut self, seconds: u64) {
        self.put_number(MTIME, seconds);
    }
    pub fn put_device(&mut self, (major, minor): (u32, u32)) {
        self.put_number(MAJOR, u64::from(major));
        self.put_number(MINOR, u64::from(minor));
    }

    /// The block with its checksum.
    pub fn sealed(mut self) -> [u8; BLOCK] {
        self.put(CHECKSUM, b"        ");
        let sum: u64 = self.0.iter().map(|b| u64::from(*b)).sum();
        self.put(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }

    fn put(&mut self, range: Range<usize>, bytes: &[u8]) {
        let field = self.0.get_mut(range).unwrap_or_default();
        for (to, from) in field.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    fn put_number(&mut self, range: Range<usize>, value: u64) {
        let digits = range.len() - 1;
        if value < 1 << (3 * digits) {
            self.put(range, format!("{value:0digits$o}").as_bytes());
        } else {
            self.put_number(range, 0);
        }
    }
}

/// The largest number that a field of 12 bytes (size, time) holds as octal digits.
pub(crate) const OCTAL_12_MAX: u64 = (1 << 33) - 1;
/// The largest number that a field of 8 bytes (owner) holds as octal digits.
pub(crate) const OCTAL_8_MAX: u64 = (1 << 21) - 1;
/// Bytes of a name or link target that fit in a header.
pub(crate) const NAME_MAX: usize = 100;

/// A field of 12 bytes: octal digits, or, where they do not suffice, GNU's big-endian binary.
pub(crate) fn gnu_number(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    let digits = format!("{value:011o}");
    let binary = value.to_be_bytes();
    let (start, bytes) = if value <= OCTAL_12_MAX { (0, digits.as_bytes()) } else { (4, binary.as_slice()) };
    field.iter_mut().skip(start).zip(bytes).for_each(|(to, from)| *to = *from);
    if value > OCTAL_12_MAX {
        field[0] = 0x80;
    }
    field
}

/// Up to the first NUL.
pub(crate) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Pairs of (offset, length) of 12 bytes each, up to the first empty one.
pub(crate) fn sparse_pairs(fields: &[u8]) -> Option<Stretches> {
    let mut pairs = Vec::new();
    for pair in fields.chunks_exact(24).take_while(|p| p.first() != Some(&0)) {
        let (offset, length) = pair.split_at(12);
        pairs.push((u64::try_from(number(offset)?).ok()?, u64::try_from(number(length)?).ok()?));
    }
    Some(pairs)
}

/// A number: octal digits between blanks and NULs (none is 0), or GNU's big-endian two's complement, which the
/// first bit marks.
fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(text(field)),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let digits = field.trim_ascii();
    if digits.iter().any(|b| !(b'0'..=b'7').contains(b)) {
        return None;
    }
    digits.iter().try_fold(0i64, |n, b| n.checked_mul(8)?.checked_add(i64::from(b - b'0')))
}

fn binary(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    // the first byte is the mark and, below it, the sign
    let start = if first & 0x40 != 0 { -1 } else { i128::from(first & 0x3f) };
    let value = rest.iter().try_fold(start, |n, b| n.checked_mul(256)?.checked_add(i128::from(*b)))?;
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_blank_or_binary() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"     ", Some(0)),
            (b"0000648\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn a_made_header_reads_back() {
        let mut header = Header::new(b'0', b"dir/\xff", 12345);
        header.put_owner(0o4755, 1000, 2_097_151);
        header.put_mtime(OCTAL_12_MAX);
        header.put_device((5, 1));
        let header = Header(header.sealed());
        assert!(header.is_sound() && !header.is_zero());
        assert_eq!((header.name(), header.size()), (b"dir/\xff".to_vec(), Some(12345)));
        assert_eq!((header.mode(), header.uid(), header.gid()), (Some(0o4755), Some(1000), Some(2_097_151)));
        assert_eq!((header.mtime(), header.device()), (Some(OCTAL_12_MAX as i64), Some((5, 1))));
    }
}
