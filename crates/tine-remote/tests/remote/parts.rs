//! Parts of a file, and looks at its ends: only what is wanted is sent, in any weather.

use crate::{
    nginx::Nginx,
    setup::{KIB, MIB, Memory, content, quick, request},
};
use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
    thread,
};
use tine_model::ErrorCode;
use tine_remote::{Download, DownloadRequest, Finished, Location, Remote, RemoteConfig, RemoteError};

const PARTS: [Range<u64>; 3] = [0..100 * KIB, 5 * MIB + 7..6 * MIB, 20 * MIB - 30 * KIB..20 * MIB];

fn wanted(data: &[u8]) -> Vec<u8> {
    PARTS.into_iter().flat_map(|part| data[part.start as usize..part.end as usize].to_vec()).collect()
}

/// What comes of a download of the parts, read while they come.
fn fetch_parts(url: &str, dir: &Path, memory: &Memory) -> (Result<Finished, RemoteError>, Vec<u8>) {
    let remote = Remote::new(RemoteConfig { block: MIB, sync_every: 64 * KIB, ..quick() }).unwrap();
    let location = Location::parse(url).unwrap();
    let wanted = DownloadRequest { parts: Some(&PARTS), ..request(&location, dir) };
    let download = Download::start(&remote, wanted, memory).unwrap();
    let mut reader = download.reader();
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        // what came before it failed is what counts
        let _ = reader.read_to_end(&mut read);
        read
    });
    let finished = download.finish(memory);
    (finished, reading.join().unwrap())
}

#[test]
fn nothing_else_is_sent() {
    let Some(nginx) = Nginx::start(|_| String::new()) else { return };
    let data = content(20 * MIB, 1);
    let url = nginx.put("pack", &data);
    let dir = tempfile::tempdir().unwrap();
    let (finished, read) = fetch_parts(&url, dir.path(), &Memory::default());
    let total: u64 = PARTS.iter().map(|part| part.end - part.start).sum();
    let finished = finished.unwrap();
    assert!(read == wanted(&data));
    assert_eq!((finished.stats.fetched, nginx.sent()), (total, total));
    // it is no whole file, and no later download takes it for one
    assert!(!dir.path().join("pack").exists());
    let whole = crate::setup::fetch(&url, dir.path()).unwrap();
    assert!(fs::read(&whole.path).unwrap() == data);
    assert_eq!((whole.stats.reused, whole.stats.fetched), (total, 20 * MIB - total));
    // and a whole file has all parts
    let (finished, read) = fetch_parts(&url, dir.path(), &Memory::default());
    let finished = finished.unwrap();
    assert!(read == wanted(&data));
    assert_eq!((finished.stats.fetched, nginx.sent()), (0, 20 * MIB));
    finished.discard();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn parts_are_gone_on_with() {
    let Some(nginx) = Nginx::start(|_| "limit_rate 1m;".to_owned()) else { return };
    let data = content(20 * MIB, 1);
    let url = nginx.put("pack", &data);
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory { cancel_at: 300 * KIB, ..Memory::default() };
    let (finished, read) = fetch_parts(&url, dir.path(), &memory);
    assert_eq!(finished.unwrap_err().code(), ErrorCode::Cancelled);
    assert!(wanted(&data).starts_with(&read) && read.len() < wanted(&data).len());
    let (finished, read) = fetch_parts(&url, dir.path(), &Memory::default());
    assert!(read == wanted(&data) && finished.unwrap().stats.reused >= 200 * KIB);
}

#[test]
fn a_server_without_ranges_sends_all_and_the_parts_are_read() {
    let Some(nginx) = Nginx::start(|_| "max_ranges 0;".to_owned()) else { return };
    let data = content(20 * MIB, 1);
    let url = nginx.put("pack", &data);
    let dir = tempfile::tempdir().unwrap();
    let (finished, read) = fetch_parts(&url, dir.path(), &Memory::default());
    assert!(read == wanted(&data));
    assert_eq!(finished.unwrap().stats.fetched, 20 * MIB);
    let remote = Remote::new(quick()).unwrap();
    assert!(remote.ranged(&Location::parse(&url).unwrap()).unwrap().is_none());
}

#[test]
fn a_file_that_is_too_short_for_its_parts_is_found_out() {
    let Some(nginx) = Nginx::start(|_| String::new()) else { return };
    let data = content(5 * MIB, 1);
    let url = nginx.put("pack", &data);
    let dir = tempfile::tempdir().unwrap();
    let (_, read) = fetch_parts(&url, dir.path(), &Memory::default());
    assert!(read == data[..100 * KIB as usize]);
}

#[test]
fn a_file_is_read_at_any_place_until_it_changes() {
    let Some(nginx) = Nginx::start(|_| String::new()) else { return };
    let data = content(MIB + 5, 1);
    let url = nginx.put("pack", &data);
    let remote = Remote::new(quick()).unwrap();
    let location = Location::parse(&url).unwrap();
    let mut file = remote.ranged(&location).unwrap().unwrap();
    let mut read = |from: SeekFrom, length: usize| {
        let at = file.seek(from)? as usize;
        let mut buffer = Vec::new();
        (&mut file).take(length as u64).read_to_end(&mut buffer)?;
        assert!(buffer == data[at..data.len().min(at + length)]);
        std::io::Result::Ok(buffer.len())
    };
    assert_eq!(read(SeekFrom::Start(0), 1000).unwrap(), 1000);
    assert_eq!(read(SeekFrom::End(-9), 100).unwrap(), 9);
    assert_eq!(read(SeekFrom::Start(500_000), 200_000).unwrap(), 200_000);
    assert_eq!(read(SeekFrom::Start(data.len() as u64), 1).unwrap(), 0);
    assert!(read(SeekFrom::End(-(data.len() as i64) - 1), 1).is_err());
    nginx.put("pack", &content(MIB + 6, 2));
    assert!(read(SeekFrom::Start(1), 1).unwrap_err().to_string().contains("changed"));
    let none = Location::parse(&format!("{url}.none")).unwrap();
    assert_eq!(remote.ranged(&none).unwrap_err().code(), ErrorCode::NotFound);
    nginx.put("empty", b"");
    let empty = Location::parse(&url.replace("/pack", "/empty")).unwrap();
    assert!(remote.ranged(&empty).unwrap().is_none());
}
