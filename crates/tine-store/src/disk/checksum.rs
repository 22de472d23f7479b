//! CRC32c (Castagnoli) as ext4 and its journal use it: reflected, without the final inversion.

/// The polynomial 0x1EDC6F41 with its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

/// Goes on from `seed`, which is `!0` or the result for the bytes before.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(seed, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8))
}

/// As [`crc32c`] with `N` bytes at `at` taken as zero: where a structure holds its own checksum.
pub(super) fn crc32c_without<const N: usize>(seed: u32, bytes: &[u8], at: usize) -> u32 {
    let before = crc32c(seed, bytes.get(..at).unwrap_or(bytes));
    crc32c(crc32c(before, &[0; N]), bytes.get(at.saturating_add(N)..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_value_that_rfc_3720_gives() {
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(!0, b"1234"), b"56789"), crc32c(!0, b"123456789"));
        assert_eq!(crc32c_without::<2>(!0, b"12xx56", 2), crc32c(!0, b"12\0\x0056"));
    }
}
