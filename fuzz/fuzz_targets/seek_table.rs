//! The table of frames at the end of a stream: any bytes, and tables with any lengths in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tine_pack::frames::{FRAME_MAX, FRAMES_MAX, SeekTable};

fuzz_target!(|input: &[u8]| {
    if let Some((length, tail)) = input.split_first_chunk() {
        understood(tail, u64::from_le_bytes(*length));
    }
    let table = table(input);
    let stored: u64 = input.chunks_exact(8).filter_map(|entry| Some(number(entry.get(..4)?))).sum();
    understood(&table, stored + table.len() as u64);
});

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A table whose entries are the input.
fn table(input: &[u8]) -> Vec<u8> {
    let entries = &input[..input.len() / 8 * 8];
    let count = (entries.len() / 8) as u32;
    let mut table = [0x184d_2a5e_u32.to_le_bytes(), (8 * count + 9).to_le_bytes()].concat();
    table.extend_from_slice(entries);
    table.extend(count.to_le_bytes());
    table.push(0);
    table.extend(0x8f92_eab1_u32.to_le_bytes());
    table
}

/// Refused, or frames without gaps that fill the file.
fn understood(tail: &[u8], file_length: u64) {
    let Ok(table) = SeekTable::parse(tail, file_length) else { return };
    let frames = table.frames();
    assert!(frames.len() <= FRAMES_MAX);
    let (mut offset, mut content) = (0, 0);
    for frame in frames {
        assert_eq!((frame.offset, frame.content_offset), (offset, content));
        assert!(frame.content > 0 && frame.content as usize <= FRAME_MAX && frame.stored > 0);
        assert_eq!(table.find(content), Some(frame));
        offset += u64::from(frame.stored);
        content += u64::from(frame.content);
        assert_eq!(table.find(content - 1), Some(frame));
    }
    assert_eq!(table.find(content), None);
    assert_eq!(offset + (17 + 8 * frames.len()) as u64, file_length);
}
