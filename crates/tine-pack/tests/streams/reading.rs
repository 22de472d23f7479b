//! Streams of other writers, and readers that stop early.

use crate::support::{content, noise, read, read_with, written, zstd};
use std::{
    io::{BufRead, Read},
    thread,
};
use tine_pack::frames::{FRAME_MAX, FrameReader};

/// More than two frames of ours, and more than the largest window.
const LENGTH: usize = (9 << 20) + 1;

#[test]
fn what_the_zstd_program_writes_is_read() {
    let content = content(LENGTH, 9);
    for arguments in [
        &["-3"][..],
        &["-1", "--no-check"],
        &["-19"],
        &["-T0", "-3"],
        &["-T2", "-B1M", "-3"],
        &["--long=23", "-3"],
        &["-3", "--stream-size=9437185"],
        &["-3", "--rsyncable", "-T2"],
    ] {
        assert!(read(&zstd(arguments, &content)).unwrap() == content, "{arguments:?}");
    }
    for length in [0, 1, 100, 300, 70_000, FRAME_MAX, FRAME_MAX + 1] {
        let content = &content[..length];
        for arguments in [&["-3"][..], &["-19", "--no-check"], &[&format!("--stream-size={length}"), "-5"]] {
            assert!(read(&zstd(arguments, content)).unwrap() == content, "{arguments:?} {length}");
        }
    }
}

#[test]
fn frames_of_all_kinds_may_follow_each_other() {
    let (small, large) = (content(1000, 1), noise(9 << 20, 2));
    let skippable =
        [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9][..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]];
    let parts = [
        skippable.concat(),
        zstd(&["-3"], &small),
        written(&large, 2).0,
        zstd(&["-3"], &large),
        zstd(&["-3"], b""),
        skippable.concat(),
        zstd(&["-3", "--stream-size=1000"], &small),
    ];
    let expected = [&small[..], &large, &large, &small].concat();
    for threads in [1, 2, 7] {
        assert!(read_with(&parts.concat(), threads).unwrap() == expected);
    }
    assert!(read(&skippable.concat()).unwrap().is_empty());
}

/// Gives a byte at a time, with interruptions.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let part = buffer.len().min(1);
        (&mut self.0).take(part as u64).read(buffer)
    }
}

#[test]
fn a_stream_that_comes_in_drops_is_read() {
    let content = content(300_000, 4);
    for stored in [written(&content, 1).0, zstd(&["-3"], &content)] {
        let read = thread::scope(|scope| {
            let mut read = Vec::new();
            let mut reader = FrameReader::new(scope, Slow(&stored, false), 2).unwrap();
            reader.read_to_end(&mut read).unwrap();
            assert_eq!(reader.consumed(), stored.len() as u64);
            read
        });
        assert!(read == content);
    }
}

#[test]
fn threads_end_when_it_is_dropped_half_way() {
    let content = noise(40 << 20, 1);
    for stored in [written(&content, 2).0, zstd(&["-1", "--no-check"], &content)] {
        for pieces in 0..4 {
            // the scope would wait for ever for a thread that does not end
            thread::scope(|scope| {
                let mut reader = FrameReader::new(scope, &stored[..], 2).unwrap();
                for _ in 0..pieces {
                    let piece = reader.fill_buf().unwrap().len();
                    reader.consume(piece);
                }
                assert!(reader.consumed() < stored.len() as u64);
            });
        }
    }
}
