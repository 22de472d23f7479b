//! Uploads by PUT and to folders: done is only what the server has acknowledged after the last byte.

use crate::{
    bad_server::{BadServer, Request, send_all},
    setup::{MIB, Memory, content, file_of, quick},
};
use std::{
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};
use tine_model::ErrorCode;
use tine_remote::{Location, Remote, RemoteConfig, RemoteError, UploadRequest, Uploaded};

fn put_with(config: RemoteConfig, url: &str, data: &[u8], memory: &Memory) -> Result<Uploaded, RemoteError> {
    let file = file_of(data);
    let location = Location::parse(url).unwrap();
    let request = UploadRequest {
        file: file.as_file(),
        size: data.len() as u64,
        sha256: None,
        name: "pack",
        content_type: "application/zstd",
        location: &location,
        journal: None,
        beside: &[],
    };
    Remote::new(config).unwrap().upload(request, memory)
}

fn put(
    answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static,
) -> (Result<Uploaded, RemoteError>, usize) {
    let server = BadServer::start(answer);
    let done = put_with(quick(), &server.url("/p?sig=hidden"), &content(3 * MIB, 1), &Memory::default());
    (done, server.requests().len())
}

#[test]
fn a_put_has_its_length_and_arrives_whole() {
    let got = Arc::new(Mutex::new((Request::default(), Vec::new())));
    let seen = Arc::clone(&got);
    let (done, requests) = put(move |r, s| {
        *seen.lock().unwrap() = (r.clone(), r.body(s));
        send_all(s, "200 OK", "ETag: \"e\"\r\n", b"");
    });
    assert_eq!(done.unwrap(), Uploaded { sent: 3 * MIB, reused: 0, etag: Some("\"e\"".into()) });
    let (request, body) = &*got.lock().unwrap();
    assert!(*body == content(3 * MIB, 1));
    assert_eq!((request.method.as_str(), request.path.as_str(), requests), ("PUT", "/p?sig=hidden", 1));
    assert_eq!(request.header("content-length"), Some("3145728"));
    assert_eq!(request.header("content-type"), Some("application/zstd"));
    assert_eq!(request.header("transfer-encoding"), None);
}

#[test]
fn an_empty_file_can_be_put() {
    let server = BadServer::start(|_, s| send_all(s, "201 Created", "", b""));
    assert!(put_with(quick(), &server.url("/p"), b"", &Memory::default()).is_ok());
}

#[test]
fn a_failure_at_the_end_is_one_and_says_what_the_server_said() {
    for (status, code) in [
        ("500 Internal Server Error", ErrorCode::Unreachable),
        ("403 Forbidden", ErrorCode::Forbidden),
        ("302 Found", ErrorCode::InvalidInput),
        ("400 Bad Request", ErrorCode::InvalidInput),
    ] {
        let (done, requests) = put(move |r, s| {
            r.body(s);
            send_all(s, status, "", "disk\u{1b}[2J full ".repeat(100).as_bytes());
        });
        let error = done.unwrap_err();
        let text = error.to_string();
        assert_eq!((error.code(), requests), (code, 1), "{text}");
        assert!(text.contains(&status[..3]) && text.contains("disk [2J full"), "{text}");
        assert!(text.len() < 500 && !text.contains('\u{1b}') && !text.contains("hidden"), "{text}");
    }
}

#[test]
fn success_before_everything_was_sent_is_none() {
    let server = BadServer::start(|_, s| {
        send_all(s, "200 OK", "", b"");
        std::thread::sleep(Duration::from_millis(300));
    });
    // more than the buffers between the two take
    let data = content(64 * MIB, 1);
    let error = put_with(quick(), &server.url("/p"), &data, &Memory::default()).unwrap_err();
    assert!(matches!(error.code(), ErrorCode::InvalidInput | ErrorCode::Unreachable), "{error}");
}

#[test]
fn a_connection_that_breaks_or_stalls_is_an_error() {
    let (done, _) = put(|_, _| {});
    assert_eq!(done.unwrap_err().code(), ErrorCode::Unreachable);
    let server = BadServer::start(|_, s| {
        std::thread::sleep(Duration::from_secs(60));
        drop(s.shutdown(std::net::Shutdown::Both));
    });
    let config = RemoteConfig { idle_timeout: Duration::from_millis(400), ..quick() };
    let begun = Instant::now();
    let error = put_with(config, &server.url("/p"), &content(30 * MIB, 1), &Memory::default()).unwrap_err();
    assert!(error.to_string().contains("stalled"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn busy_servers_are_asked_again() {
    let (done, requests) = put(|r, s| {
        r.body(s);
        let status = if r.number == 0 { "503 Service Unavailable" } else { "200 OK" };
        send_all(s, status, "", b"");
    });
    assert!(done.is_ok());
    assert_eq!(requests, 2);
}

#[test]
fn an_upload_can_be_cancelled() {
    let server = BadServer::start(|_, _| std::thread::sleep(Duration::from_secs(60)));
    let memory = Memory::default();
    memory.cancel.store(true, Ordering::SeqCst);
    let data = content(30 * MIB, 1);
    let begun = Instant::now();
    let error = put_with(quick(), &server.url("/p"), &data, &memory).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled);
    // 200 ms are promised of a machine with time to spare; this includes writing the file
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_folder_gets_the_file_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let data = content(9 * MIB + 1, 1);
    let url = |name: &str| format!("file://{}/{name}", dir.path().display());
    let done = put_with(quick(), &url("p"), &data, &Memory::default()).unwrap();
    assert_eq!(done.sent, data.len() as u64);
    let path = dir.path().join("p");
    assert!(std::fs::read(&path).unwrap() == data);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let error = put_with(quick(), &url("none/p"), &data, &Memory::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
    let memory = Memory::default();
    memory.cancel.store(true, Ordering::SeqCst);
    // a cancelled copy leaves nothing beside what was there
    let _ = put_with(quick(), &url("q"), &content(60 * MIB, 1), &memory);
    assert!(std::fs::read_dir(dir.path()).unwrap().count() <= 2);
    assert!(
        !std::fs::read_dir(dir.path()).unwrap().any(|e| e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.'))
    );
}
