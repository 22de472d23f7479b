//! A zstd frame whose length depends on nothing but that of its content: blocks that are not compressed (RFC 8878,
//! section 3.1.1). So it can be written after what follows it.

const MAGIC: [u8; 4] = 0xfd2f_b528u32.to_le_bytes();
/// No content size, no checksum, no dictionary.
const DESCRIPTOR: u8 = 0;
/// A window of 128 KiB, the least that allows blocks of that size.
const WINDOW: u8 = (17 - 10) << 3;
const BLOCK_MAX: usize = 128 << 10;

/// `content` as a frame.
pub(super) fn frame(content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(content.len() + 64);
    frame.extend(MAGIC);
    frame.extend([DESCRIPTOR, WINDOW]);
    let mut blocks = content.chunks(BLOCK_MAX).peekable();
    while let Some(block) = blocks.next() {
        let last = usize::from(blocks.peek().is_none());
        // a block is shorter than 2^21 bytes
        let header = (block.len() << 3 | last) as u32;
        frame.extend(header.to_le_bytes().into_iter().take(3));
        frame.extend(block);
    }
    if content.is_empty() {
        frame.extend([1, 0, 0]);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_any_length_is_read_by_zstd() {
        for length in [0, 1, 511, BLOCK_MAX - 1, BLOCK_MAX, BLOCK_MAX + 1, 5 * BLOCK_MAX + 77] {
            let content: Vec<u8> = (0..length).map(|n| (n * n / 7) as u8).collect();
            let two = [frame(&content), frame(b"next")].concat();
            assert_eq!(zstd::decode_all(&two[..]).unwrap(), [&content[..], b"next"].concat());
        }
    }
}
