//! Content, streams and the `zstd` program.

use std::{
    io::{self, Read, Write},
    process::{Command, Stdio},
    thread,
};
use tine_pack::frames::{Compression, FRAME_MAX, FrameReader, FrameStats, FrameWriter, SeekTable};

/// Pseudo-random numbers, the same for the same seed (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Content that zstd makes smaller, but not nothing.
pub fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed | 1);
    let mut content = Vec::with_capacity(length + 64);
    while content.len() < length {
        match random.below(4) {
            0 => content.extend(random.next().to_le_bytes()),
            1 => content.extend([0; 40]),
            2 => content.extend(format!("entry {} of the table\n", random.below(1000)).bytes()),
            _ => content.extend(random.below(1 << 20).to_le_bytes()),
        }
    }
    content.truncate(length);
    content
}

/// Content that nothing makes smaller.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed | 1);
    let mut content: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    content.truncate(length);
    content
}

pub fn written(content: &[u8], threads: usize) -> (Vec<u8>, FrameStats) {
    let mut writer = FrameWriter::new(Vec::new(), Compression::level(3), threads).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

pub fn read_with(stored: &[u8], threads: usize) -> io::Result<Vec<u8>> {
    thread::scope(|scope| {
        let mut content = Vec::new();
        FrameReader::new(scope, stored, threads)?.read_to_end(&mut content)?;
        Ok(content)
    })
}

pub fn read(stored: &[u8]) -> io::Result<Vec<u8>> {
    read_with(stored, 2)
}

pub fn table(stored: &[u8]) -> SeekTable {
    SeekTable::parse(stored, stored.len() as u64).unwrap()
}

/// What the `zstd` program makes of `input`.
pub fn zstd(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("zstd");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program zstd");
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "zstd {arguments:?}");
    output.stdout
}

/// Lengths around what can go wrong.
pub const LENGTHS: [usize; 14] = [
    0,
    1,
    255,
    256,
    257,
    65_535,
    65_792,
    (128 << 10) + 1,
    FRAME_MAX - 1,
    FRAME_MAX,
    FRAME_MAX + 1,
    2 * FRAME_MAX,
    3 * FRAME_MAX - 7,
    9 * FRAME_MAX + 12_345,
];
