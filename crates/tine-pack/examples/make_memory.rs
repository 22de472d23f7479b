//! `make_memory SIZE_MIB ZERO_PERCENT OUT`: a file as a machine's memory is, the same for the same arguments.
//!
//! Runs of zero pages (holes) and of data alternate, both of random length. Data is what memory holds, page by page:
//! text, tables of pointers, small records, code-like bytes, noise; `zstd -3` makes about half of it.

use std::{env, error::Error, fs::File, io, os::unix::fs::FileExt};

const PAGE: usize = 4096;
const WORDS: [&str; 16] = [
    "static", "return", "error", "machine", "module", "import", "value", "index", "the", "of", "buffer",
    "python", "config", "name", "length", "object",
];

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound.max(1)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [mebibytes, percent, out] = &arguments[..] else {
        return Err("usage: make_memory SIZE_MIB ZERO_PERCENT OUT".into());
    };
    let (pages, percent): (u64, u64) = (mebibytes.parse::<u64>()? * 256, percent.parse()?);
    let file = File::create(out)?;
    file.set_len(pages * PAGE as u64)?;
    fill(&file, pages, percent.min(100))?;
    Ok(())
}

/// Writes runs of data, so that `percent` of the pages stay holes.
fn fill(file: &File, pages: u64, percent: u64) -> io::Result<()> {
    let mut random = Random(0x7469_6e65 ^ pages << 8 ^ percent);
    let (mut at, mut data) = (0, 0);
    while at < pages {
        // run lengths between 1 and 2048 pages, short ones more often
        let bound = 1 << random.below(12);
        let run = (1 + random.below(bound)).min(pages - at);
        if data * 100 < at * (100 - percent) || percent == 0 {
            let content: Vec<u8> = (0..run).flat_map(|_| page(&mut random)).collect();
            file.write_all_at(&content, at * PAGE as u64)?;
            data += run;
        }
        at += run;
    }
    Ok(())
}

/// One page of memory.
fn page(random: &mut Random) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE + 64);
    let kind = random.below(10);
    let heap = 0x7f00_0000_0000 + (random.below(64) << 20);
    while page.len() < PAGE {
        match kind {
            0..=2 => text(random, &mut page),
            3..=5 => pointers(random, heap, &mut page),
            6 => record(random, heap, &mut page),
            7..=8 => code(random, &mut page),
            _ => page.extend(random.next().to_le_bytes()),
        }
    }
    page.truncate(PAGE);
    page
}

fn text(random: &mut Random, page: &mut Vec<u8>) {
    let word = WORDS[random.below(16) as usize];
    match random.below(3) {
        0 => page.extend(format!("{word}_{:x} ", random.below(1 << 14)).bytes()),
        _ => page.extend(format!("{word} ").bytes()),
    }
}

/// Objects of 48 bytes: type, count, two pointers, a small number, padding.
fn pointers(random: &mut Random, heap: u64, page: &mut Vec<u8>) {
    page.extend((heap + 0x1000 * random.below(16)).to_le_bytes());
    page.extend((1 + random.below(8)).to_le_bytes());
    page.extend((heap + 16 * random.below(1 << 16)).to_le_bytes());
    page.extend((heap + 16 * random.below(1 << 16)).to_le_bytes());
    page.extend(random.below(4096).to_le_bytes());
    page.extend([0; 8]);
}

/// A floating point number beside a flag.
fn record(random: &mut Random, heap: u64, page: &mut Vec<u8>) {
    let number = (random.below(100_000) as f64) / 7.0 + (heap >> 20) as f64;
    page.extend(number.to_le_bytes());
    page.extend([1, 0, 0, 0, random.below(3) as u8, 0, 0, 0]);
}

/// Instructions: some opcodes often, operands hardly ever twice.
fn code(random: &mut Random, page: &mut Vec<u8>) {
    const OPCODES: [&[u8]; 8] = [
        &[0x48, 0x8b, 0x45],
        &[0x48, 0x89, 0xe5],
        &[0xe8],
        &[0x0f, 0x84],
        &[0x55],
        &[0xc3, 0x66, 0x90],
        &[0x48, 0x8d],
        &[0x31, 0xc0],
    ];
    page.extend(OPCODES[random.below(8) as usize]);
    let operand = random.next() as u32 >> (8 * random.below(4));
    let length = 1 + random.below(4) as usize;
    page.extend(&operand.to_le_bytes()[..length]);
}
