//! What is written: its bytes, its boundaries, its end.

use crate::support::{LENGTHS, content, noise, read, table, written, zstd};
use std::io::{self, Write};
use tine_pack::{
    PackError,
    frames::{Compression, FRAME_MAX, FrameWriter},
};

#[test]
fn content_of_any_length_comes_back() {
    for length in LENGTHS {
        let content = content(length, 7);
        let (stored, stats) = written(&content, 2);
        assert!(read(&stored).unwrap() == content, "{length}");
        assert_eq!(stats.frames, length.div_ceil(FRAME_MAX) as u64);
        assert_eq!((stats.content_bytes, stats.stored_bytes), (length as u64, stored.len() as u64));
    }
}

#[test]
fn the_zstd_program_opens_it_and_sees_sizes() {
    for length in LENGTHS {
        let content = noise(length, 3);
        assert!(zstd(&["-dc"], &written(&content, 2).0) == content, "{length}");
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_how_they_come() {
    let content = content(20 << 20, 5);
    let one = written(&content, 1).0;
    for threads in [2, 3, 16, 1000] {
        assert!(written(&content, threads).0 == one, "{threads}");
    }
    let mut writer = FrameWriter::new(Vec::new(), Compression::level(3), 2).unwrap();
    for piece in content.chunks(123_457) {
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
    }
    assert!(writer.finish().unwrap().0 == one);
    let mut writer = FrameWriter::new(Vec::new(), Compression::level(3), 2).unwrap();
    let mut rest = &content[..];
    while !rest.is_empty() {
        let room = writer.room().unwrap();
        let part = room.len().min(rest.len()).min(1_000_000);
        room[..part].copy_from_slice(&rest[..part]);
        writer.filled(part);
        rest = &rest[part..];
    }
    assert!(writer.finish().unwrap().0 == one);
}

#[test]
fn a_frame_of_evenly_spread_bytes_is_compressed_as_its_own_content_says_whatever_comes_before_it() {
    let written = |compression, threads, frames: &[&[u8]]| {
        let mut writer = FrameWriter::new(Vec::new(), compression, threads).unwrap();
        for frame in frames {
            writer.write_all(frame).unwrap();
            writer.boundary().unwrap();
        }
        writer.finish_without_table().unwrap()
    };
    let text = content(FRAME_MAX, 9);
    // noise, of which there is something to find
    let even = [noise(FRAME_MAX / 2, 5), noise(FRAME_MAX / 2, 5)].concat();
    let alone = [&text, &even].map(|frame| written(Compression::PACK, 1, &[frame]));
    assert!(alone[1] == written(Compression::level(1), 1, &[&even]));
    assert!(alone[0] != written(Compression::level(1), 1, &[&text]));
    let [a, b] = &alone;
    let wanted = [a, b, b, a, b].map(Vec::as_slice).concat();
    for threads in [1, 2, 3] {
        let stored = written(Compression::PACK, threads, &[&text, &even, &even, &text, &even]);
        assert!(stored == wanted, "{threads}");
    }
}

#[test]
fn a_boundary_begins_a_frame_and_frames_can_be_read_alone() {
    let content = content(3 * FRAME_MAX, 11);
    let cuts = [0, 512, 512, FRAME_MAX + 512, FRAME_MAX + 513, 3 * FRAME_MAX];
    let mut writer = FrameWriter::new(Vec::new(), Compression::level(3), 2).unwrap();
    for pair in cuts.windows(2) {
        writer.write_all(&content[pair[0]..pair[1]]).unwrap();
        writer.boundary().unwrap();
        writer.boundary().unwrap();
    }
    let (stored, stats) = writer.finish().unwrap();
    let table = table(&stored);
    let lengths: Vec<usize> = table.frames().iter().map(|frame| frame.content as usize).collect();
    assert_eq!(lengths, [512, FRAME_MAX, 1, FRAME_MAX, FRAME_MAX - 513]);
    assert_eq!(stats.frames, 5);
    for frame in table.frames() {
        let alone = &stored[frame.offset as usize..][..frame.stored as usize];
        let expected = &content[frame.content_offset as usize..][..frame.content as usize];
        assert!(read(alone).unwrap() == expected);
        assert!(zstd(&["-dc"], alone) == expected);
        assert_eq!(table.find(frame.content_offset), Some(frame));
    }
}

#[test]
fn zeros_take_nearly_nothing_and_are_as_any_other_content() {
    let mut content = vec![0; 40 * FRAME_MAX + 5];
    content[17 * FRAME_MAX + 1] = 1;
    let stored = written(&content, 2).0;
    assert!(stored.len() < 41 * 600, "{}", stored.len());
    assert!(read(&stored).unwrap() == content);
    assert!(zstd(&["-dc"], &stored) == content);
}

/// Takes so many bytes and then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.len().min(self.0);
        self.0 -= part;
        if part == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(part) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_is_said_and_nothing_is_written_after_it() {
    let content = noise(FRAME_MAX, 1);
    for room in [0, 1, FRAME_MAX + 100, 5 * FRAME_MAX] {
        let mut writer = FrameWriter::new(Full(room), Compression::level(1), 2).unwrap();
        let failed = (0..12).find_map(|_| writer.write_all(&content).err()).unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(writer.write_all(b"more").is_err() || writer.boundary().is_err());
        assert!(writer.finish().is_err());
    }
    // room for the frame, not for the table
    let stored = written(b"abc", 1).0.len();
    let mut writer = FrameWriter::new(Full(stored - 1), Compression::level(3), 1).unwrap();
    writer.write_all(b"abc").unwrap();
    let Err(PackError::Io { source, .. }) = writer.finish() else { panic!("it is full") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn threads_end_when_it_is_dropped_half_way() {
    let before = threads();
    for full in 0..5 {
        let mut writer = FrameWriter::new(Vec::new(), Compression::level(3), 3).unwrap();
        writer.write_all(&noise(full * FRAME_MAX + 100, 1)).unwrap();
        drop(writer);
    }
    assert_eq!(threads(), before);
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
