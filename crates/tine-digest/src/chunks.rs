//! Sums of chunks, and the digest they make. Reads nothing.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tine_model::Sha256Digest;

/// Bytes of a page, the least that counts or does not.
pub const PAGE: usize = 4096;
/// Bytes of a chunk, a whole number of pages.
pub const CHUNK: usize = 256 << 10;

static ZEROS: [u8; PAGE] = [0; PAGE];

/// The sum of one chunk that is not all zero.
pub type ChunkSum = [u8; 32];

/// Whether these bytes are all zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|page| ZEROS.get(..page.len()) == Some(page))
}

/// The sum of a chunk, by its content; none when that is all zero. The last chunk of a file may be shorter than [`CHUNK`].
#[must_use]
pub fn chunk_sum(content: &[u8]) -> Option<ChunkSum> {
    let counts = without_zeros_at_its_end(content);
    (!counts.is_empty()).then(|| *blake3::hash(counts).as_bytes())
}

/// The pages up to the last one that is not all zero.
fn without_zeros_at_its_end(content: &[u8]) -> &[u8] {
    let zeros = content.chunks(PAGE).rev().take_while(|page| is_zero(page)).map(<[u8]>::len).sum();
    content.len().checked_sub(zeros).and_then(|length| content.get(..length)).unwrap_or_default()
}

/// The sums of a file's chunks: 40 bytes for each 256 KiB that hold something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkSums(BTreeMap<u64, ChunkSum>);

impl ChunkSums {
    /// Those of a file that is all zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a chunk's sum; none for one that is all zero.
    pub fn set(&mut self, number: u64, sum: Option<ChunkSum>) {
        match sum {
            Some(sum) => self.0.insert(number, sum),
            None => self.0.remove(&number),
        };
    }

    /// The digest of the file.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        let mut hasher = Sha256::new();
        for (number, sum) in &self.0 {
            hasher.update(number.to_le_bytes());
            hasher.update(sum);
        }
        Sha256Digest(hasher.finalize().into())
    }
}

impl Extend<(u64, Option<ChunkSum>)> for ChunkSums {
    fn extend<T: IntoIterator<Item = (u64, Option<ChunkSum>)>>(&mut self, sums: T) {
        sums.into_iter().for_each(|(number, sum)| self.set(number, sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, straight.
    fn plain(content: &[u8]) -> Sha256Digest {
        let mut whole = Sha256::new();
        for (number, chunk) in content.chunks(CHUNK).enumerate() {
            let pages: Vec<&[u8]> = chunk.chunks(PAGE).collect();
            if let Some(last) = pages.iter().rposition(|page| page.iter().any(|byte| *byte != 0)) {
                whole.update((number as u64).to_le_bytes());
                whole.update(blake3::hash(&pages[..=last].concat()).as_bytes());
            }
        }
        Sha256Digest(whole.finalize().into())
    }

    fn summed(content: &[u8]) -> ChunkSums {
        let mut sums = ChunkSums::new();
        // in any order
        sums.extend(
            (0..)
                .zip(content.chunks(CHUNK))
                .map(|(n, c)| (n, chunk_sum(c)))
                .collect::<Vec<_>>()
                .into_iter()
                .rev(),
        );
        sums
    }

    proptest! {
        #[test]
        fn the_digest_is_the_one_defined(
            length in 0..3 * CHUNK,
            bytes in prop::collection::vec((0..3 * CHUNK, 1u8..), 0..20),
        ) {
            let mut content = vec![0; length];
            for (at, byte) in bytes.into_iter().filter(|(at, _)| *at < length) {
                content[at] = byte;
            }
            prop_assert_eq!(summed(&content).digest(), plain(&content));
        }
    }

    #[test]
    fn where_data_lies_and_every_bit_of_it_count() {
        let with = |at: usize, byte: u8| {
            let mut content = vec![0; 2 * CHUNK];
            content[at] = byte;
            summed(&content).digest()
        };
        let one = with(0, 1);
        for other in [with(1, 1), with(PAGE, 1), with(CHUNK, 1), with(0, 2), summed(&[]).digest()] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn zeros_behind_the_data_count_as_little_as_holes() {
        let data = [vec![0; PAGE], vec![7; PAGE]].concat();
        for zeros in [PAGE, CHUNK - 2 * PAGE, CHUNK, 3 * CHUNK + 1] {
            let longer = [data.clone(), vec![0; zeros]].concat();
            assert_eq!(summed(&longer), summed(&data));
        }
    }

    #[test]
    fn a_chunk_that_became_zero_counts_no_more() {
        let mut sums = summed(&vec![1; 2 * CHUNK]);
        sums.set(1, None);
        assert_eq!(sums, summed(&vec![1; CHUNK]));
    }
}
