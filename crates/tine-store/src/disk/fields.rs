//! Numbers at fixed places of an on-disk structure.

use super::corrupt;
use crate::Result;

/// The bytes of a structure.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// `N` bytes.
    ///
    /// # Errors
    /// `Corrupt` past the end, as for every number.
    pub fn array<const N: usize>(self, at: usize) -> Result<[u8; N]> {
        self.bytes(at, N)?.try_into().map_err(|_| cut_short())
    }

    pub fn bytes(self, at: usize, length: usize) -> Result<&'a [u8]> {
        at.checked_add(length).and_then(|end| self.0.get(at..end)).ok_or_else(cut_short)
    }

    pub fn u8(self, at: usize) -> Result<u8> {
        self.array::<1>(at).map(|[byte]| byte)
    }

    pub fn le16(self, at: usize) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub fn le32(self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub fn be16(self, at: usize) -> Result<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub fn be32(self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub fn be64(self, at: usize) -> Result<u64> {
        self.array(at).map(u64::from_be_bytes)
    }

    /// A number whose halves lie apart.
    pub fn le32_pair(self, low: usize, high: usize) -> Result<u64> {
        Ok(u64::from(self.le32(low)?) | u64::from(self.le32(high)?) << 32)
    }
}

fn cut_short() -> crate::StoreError {
    corrupt("a structure is cut short")
}
