//! Downloads that are broken off, taken up again, done twice at once, and read while they come.

use crate::{
    bad_server::{BadServer, Request, send, send_all, serve},
    setup::{KIB, MIB, Memory, Server, content, fetch, fetch_with, quick, request, sha256},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::Ordering,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};
use tine_model::{ErrorCode, Silent};
use tine_remote::{Download, DownloadRequest, Expected, Location, Remote, RemoteConfig};

const SIZE: u64 = 4 * MIB + 77;

/// A good server that sends slowly: 16 KiB, then a pause.
fn slowly(request: &Request, stream: &mut TcpStream, data: &[u8], pause: Duration) {
    let Some((first, end)) = request.range() else { return serve(request, stream, data, "\"a\"") };
    let end = end.min(data.len() as u64);
    let headers = format!(
        "ETag: \"a\"\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/{}\r\n",
        end - first,
        end - 1,
        data.len()
    );
    send(stream, "206 Partial Content", &headers, b"");
    for chunk in data[first as usize..end as usize].chunks(16 << 10) {
        if stream.write_all(chunk).is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}

#[test]
fn cancelled_at_once_and_taken_up_again() {
    let data = content(SIZE, 3);
    let expected = data.clone();
    let server = BadServer::start(move |r, s| slowly(r, s, &data, Duration::from_millis(8)));
    let dir = tempfile::tempdir().unwrap();
    let memory = Memory { cancel_at: MIB, ..Memory::default() };
    let error = fetch_with(quick(), &server.url("/x"), dir.path(), &memory).unwrap_err();
    let took = memory.cancelled.lock().unwrap().unwrap().elapsed();
    assert_eq!(error.code(), ErrorCode::Cancelled);
    // 200 ms are promised of a machine with time to spare
    assert!(took < Duration::from_secs(10), "{took:?}");
    let done = fetch(&server.url("/x"), dir.path()).unwrap();
    assert!(std::fs::read(&done.path).unwrap() == expected);
    assert!(done.stats.reused >= MIB / 2, "{:?}", done.stats);
    assert_eq!(done.stats.reused + done.stats.fetched, SIZE);
}

#[test]
fn what_is_finished_is_not_fetched_again_while_the_server_has_the_same() {
    let (one, two) = (content(SIZE, 3), content(SIZE, 4));
    let first = one.clone();
    let second = two.clone();
    let changed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let now = std::sync::Arc::clone(&changed);
    let server = BadServer::start(move |r, s| match now.load(Ordering::SeqCst) {
        false => serve(r, s, &one, "\"one\""),
        true => serve(r, s, &two, "\"two\""),
    });
    let dir = tempfile::tempdir().unwrap();
    let mut held = fetch(&server.url("/x"), dir.path()).unwrap();
    let again = fetch(&server.url("/x"), dir.path()).unwrap();
    assert_eq!((again.stats.fetched, again.stats.reused), (0, SIZE));
    changed.store(true, Ordering::SeqCst);
    let newer = fetch(&server.url("/x"), dir.path()).unwrap();
    assert!(std::fs::read(&newer.path).unwrap() == second);
    // who holds the older one keeps it whole
    let mut kept = Vec::new();
    held.file.read_to_end(&mut kept).unwrap();
    assert!(kept == first);
}

#[test]
fn another_place_of_the_same_name_begins_anew_unless_the_digest_is_the_same() {
    let data = content(SIZE, 3);
    let digest = sha256(&data);
    let server = BadServer::start(move |r, s| slowly(r, s, &data, Duration::from_millis(8)));
    for (expected, reuses) in
        [(Expected::default(), false), (Expected { size: Some(SIZE), sha256: Some(digest) }, true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let remote = Remote::new(quick()).unwrap();
        let begin = |path: &str, memory: &Memory| {
            let location = Location::parse(&server.url(path)).unwrap();
            let asked = DownloadRequest { expected, ..request(&location, dir.path()) };
            Download::start(&remote, asked, memory).unwrap().finish(memory)
        };
        let memory = Memory { cancel_at: 2 * MIB, ..Memory::default() };
        assert_eq!(begin("/a", &memory).unwrap_err().code(), ErrorCode::Cancelled);
        let done = begin("/b", &Memory::default()).unwrap();
        assert_eq!(done.stats.reused > 0, reuses, "{:?}", done.stats);
        done.check_digest().unwrap();
    }
}

#[test]
fn a_file_without_a_version_is_never_patched_together() {
    let data = content(SIZE, 3);
    let expected = data.clone();
    let server = BadServer::start(move |r, s| {
        // nothing to tell versions by, and the first answer breaks
        let upto = if r.number == 0 { data.len() / 2 } else { data.len() };
        send(s, "200 OK", &format!("Content-Length: {}\r\n", data.len()), &data[..upto]);
    });
    let dir = tempfile::tempdir().unwrap();
    let done = fetch(&server.url("/x"), dir.path()).unwrap();
    assert!(std::fs::read(&done.path).unwrap() == expected);
    assert!(done.stats.fetched > SIZE);
}

#[test]
fn two_at_once_fetch_it_once() {
    let data = content(SIZE, 3);
    let server = BadServer::start(move |r, s| slowly(r, s, &data, Duration::from_millis(8)));
    let dir = tempfile::tempdir().unwrap();
    let memories = [Memory::default(), Memory::default()];
    let stats: Vec<_> = std::thread::scope(|scope| {
        let both = [0, 1].map(|i| {
            let (memory, server, dir) = (&memories[i], &server, &dir);
            scope.spawn(move || fetch_with(quick(), &server.url("/x"), dir.path(), memory).unwrap().stats)
        });
        both.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!(stats.iter().map(|s| s.fetched).sum::<u64>(), SIZE, "{stats:?}");
    let waited = |m: &Memory| m.notes.lock().unwrap().iter().any(|note| note.contains("waiting"));
    assert!(memories.iter().any(waited));
}

#[test]
fn who_waits_can_be_cancelled() {
    let data = content(SIZE, 3);
    let server = BadServer::start(move |r, s| slowly(r, s, &data, Duration::from_millis(5)));
    let dir = tempfile::tempdir().unwrap();
    let (remote, location) = (Remote::new(quick()).unwrap(), Location::parse(&server.url("/x")).unwrap());
    let first = Download::start(&remote, request(&location, dir.path()), &Silent).unwrap();
    let memory = Memory::default();
    memory.cancel.store(true, Ordering::SeqCst);
    let error = Download::start(&remote, request(&location, dir.path()), &memory).err().unwrap();
    assert_eq!(error.code(), ErrorCode::Cancelled);
    drop(first);
}

/// Lets a test say when a block may be sent.
fn gate() -> (Sender<()>, Mutex<Receiver<()>>) {
    let (open, wait) = channel();
    (open, Mutex::new(wait))
}

#[test]
fn a_reader_reads_what_is_here_before_the_rest_has_come() {
    let data = content(SIZE, 3);
    let expected = data.clone();
    let (open, wait) = gate();
    let server = BadServer::start(move |r, s| {
        if r.number > 0 {
            // one word opens the gate for good
            let _ = wait.lock().unwrap().recv();
        }
        serve(r, s, &data, "\"a\"");
    });
    let dir = tempfile::tempdir().unwrap();
    let config = RemoteConfig { idle_timeout: Duration::from_secs(30), ..quick() };
    let (remote, location) = (Remote::new(config).unwrap(), Location::parse(&server.url("/x")).unwrap());
    let digest = Expected { size: Some(SIZE), sha256: Some(sha256(&expected)) };
    let asked = DownloadRequest { expected: digest, ..request(&location, dir.path()) };
    let download = Download::start(&remote, asked, &Silent).unwrap();
    let mut reader = download.reader();
    let mut first = vec![0; 64 * KIB as usize];
    reader.read_exact(&mut first).unwrap();
    assert!(first == expected[..first.len()]);
    // another reader that goes away does no harm
    drop(download.reader());
    drop(open);
    std::thread::scope(|scope| {
        let rest = scope.spawn(move || {
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).map(|_| rest)
        });
        let done = download.finish(&Silent).unwrap();
        assert!(rest.join().unwrap().unwrap() == expected[first.len()..]);
        assert!(std::fs::read(done.path).unwrap() == expected);
    });
}

#[test]
fn a_reader_that_stands_still_holds_a_download_up_for_a_while_only() {
    let (data, size) = (content(14 * MIB + 5, 3), 14 * MIB + 5);
    let expected = data.clone();
    let server = BadServer::start(move |r, s| serve(r, s, &data, "\"a\""));
    let dir = tempfile::tempdir().unwrap();
    let config = RemoteConfig { block: 2 * MIB, ..quick() };
    let (remote, location) = (Remote::new(config).unwrap(), Location::parse(&server.url("/x")).unwrap());
    let asked = DownloadRequest { durable: false, ..request(&location, dir.path()) };
    let download = Download::start(&remote, asked, &Silent).unwrap();
    let mut reader = download.reader();
    let mut first = vec![0; 1000];
    reader.read_exact(&mut first).unwrap();
    let memory = Memory::default();
    let begun = Instant::now();
    let done = std::thread::scope(|scope| {
        let finishing = scope.spawn(|| download.finish(&memory));
        std::thread::sleep(Duration::from_millis(500));
        let half = memory.done.load(Ordering::SeqCst);
        assert!(half < size, "it goes no further than a reader is sure to follow: {half}");
        finishing.join().unwrap().unwrap()
    });
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    // what was not kept in memory is read from the disk
    reader.read_to_end(&mut first).unwrap();
    assert!(first == expected && std::fs::read(&done.path).unwrap() == expected);
    assert_eq!(done.stats.fetched, size);
}

#[test]
fn a_reader_hears_of_failure_and_of_change() {
    let data = content(SIZE, 3);
    let (open, wait) = gate();
    let server = BadServer::start(move |r, s| {
        if r.number == 0 {
            return serve(r, s, &data, "\"a\"");
        }
        let _ = wait.lock().unwrap().recv();
        match r.path.as_str() {
            "/fails" => send_all(s, "403 Forbidden", "", b"gone"),
            _ => serve(r, s, &data, "\"b\""),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = RemoteConfig { idle_timeout: Duration::from_secs(30), ..quick() };
    let remote = Remote::new(config).unwrap();
    let location = Location::parse(&server.url("/changes")).unwrap();
    let download = Download::start(&remote, request(&location, dir.path()), &Silent).unwrap();
    let mut reader = download.reader();
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(open);
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
    download.finish(&Silent).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let location = Location::parse(&server.url("/fails")).unwrap();
    let download = Download::start(&remote, request(&location, dir.path()), &Silent).unwrap();
    let error = download.reader().read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
    assert_eq!(download.finish(&Silent).unwrap_err().code(), ErrorCode::Forbidden);
}

#[test]
fn a_download_that_is_dropped_leaves_what_it_has() {
    let data = content(SIZE, 3);
    let server = BadServer::start(move |r, s| slowly(r, s, &data, Duration::from_millis(8)));
    let dir = tempfile::tempdir().unwrap();
    let (remote, location) = (Remote::new(quick()).unwrap(), Location::parse(&server.url("/x")).unwrap());
    let download = Download::start(&remote, request(&location, dir.path()), &Silent).unwrap();
    let mut reader = download.reader();
    reader.read_exact(&mut vec![0; MIB as usize]).unwrap();
    drop(download);
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    let done = fetch(&server.url("/x"), dir.path()).unwrap();
    assert!(done.stats.reused >= MIB, "{:?}", done.stats);
}

/// The example beside these tests, which is a process that can be killed.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("examples/download");
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    path
}

fn spawn(url: &str, dir: &Path) -> Server {
    let mut command = Command::new(example());
    Server(command.arg(url).arg(dir).arg("pack").stdout(Stdio::piped()).spawn().unwrap())
}

#[test]
fn killed_again_and_again_it_still_ends_with_the_same_bytes() {
    const LARGE: u64 = 48 * MIB;
    let data = content(LARGE, 5);
    let expected = sha256(&data);
    let server = BadServer::start(move |r, s| slowly(r, s, &data, Duration::from_millis(1)));
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("pack.partial.json");
    let durable = || std::fs::read_to_string(&journal).map_or(0, |text| text.matches("have").count());
    for round in 1..=3 {
        let before = durable();
        let mut killed = spawn(&server.url("/x"), dir.path());
        let begun = Instant::now();
        // until more of it is durable, and a little more
        while durable() <= before && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(7 * round));
        killed.0.kill().unwrap();
        killed.0.wait().unwrap();
    }
    assert!(!dir.path().join("pack").exists());
    let mut last = spawn(&server.url("/x"), dir.path());
    assert!(last.0.wait().unwrap().success());
    let mut line = String::new();
    last.0.stdout.take().unwrap().read_to_string(&mut line).unwrap();
    let figures: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(figures[1] > 0.0, "nothing was reused: {line}");
    assert_eq!(figures[0] + figures[1], LARGE as f64);
    assert!(sha256(&std::fs::read(dir.path().join("pack")).unwrap()) == expected);
}

#[test]
fn garbage_in_the_folder_is_not_believed() {
    let data = content(SIZE, 3);
    let expected = data.clone();
    let server = BadServer::start(move |r, s| serve(r, s, &data, "\"a\""));
    let journals: [&[u8]; 4] = [
        b"\xff\xfe garbage",
        b"\"complete\"\n",
        br#"{"object":{"place":"x","size":5,"etag":"\"a\"","modified":null,"sha256":null}}"#,
        b"{\"have\":[[0,18446744073709551615]]}\n",
    ];
    for journal in journals {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pack.partial.json"), journal).unwrap();
        std::fs::write(dir.path().join("pack.partial"), vec![1; 100_000]).unwrap();
        std::fs::write(dir.path().join("pack"), vec![2; 100_000]).unwrap();
        let done = fetch(&server.url("/x"), dir.path()).unwrap();
        assert!(std::fs::read(&done.path).unwrap() == expected);
        assert_eq!(done.stats.reused, 0);
    }
}

#[test]
fn a_file_of_this_host_is_fetched_like_any_other() {
    let data = content(SIZE, 3);
    let file = crate::setup::file_of(&data);
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", file.path().display());
    let done = fetch(&url, dir.path()).unwrap();
    assert!(std::fs::read(&done.path).unwrap() == data);
    assert_eq!(fetch("file:///nowhere/at/all", dir.path()).unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(fetch("file:///dev/zero", dir.path()).unwrap_err().code(), ErrorCode::InvalidInput);
}
