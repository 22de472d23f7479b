//! `measure FILE [LEVEL…]`: how fast stretches, frames and digests of a memory file are on this machine.
//!
//! Each row is the best of five. `zstd -T0` beside it measures the program by its own.

use std::{
    env,
    error::Error,
    fs::File,
    io::{BufRead, Write},
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};
use tine_pack::{
    frames::{Compression, FrameReader, FrameWriter},
    pages::{Stretches, stored},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let path = arguments.next().ok_or("usage: measure FILE [LEVEL…]")?;
    let levels = arguments.map(|level| level.parse()).collect::<Result<Vec<i32>, _>>()?;
    let file = File::open(&path)?;
    let stretches = stored(&file)?;
    let bytes = stretches.iter().map(|s| s.length).sum::<u64>();
    println!("{path}: {} bytes in {} stretches", bytes, stretches.len());
    row("stretches", bytes, best(|| drop(stored(&file))));
    row("digest of data", bytes, best(|| drop(tine_digest::of_data(&file))));
    let levels = levels.iter().map(|level| (format!("level {level}"), Compression::level(*level)));
    for (name, compression) in [("packs".to_owned(), Compression::PACK)].into_iter().chain(levels) {
        streams(&name, compression, &file, &stretches)?;
    }
    Ok(())
}

fn streams(
    name: &str,
    compression: Compression,
    file: &File,
    stretches: &Stretches,
) -> Result<(), Box<dyn Error>> {
    let threads = thread::available_parallelism()?.get();
    let bytes = stretches.iter().map(|s| s.length).sum::<u64>();
    let stored = frames(file, stretches, compression, threads)?;
    println!("{name}: {} bytes, {:.3} of content", stored.len(), stored.len() as f64 / bytes as f64);
    row("  written", bytes, best(|| drop(frames(file, stretches, compression, threads))));
    row("  read", bytes, best(|| drop(read(&stored, threads))));
    Ok(())
}

fn best(mut run: impl FnMut()) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    };
    (0..5).map(time).min().unwrap_or_default()
}

fn row(what: &str, bytes: u64, time: Duration) {
    let rate = bytes as f64 / time.as_secs_f64() / 1e6;
    println!("{what:16} {:7.3} s {rate:6.0} MB/s", time.as_secs_f64());
}

/// The data of a file as frames.
fn frames(
    file: &File,
    stretches: &Stretches,
    compression: Compression,
    threads: usize,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut writer = FrameWriter::new(Vec::new(), compression, threads)?;
    for stretch in stretches {
        let (mut at, end) = (stretch.offset, stretch.offset + stretch.length);
        while at < end {
            let room = writer.room()?;
            let part = room.len().min((end - at) as usize).min(256 << 10);
            file.read_exact_at(&mut room[..part], at)?;
            writer.filled(part);
            at += part as u64;
        }
    }
    writer.flush()?;
    Ok(writer.finish()?.0)
}

fn read(stored: &[u8], threads: usize) -> Result<u64, Box<dyn Error>> {
    thread::scope(|scope| {
        let mut reader = FrameReader::new(scope, stored, threads)?;
        let mut bytes = 0;
        loop {
            let piece = reader.fill_buf()?.len();
            if piece == 0 {
                return Ok(bytes);
            }
            bytes += piece as u64;
            reader.consume(piece);
        }
    })
}
