//! Streams that are damaged or made to harm.

use crate::support::{Random, content, noise, read, written, zstd};
use std::{
    io::{self, Read},
    thread,
};
use tine_pack::{
    PackError,
    frames::{FRAME_MAX, FrameReader},
};

/// The error a stream is refused with.
fn refused(stored: &[u8]) -> String {
    let error = read(stored).expect_err("it is damaged");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<PackError>()), "{error:?}");
    error.to_string()
}

#[test]
fn a_stream_cut_off_anywhere_is_refused() {
    let content = content(3000, 1);
    let ours = written(&content, 1).0;
    let frame = ours.len() - 25;
    for stored in [ours, zstd(&["-3"], &content), zstd(&["--stream-size=3000"], &content)] {
        for length in (0..stored.len()).filter(|length| *length != frame) {
            assert_eq!(refused(&stored[..length]), "the zstd stream is cut off", "{length}");
        }
    }
}

#[test]
fn content_in_front_of_damage_is_handed_out() {
    let content = noise(3 * FRAME_MAX, 1);
    let mut stored = written(&content, 2).0;
    stored.truncate(2 * FRAME_MAX + 1000);
    thread::scope(|scope| {
        let mut reader = FrameReader::new(scope, &stored[..], 2).unwrap();
        let mut read = Vec::new();
        assert!(reader.read_to_end(&mut read).is_err());
        assert!(read == content[..2 * FRAME_MAX]);
        // and it stays an error
        assert!(reader.read(&mut [0; 10]).is_err());
    });
}

#[test]
fn bytes_that_are_no_frame_are_refused() {
    let good = written(b"content", 1).0;
    for garbage in
        [&b"\0\0\0\0\0\0\0\0"[..], b"garbage", &[0x28, 0xb5, 0x2f, 0xfc, 0], &[0x60, 0x2a, 0x4d, 0x18]]
    {
        let why = "there are bytes that are no zstd frame";
        assert_eq!(refused(&[&good[..], garbage].concat()), why);
        assert_eq!(refused(&[garbage, &good[..]].concat()), why);
    }
    assert_eq!(refused(&[&good[..], &[7]].concat()), "the zstd stream is cut off");
}

#[test]
fn no_flipped_bit_of_a_frame_makes_it_longer_or_panics() {
    let content = content(2000, 3);
    let stored = written(&content, 1).0;
    for at in 0..stored.len() {
        for bit in 0..8 {
            let mut bad = stored.clone();
            bad[at] ^= 1 << bit;
            // frames have no checksum: some flips change content, which digests must find
            assert!(read(&bad).is_err() || read(&bad).unwrap().len() <= FRAME_MAX, "{at} {bit}");
        }
    }
}

#[test]
fn random_bytes_behind_a_magic_number_do_no_harm() {
    let mut random = Random(42);
    for seed in 0..3000 {
        let length = random.below(200) as usize;
        let stored = [&[0x28, 0xb5, 0x2f, 0xfd][..], &noise(length, seed)].concat();
        let _ = read(&stored);
    }
}

/// A frame's header: flags, window, content size.
fn frame(rest: &[u8]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd][..], rest].concat()
}

#[test]
fn a_frame_that_holds_more_or_less_than_it_says_is_refused() {
    // single segment, content size in one byte; a last raw block of 3 bytes
    let said = |size: u8| frame(&[0x20, size, 0b1_1001, 0, 0, b'a', b'b', b'c']);
    assert_eq!(read(&said(3)).unwrap(), b"abc");
    for size in [0, 2, 4, 255] {
        assert!(refused(&said(size)).starts_with("a zstd frame is damaged"), "{size}");
    }
    // a large frame, whose size of 5 MiB is checked as well
    let large =
        |size: u32| [frame(&[0xa0]), size.to_le_bytes().to_vec(), vec![0b1_1001, 0, 0, 1, 2, 3]].concat();
    assert!(refused(&large(5 << 20)).starts_with("a zstd frame is damaged"));
}

#[test]
fn a_window_that_is_too_large_is_refused_by_its_size() {
    let content = noise(1000, 1);
    let large = zstd(&["--ultra", "-22", "--long=27"], &content);
    let expected = "a zstd frame needs a window of 134217728 bytes; at most 8388608 are given";
    assert_eq!(refused(&large), expected);
    // single segment: the window is the content
    let single = frame(&[0xe0, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(
        refused(&single),
        "a zstd frame needs a window of 1099511627776 bytes; at most 8388608 are given"
    );
    // 8 MiB and an eighth
    assert!(refused(&frame(&[0, 13 << 3 | 1, 1, 0, 0])).contains("window of 9437184 bytes"));
    assert!(read(&frame(&[0, 13 << 3, 1, 0, 0])).unwrap().is_empty());
}

#[test]
fn flags_dictionaries_and_blocks_that_cannot_be_are_refused() {
    assert_eq!(refused(&frame(&[0x28, 0, 1, 0, 0])), "a zstd frame has a flag that has no meaning");
    assert_eq!(refused(&frame(&[0x21, 9, 0, 1, 0, 0])), "a zstd frame needs a dictionary");
    for block in [[0b111, 0, 0], [0b001, 0, 0xff], [0b101, 0, 0x10 + 1]] {
        let stored = [frame(&[0x20, 0]), block.to_vec()].concat();
        assert_eq!(refused(&stored), "a zstd frame has a block that cannot be", "{block:?}");
    }
}

#[test]
fn a_stream_without_content_ends() {
    struct Endless(Vec<u8>, u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let period = self.0.len() as u64;
            for byte in buffer.iter_mut() {
                *byte = self.0[(self.1 % period) as usize];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }
    let empty_skippable = vec![0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    let large_skippable = [vec![0x50, 0x2a, 0x4d, 0x18, 255, 255, 255, 255], vec![0; 1 << 20]].concat();
    let empty_frame = frame(&[0x20, 0, 1, 0, 0]);
    for period in [empty_skippable, large_skippable, empty_frame] {
        thread::scope(|scope| {
            let mut reader = FrameReader::new(scope, Endless(period, 0), 2).unwrap();
            let error = reader.read(&mut [0; 1]).unwrap_err();
            assert!(error.to_string().contains("without content"), "{error}");
        });
    }
    // one frame, large or small, of blocks that hold nothing
    for head in [frame(&[0, 0x58]), frame(&[0x20, 9])] {
        let stored = [head, vec![0; 40 << 20]].concat();
        let why = refused(&stored);
        assert!(why.contains("without content") || why.contains("much longer than its content"), "{why}");
    }
}
