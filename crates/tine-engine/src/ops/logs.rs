//! `logs`: the output of a box's background programs.

use super::status;
use crate::{LocalEngine, io_error};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{BoxKind, BoxRef, BoxStatus, Error, ErrorCode, LogsRequest, Reporter, Result};

/// The monitor keeps two files of at most 10 MiB, of programs and, in a vm box, of the kernel's console.
const FILES: [&str; 2] = ["log.1", "log"];
const CONSOLE_FILES: [&str; 2] = ["console.1", "console"];
/// How often a followed log is looked at.
const PERIOD: Duration = Duration::from_millis(50);

pub fn run(
    engine: &LocalEngine,
    name: &BoxRef,
    request: &LogsRequest,
    out: &mut dyn Write,
    reporter: &dyn Reporter,
) -> Result<()> {
    let pool = engine.pool()?;
    let files = files(&pool.box_meta(name)?.kind, request, name)?;
    let run_dir = pool.box_run_path(name);
    let folder = run_dir.parent().map_or_else(|| run_dir.clone(), PathBuf::from);
    let (text, end) = read_all(&folder, files)?;
    write(out, last_lines(&text, request.tail))?;
    if !request.follow {
        return Ok(());
    }
    let running = || status(&pool, name).is_ok_and(|s| s != BoxStatus::Stopped);
    follow(&folder.join(files[1]), end, out, &|| !reporter.is_cancelled() && running())
}

fn files(kind: &BoxKind, request: &LogsRequest, name: &BoxRef) -> Result<[&'static str; 2]> {
    match (request.console, kind) {
        (false, _) => Ok(FILES),
        (true, BoxKind::Vm) => Ok(CONSOLE_FILES),
        (true, BoxKind::Container) => {
            let message = format!("box {name} is a container and has no console");
            Err(Error::new(ErrorCode::WrongState, message).hint(format!("tine logs {name}")))
        }
    }
}

/// Everything there is, and how long the newer file was.
fn read_all(folder: &Path, files: [&str; 2]) -> Result<(Vec<u8>, u64)> {
    let (mut text, mut end) = (Vec::new(), 0);
    for name in files {
        let path = folder.join(name);
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut text)) {
            Ok(length) => end = length as u64,
            Err(error) if error.kind() == io::ErrorKind::NotFound => end = 0,
            Err(error) => return Err(io_error("read", &path, &error)),
        }
    }
    Ok((text, end))
}

fn last_lines(text: &[u8], count: Option<u32>) -> &[u8] {
    let Some(count) = count else { return text };
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut starts = body.iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    match count {
        0 => &[],
        count => starts.nth(count as usize - 1).map_or(text, |start| &text[start..]),
    }
}

fn write(out: &mut dyn Write, text: &[u8]) -> Result<()> {
    out.write_all(text).and_then(|()| out.flush()).map_err(|e| io_error("write", Path::new("the log"), &e))
}

/// Copies what is appended until `wanted` says no. A file that became shorter was begun anew.
fn follow(path: &Path, mut position: u64, out: &mut dyn Write, wanted: &dyn Fn() -> bool) -> Result<()> {
    loop {
        let last_round = !wanted();
        if let Ok(mut file) = File::open(path) {
            let length = file.metadata().map(|m| m.len()).unwrap_or(position);
            position = if length < position { 0 } else { position };
            let mut text = Vec::new();
            let read = file.seek(SeekFrom::Start(position)).and_then(|_| file.read_to_end(&mut text));
            position += read.map_err(|e| io_error("read", path, &e))? as u64;
            write(out, &text)?;
        }
        if last_round {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        let text = b"one\ntwo\nthree\n";
        for (count, expected) in [
            (Some(0), ""),
            (Some(1), "three\n"),
            (Some(2), "two\nthree\n"),
            (Some(9), "one\ntwo\nthree\n"),
            (None, "one\ntwo\nthree\n"),
        ] {
            assert_eq!(last_lines(text, count), expected.as_bytes(), "{count:?}");
        }
        assert_eq!(last_lines(b"one\ntwo", Some(1)), b"two");
        assert_eq!(last_lines(b"", Some(1)), b"");
    }
}
