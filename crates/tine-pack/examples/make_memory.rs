//! `make_memory SIZE_MIB ZERO_PERCENT OUT`: a file as a machine's memory is, the same for the same arguments.
//!
//! Runs of zero pages (holes) and of data alternate, both of random length. Data is what memory holds, page by page:
//! text, tables of pointers, numbers, code, and what is compressed already; `zstd -3` makes about half of it.

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
    let kind = random.below(20);
    let heap = 0x7f00_0000_0000 + (random.below(64) << 20) + (random.below(256) << 12);
    while page.len() < PAGE {
        match kind {
            0..=4 => text(random, &mut page),
            5..=9 => objects(random, heap, &mut page),
            10 => numbers(random, &mut page),
            11..=13 => code(random, &mut page),
            _ => page.extend(random.next().to_le_bytes()),
        }
    }
    page.truncate(PAGE);
    page
}

/// One of some hundred phrases and a name.
fn text(random: &mut Random, page: &mut Vec<u8>) {
    let mut phrase = Random(1 + random.below(300));
    for _ in 0..3 + phrase.next() % 5 {
        page.extend(WORDS[(phrase.next() >> 20) as usize % 16].bytes());
        page.push(b' ');
    }
    page.extend(format!("{}_{:x}\n", WORDS[random.below(16) as usize], random.below(1 << 12)).bytes());
}

/// An object of 48 bytes: references, type, a pointer to the next, one to anywhere, a small number, nothing.
fn objects(random: &mut Random, heap: u64, page: &mut Vec<u8>) {
    let next = heap + page.len() as u64 + 48;
    let anywhere = heap + 16 * random.below(1 << 14);
    let kind = 0x5500_0010_0000 + 0x1a0 * random.below(6);
    for word in [1, kind, next, anywhere, random.below(64), 0] {
        page.extend(word.to_le_bytes());
    }
}

/// A measured value.
fn numbers(random: &mut Random, page: &mut Vec<u8>) {
    page.extend((20.0 + random.below(10_000) as f64 / 1000.0).to_le_bytes());
}

/// One of some hundred short runs of instructions, and an operand.
fn code(random: &mut Random, page: &mut Vec<u8>) {
    let mut run = Random(1000 + random.below(400));
    let length = 4 + (run.next() >> 20) as usize % 20;
    page.extend((0..length).map(|_| (run.next() >> 24) as u8));
    page.extend(&random.next().to_le_bytes()[..1 + length % 4]);
}
