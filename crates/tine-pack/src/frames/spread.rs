//! Whether bytes are worth a search, told from a sample of them.

/// Places of the sample.
const PLACES: usize = 128;
/// Bytes at each place.
const SAMPLE: usize = 128;
/// Two bytes of the sample are equal one time in so many at least, or the content is not even. With all 256 values
/// alike it were one time in 256; machine code has some 30, text 15.
const EVEN: u64 = 42;

/// Whether the bytes are spread over nearly all values, as in what is compressed or encrypted already: little is to be
/// found in it. Looks at 16 KiB of it; content that is shorter than that never is.
///
/// Counts in whole numbers, so that every host comes to the same answer.
pub(super) fn is_even(content: &[u8]) -> bool {
    let step = content.len() / PLACES;
    if step < SAMPLE {
        return false;
    }
    let mut counts = [0_u32; 256];
    for place in content.chunks_exact(step).take(PLACES) {
        let middle = (step - SAMPLE) / 2;
        for byte in place.iter().skip(middle).take(SAMPLE) {
            counts[usize::from(*byte)] += 1;
        }
    }
    let pairs: u64 = counts.iter().map(|n| u64::from(*n).pow(2)).sum();
    pairs * EVEN <= ((PLACES * SAMPLE) as u64).pow(2)
}

#[cfg(test)]
mod tests {
    use super::is_even;
    use sha2::{Digest, Sha256};

    /// Bytes without order, the same each time.
    fn noise(length: usize) -> Vec<u8> {
        (0_u32..).flat_map(|n| Sha256::digest(n.to_le_bytes())).take(length).collect()
    }

    #[test]
    fn noise_is_even_and_what_people_and_compilers_write_is_not() {
        assert!(is_even(&noise(1 << 20)));
        let text = include_bytes!("write.rs").repeat(20);
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_even(&text) && !is_even(&program) && !is_even(&vec![7; 1 << 20]));
    }

    #[test]
    fn half_of_it_is_not_enough_and_neither_is_a_short_piece() {
        let mut half = noise(1 << 20);
        half.get_mut(1 << 19..).unwrap().fill(0);
        assert!(!is_even(&half));
        assert!(is_even(&noise(1 << 14)) && !is_even(&noise((1 << 14) - 1)) && !is_even(&[]));
    }
}
