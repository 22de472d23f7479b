//! Frames on a stream of bytes that may begin, break off and go on anywhere: each is COBS-encoded, so that a zero byte
//! is nothing but the end of a frame, and carries a CRC-32 of what is in it.
//!
//! Whatever does not decode is dropped up to the next zero byte. Knows nothing of what is in a frame.

use crate::error::{AgentError, AgentResult};

/// The largest content of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 60 << 10;
/// The largest frame on the wire, without the zero byte that ends it.
pub const MAX_FRAME: usize = encoded_len(MAX_PAYLOAD + CHECKSUM);
/// What ends every frame; sent alone it makes whatever came before it a broken frame.
pub const END: u8 = 0;

const CHECKSUM: usize = 4;

/// At most so many bytes do `length` bytes become.
const fn encoded_len(length: usize) -> usize {
    length + length / 254 + 1
}

/// Appends a frame whose content is `parts` one after another.
///
/// # Errors
/// [`AgentError::TooLarge`] above [`MAX_PAYLOAD`]; nothing is appended then.
pub fn append(out: &mut Vec<u8>, parts: &[&[u8]]) -> AgentResult<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > MAX_PAYLOAD {
        return Err(AgentError::TooLarge("a message"));
    }
    let start = out.len();
    out.resize(start + encoded_len(length + CHECKSUM), 0);
    let too_large = |_| AgentError::TooLarge("a message");
    let mut encoder = cobs::CobsEncoder::new(&mut out[start..]);
    let mut checksum = crc32fast::Hasher::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        checksum.update(part);
        encoder.push(part).map_err(too_large)?;
    }
    encoder.push(&checksum.finalize().to_le_bytes()).map_err(too_large)?;
    let written = encoder.finalize();
    out.truncate(start + written);
    out.push(END);
    Ok(())
}

/// Takes a stream of bytes apart into the contents of frames.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What has come of the frame that is not yet ended.
    frame: Vec<u8>,
    /// Set while the frame is longer than any may be: the rest of it is passed over.
    overlong: bool,
    /// Set once `frame` has been opened: what comes next is another frame.
    spent: bool,
    dropped: u64,
}

impl Decoder {
    /// One that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many frames were dropped because they were broken.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The content of the next whole frame; takes from the front of `input` what it has looked at. None when `input`
    /// is used up.
    pub fn next<'d>(&'d mut self, input: &mut &[u8]) -> Option<&'d [u8]> {
        loop {
            let length = self.gather(input)?;
            match length {
                Some(length) => return self.frame.get(..length),
                None => self.dropped = self.dropped.saturating_add(1),
            }
        }
    }

    /// Moves bytes up to the end of a frame; the inner answer is none for a frame that is broken, and the outer one
    /// while the frame has no end.
    fn gather(&mut self, input: &mut &[u8]) -> Option<Option<usize>> {
        if std::mem::take(&mut self.spent) {
            self.frame.clear();
        }
        loop {
            let bytes = *input;
            let end = bytes.iter().position(|byte| *byte == END);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            *input = rest.get(1..).unwrap_or_default();
            self.keep(piece);
            end?;
            // Zero bytes one after another are no frames.
            if self.overlong || !self.frame.is_empty() {
                return Some(self.open());
            }
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        self.overlong |= self.frame.len() + piece.len() > MAX_FRAME;
        if self.overlong {
            self.frame.clear();
        } else {
            self.frame.extend_from_slice(piece);
        }
    }

    /// The length of what is in the ended frame; none when it is broken.
    fn open(&mut self) -> Option<usize> {
        self.spent = true;
        if std::mem::take(&mut self.overlong) {
            return None;
        }
        let length = cobs::decode_in_place(&mut self.frame).ok()?;
        let (content, checksum) = self.frame.get(..length)?.split_last_chunk::<CHECKSUM>()?;
        let whole = crc32fast::hash(content) == u32::from_le_bytes(*checksum);
        whole.then_some(content.len()).filter(|n| *n <= MAX_PAYLOAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out, &[content]).unwrap();
        out
    }

    /// Everything that comes out of `stream` when it arrives in pieces of these sizes.
    fn received(stream: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let (mut decoder, mut found, mut rest) = (Decoder::new(), Vec::new(), stream);
        for size in sizes.iter().cycle().map(|size| size % 97 + 1) {
            let (mut piece, after) = rest.split_at(size.min(rest.len()));
            while let Some(content) = decoder.next(&mut piece) {
                found.push(content.to_vec());
            }
            assert!(piece.is_empty());
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        found
    }

    #[test]
    fn the_largest_frame_fits_and_a_larger_one_is_neither_sent_nor_kept() {
        let largest = vec![7; MAX_PAYLOAD];
        let frame = framed(&largest);
        assert_eq!(frame.len(), MAX_FRAME + 1);
        const { assert!(MAX_FRAME < 64 << 10) };
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut frame.as_slice()), Some(largest.as_slice()));
        let mut out = Vec::new();
        assert!(append(&mut out, &[&largest, b"x"]).is_err() && out.is_empty());
        let mut long: &[u8] = &vec![1; 1 << 20];
        assert_eq!(decoder.next(&mut long), None);
        assert!(decoder.frame.len() <= MAX_FRAME, "what is too long is not kept");
        let after = [&[END][..], &framed(b"after")].concat();
        assert_eq!(decoder.next(&mut after.as_slice()), Some(&b"after"[..]));
        assert_eq!(decoder.dropped(), 1);
    }

    #[test]
    fn one_flipped_bit_anywhere_loses_the_frame_and_only_it() {
        let frame = framed(b"some content\0with a zero");
        for bit in 0..(frame.len() - 1) * 8 {
            let mut broken = frame.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            broken.extend(framed(b"next"));
            assert_eq!(received(&broken, &[96]).last().unwrap(), b"next");
            assert!(!received(&broken, &[96]).contains(&b"some content\0with a zero".to_vec()), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..6),
            sizes in prop::collection::vec(any::<usize>(), 1..8),
        ) {
            let stream: Vec<u8> = contents.iter().flat_map(|content| framed(content)).collect();
            prop_assert_eq!(received(&stream, &sizes), contents);
        }

        #[test]
        fn parts_are_joined(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..5)) {
            let mut out = Vec::new();
            append(&mut out, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(received(&out, &[96]), vec![parts.concat()]);
        }

        #[test]
        fn garbage_and_a_zero_byte_never_cost_the_frame_after_them(
            garbage in prop::collection::vec(any::<u8>(), 0..2000),
            cut in any::<prop::sample::Index>(),
            sizes in prop::collection::vec(any::<usize>(), 1..8),
        ) {
            let broken_off = framed(&garbage);
            let stream = [&garbage[..], &broken_off[..cut.index(broken_off.len())], &[END], &framed(b"frame")].concat();
            let found = received(&stream, &sizes);
            prop_assert_eq!(found.last().map(Vec::as_slice), Some(&b"frame"[..]));
        }
    }
}
