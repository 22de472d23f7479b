//! Downloads from servers that do all that servers should not.

use crate::{
    bad_server::{BadServer, Request, send, send_all, serve},
    setup::{KIB, Memory, content, fetch, fetch_with, quick, request, sha256},
};
use std::{
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tine_model::{ErrorCode, Silent};
use tine_remote::{Download, DownloadRequest, Expected, Location, Remote, RemoteConfig};

const SIZE: u64 = 700 * KIB + 123;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Fetches from a server that answers with `answer` and returns what came and how many streams were used.
fn fetched(
    answer: impl Fn(&Request, &mut TcpStream, &[u8]) + Send + Sync + 'static,
) -> (bool, usize, Vec<Request>) {
    let data = content(SIZE, 1);
    let expected = data.clone();
    let server = BadServer::start(move |request, stream| answer(request, stream, &data));
    let dir = tempfile::tempdir().unwrap();
    let done = fetch(&server.url("/x"), dir.path()).unwrap();
    assert_eq!(names(dir.path()), ["pack", "pack.partial.json"]);
    (std::fs::read(&done.path).unwrap() == expected, done.stats.streams, server.requests())
}

/// The code of a fetch that must fail, and how many requests it took.
fn refused(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> (ErrorCode, String, usize) {
    let server = BadServer::start(answer);
    let dir = tempfile::tempdir().unwrap();
    let error = fetch(&server.url("/x"), dir.path()).unwrap_err();
    assert!(!dir.path().join("pack").exists());
    (error.code(), error.to_string(), server.requests().len())
}

#[test]
fn a_good_server_is_asked_by_four_streams_and_for_no_byte_twice() {
    let (same, streams, requests) = fetched(|r, s, data| serve(r, s, data, "\"a\""));
    assert!(same);
    assert_eq!(streams, 4);
    let asked: u64 = requests.iter().map(|r| r.range().unwrap()).map(|(a, b)| b.min(SIZE) - a).sum();
    assert_eq!(asked, SIZE);
    assert!(requests.iter().all(|r| r.header("accept-encoding") == Some("identity")));
    assert!(requests[1..].iter().all(|r| r.header("if-range") == Some("\"a\"")));
}

#[test]
fn a_server_without_ranges_is_one_stream() {
    let (same, streams, requests) = fetched(|_, s, data| send_all(s, "200 OK", "ETag: \"a\"\r\n", data));
    assert!(same);
    assert_eq!((streams, requests.len()), (1, 1));
}

#[test]
fn wrong_ranges_are_not_believed_and_all_is_fetched_whole() {
    for wrong in ["bytes 1-65536/700000", "bytes 0-65535/*", "bytes 0-99/50", "nonsense"] {
        let (same, streams, requests) = fetched(move |r, s, data| match r.range() {
            Some(_) => {
                send_all(s, "206 Partial Content", &format!("Content-Range: {wrong}\r\n"), &data[..65536])
            }
            None => send_all(s, "200 OK", "", data),
        });
        assert!(same, "{wrong}");
        assert_eq!((streams, requests.len()), (1, 2), "{wrong}");
    }
}

#[test]
fn ranges_that_no_version_ties_together_are_not_used() {
    let (same, streams, _) = fetched(|r, s, data| match r.range() {
        Some((first, end)) => {
            let end = end.min(data.len() as u64);
            let headers = format!("Content-Range: bytes {first}-{}/{}\r\n", end - 1, data.len());
            send_all(s, "206 Partial Content", &headers, &data[first as usize..end as usize]);
        }
        None => send_all(s, "200 OK", "", data),
    });
    assert!(same);
    assert_eq!(streams, 1);
}

#[test]
fn refused_ranges_and_a_missing_length_are_lived_with() {
    let (same, streams, _) = fetched(|r, s, data| match r.range() {
        Some(_) => send_all(s, "416 Range Not Satisfiable", "", b""),
        None => send(s, "200 OK", "", data),
    });
    assert!(same);
    assert_eq!(streams, 1);
}

#[test]
fn ranges_that_end_in_the_middle_of_it_are_lived_with() {
    let (same, _, _) = fetched(|r, s, data| match r.number {
        0..3 => serve(r, s, data, "\"a\""),
        _ => send_all(s, "200 OK", "ETag: \"a\"\r\n", data),
    });
    assert!(same);
}

#[test]
fn an_empty_file_is_a_file() {
    let server = BadServer::start(|r, s| serve(r, s, b"", "\"a\""));
    let dir = tempfile::tempdir().unwrap();
    let done = fetch(&server.url("/x"), dir.path()).unwrap();
    assert_eq!((std::fs::read(done.path).unwrap().len(), done.stats.fetched), (0, 0));
}

#[test]
fn a_server_that_breaks_off_is_asked_for_the_rest_alone() {
    let (same, _, requests) = fetched(|r, s, data| {
        let (first, end) = r.range().unwrap();
        let (first, end) = (first as usize, (end as usize).min(data.len()));
        let headers = format!(
            "ETag: \"a\"\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{}/{}\r\n",
            end - first,
            end - 1,
            data.len()
        );
        // the first answer of every block ends in the middle
        let begins = first % (64 << 10) == 0;
        let sent = if begins { first + (end - first).div_ceil(2) } else { end };
        send(s, "206 Partial Content", &headers, &data[first..sent]);
    });
    assert!(same);
    let asked: u64 = requests.iter().map(|r| r.range().unwrap()).map(|(a, b)| b.min(SIZE) - a).sum();
    assert!(asked < SIZE * 2, "what had come was asked for again: {asked}");
    let rests = requests.iter().filter(|r| r.range().unwrap().0 % (64 * KIB) != 0).count();
    assert_eq!(rests as u64, SIZE.div_ceil(64 * KIB));
}

#[test]
fn bytes_after_a_range_are_not_taken_for_content() {
    let (same, _, _) = fetched(|r, s, data| {
        serve(r, s, data, "\"a\"");
        let _ = std::io::Write::write_all(s, &[b'!'; 5000]);
    });
    assert!(same);
}

#[test]
fn a_server_that_sends_more_than_it_announced_is_refused() {
    let (code, text, requests) = refused(|r, s| {
        // whoever asks for other parts waits, and hears of no ranges that would be another reason to stop
        let Some((0, end)) = r.range() else { return std::thread::sleep(Duration::from_millis(300)) };
        let headers = format!("ETag: \"a\"\r\nContent-Range: bytes 0-{}/1000000\r\n", end - 1);
        send(s, "206 Partial Content", &headers, &vec![7; end as usize + 10]);
    });
    // the other streams may have begun by then
    assert_eq!(code, ErrorCode::InvalidInput);
    assert!(requests <= 4 && text.contains("more than"), "{requests} {text}");
}

#[test]
fn absurd_lengths_are_refused_before_anything_is_fetched() {
    for headers in
        [format!("Content-Length: {}\r\n", u64::MAX), "Content-Length: 9000000000000000000\r\n".to_owned()]
    {
        let (code, _, requests) = refused(move |_, s| send(s, "200 OK", &headers, b"x"));
        assert!(matches!(code, ErrorCode::TooLarge | ErrorCode::Unreachable), "{code:?}");
        assert!(requests <= 4);
    }
}

#[test]
fn an_endless_answer_ends_at_the_limit() {
    let server = BadServer::start(|_, s| {
        send(s, "200 OK", "", b"");
        while std::io::Write::write_all(s, &[0; 65536]).is_ok() {}
    });
    let dir = tempfile::tempdir().unwrap();
    let (remote, location) = (Remote::new(quick()).unwrap(), Location::parse(&server.url("/x")).unwrap());
    let request = DownloadRequest { max_bytes: 1 << 20, ..request(&location, dir.path()) };
    let error = Download::start(&remote, request, &Silent).unwrap().finish(&Silent).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge);
    assert!(dir.path().join("pack.partial").metadata().unwrap().len() <= 1 << 20);
}

/// Serves one version for some requests and another from then on.
fn changing(first: Vec<u8>, then: Vec<u8>, after: usize) -> BadServer {
    BadServer::start(move |r, s| match r.number < after {
        true => serve(r, s, &first, "\"one\""),
        false => serve(r, s, &then, "\"two\""),
    })
}

#[test]
fn a_file_that_changes_meanwhile_is_fetched_from_the_beginning() {
    // another length, and the same
    for other in [SIZE, SIZE - 1000, SIZE + 1000] {
        let (one, two) = (content(SIZE, 1), content(other, 2));
        let server = changing(one, two.clone(), 4);
        let (dir, memory) = (tempfile::tempdir().unwrap(), Memory::default());
        let done = fetch_with(quick(), &server.url("/x"), dir.path(), &memory).unwrap();
        assert!(std::fs::read(done.path).unwrap() == two);
        let notes = memory.notes.lock().unwrap();
        assert!(notes.iter().any(|note| note.contains("changed")), "{notes:?}");
    }
}

#[test]
fn a_length_that_changes_without_a_new_tag_is_noticed() {
    let (one, two) = (content(SIZE, 1), content(SIZE + 7, 2));
    let expected = two.clone();
    let server =
        BadServer::start(move |r, s| serve(r, s, if r.number < 3 { &one } else { &two }, "\"same\""));
    let dir = tempfile::tempdir().unwrap();
    let done = fetch(&server.url("/x"), dir.path()).unwrap();
    assert!(std::fs::read(done.path).unwrap() == expected);
}

#[test]
fn a_file_that_never_stays_the_same_is_given_up() {
    let data = content(SIZE, 1);
    let (code, text, _) = refused(move |r, s| serve(r, s, &data, &format!("\"{}\"", r.number)));
    assert_eq!(code, ErrorCode::InvalidInput);
    assert!(text.contains("changes"), "{text}");
}

#[test]
fn a_silent_server_is_left_after_the_retries() {
    let begun = Instant::now();
    let server = BadServer::start(|r, s| {
        let data = content(SIZE, 1);
        if r.number == 0 {
            let headers =
                format!("ETag: \"a\"\r\nContent-Length: 65536\r\nContent-Range: bytes 0-65535/{SIZE}\r\n");
            send(s, "206 Partial Content", &headers, &data[..1000]);
        }
        std::thread::sleep(Duration::from_secs(60));
    });
    let config = RemoteConfig { idle_timeout: Duration::from_millis(300), ..quick() };
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_with(config, &server.url("/x"), dir.path(), &Memory::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unreachable);
    assert!(error.to_string().contains("silent"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn nobody_listening_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let port = crate::setup::free_port();
    let error = fetch(&format!("http://user:hidden@127.0.0.1:{port}/x?sig=hidden"), dir.path()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unreachable);
    assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
}

#[test]
fn redirects_are_followed_but_not_in_circles_nor_elsewhere() {
    let (same, _, _) = fetched(|r, s, data| match r.path.as_str() {
        "/x" => send_all(s, "302 Found", "Location: /y\r\n", b""),
        _ => serve(r, s, data, "\"a\""),
    });
    assert!(same);
    let (code, text, requests) = refused(|_, s| send_all(s, "302 Found", "Location: /x\r\n", b""));
    assert_eq!((code, requests), (ErrorCode::InvalidInput, 11));
    assert!(text.contains("redirects"), "{text}");
    for other in ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x"] {
        let (code, _, requests) =
            refused(move |_, s| send_all(s, "302 Found", &format!("Location: {other}\r\n"), b""));
        assert_eq!((code, requests), (ErrorCode::InvalidInput, 1), "{other}");
    }
}

#[test]
fn encoded_content_is_refused() {
    for coding in ["gzip", "br", "zstd, gzip"] {
        let headers = format!("Content-Encoding: {coding}\r\n");
        let (code, text, requests) = refused(move |_, s| send_all(s, "200 OK", &headers, b"xxxx"));
        assert_eq!((code, requests), (ErrorCode::InvalidInput, 1), "{text}");
    }
}

#[test]
fn refusals_are_final_and_say_what_the_server_said() {
    for (status, code) in [
        ("401 Unauthorized", ErrorCode::Unauthorized),
        ("403 Forbidden", ErrorCode::Forbidden),
        ("404 Not Found", ErrorCode::NotFound),
        ("410 Gone", ErrorCode::NotFound),
        ("400 Bad Request", ErrorCode::InvalidInput),
    ] {
        let (got, text, requests) = refused(move |_, s| send_all(s, status, "", b"no\x1b[31m way"));
        assert_eq!((got, requests), (code, 1), "{text}");
        assert!(text.contains(&status[..3]) && text.contains("no [31m way"), "{text:?}");
    }
}

#[test]
fn what_may_pass_is_tried_again_when_the_server_wants_it() {
    let begun = Instant::now();
    let (same, _, _) = fetched(|r, s, data| match r.number {
        0 => send_all(s, "503 Service Unavailable", "Retry-After: 1\r\n", b""),
        1 => send_all(s, "429 Too Many Requests", "", b""),
        2 => send_all(s, "500 Internal Server Error", "", b""),
        _ => serve(r, s, data, "\"a\""),
    });
    assert!(same);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let (code, text, requests) = refused(|_, s| send_all(s, "500 Internal Server Error", "", b"broken"));
    assert_eq!((code, requests), (ErrorCode::Unreachable, 4));
    assert!(text.contains("500"), "{text}");
}

#[test]
fn small_files_are_bounded_whatever_is_announced() {
    let endless = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&endless);
    let server = BadServer::start(move |r, s| match r.path.as_str() {
        "/small" => send_all(s, "200 OK", "", b"hello"),
        "/large" => send_all(s, "200 OK", "", &[0; 1001]),
        "/missing" => send_all(s, "404 Not Found", "", b""),
        "/cut" => send(s, "200 OK", "Content-Length: 10\r\n", b"cut"),
        _ => {
            send(s, "200 OK", "", b"");
            while std::io::Write::write_all(s, &[0; 1000]).is_ok() {
                sent.fetch_add(1000, Ordering::SeqCst);
            }
        }
    });
    let remote = Remote::new(quick()).unwrap();
    let get = |path: &str| remote.fetch_small(&Location::parse(&server.url(path)).unwrap(), 1000);
    assert_eq!(get("/small").unwrap().unwrap(), "hello");
    assert_eq!(get("/missing").unwrap(), None);
    assert_eq!(get("/large").unwrap_err().code(), ErrorCode::TooLarge);
    assert_eq!(get("/endless").unwrap_err().code(), ErrorCode::TooLarge);
    assert_eq!(get("/cut").unwrap_err().code(), ErrorCode::Unreachable);
}

#[test]
fn a_dripping_server_does_not_hold_a_small_fetch_beyond_its_deadline() {
    let server = BadServer::start(|_, s| {
        send(s, "200 OK", "Content-Length: 1000\r\n", b"");
        while std::io::Write::write_all(s, b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let config = RemoteConfig { small_deadline: Duration::from_millis(700), ..quick() };
    let begun = Instant::now();
    let error = Remote::new(config)
        .unwrap()
        .fetch_small(&Location::parse(&server.url("/")).unwrap(), 1 << 20)
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unreachable);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn head_tells_length_and_version_even_where_only_get_is_allowed() {
    let server = BadServer::start(|r, s| match (r.method.as_str(), r.path.as_str()) {
        (_, "/missing") => send_all(s, "404 Not Found", "", b""),
        ("HEAD", "/signed") => send_all(s, "403 Forbidden", "", b""),
        ("HEAD", _) => send(s, "200 OK", "Content-Length: 5\r\nETag: \"h\"\r\n", b""),
        _ => serve(r, s, b"hello", "\"g\""),
    });
    let remote = Remote::new(quick()).unwrap();
    let head = |path: &str| remote.head(&Location::parse(&server.url(path)).unwrap()).unwrap();
    assert_eq!(head("/missing"), None);
    assert_eq!(head("/x").unwrap().etag.as_deref(), Some("\"h\""));
    let signed = head("/signed").unwrap();
    assert_eq!((signed.size, signed.etag.as_deref()), (Some(5), Some("\"g\"")));
}

#[test]
fn the_wrong_content_is_found_out_by_the_reader_and_not_kept() {
    let data = content(SIZE, 1);
    let wrong = Expected { size: Some(SIZE), sha256: Some(sha256(b"other")) };
    let server = BadServer::start(move |r, s| serve(r, s, &data, "\"a\""));
    let dir = tempfile::tempdir().unwrap();
    let (remote, location) = (Remote::new(quick()).unwrap(), Location::parse(&server.url("/x")).unwrap());
    let asked = DownloadRequest { expected: wrong, ..request(&location, dir.path()) };
    let download = Download::start(&remote, asked, &Silent).unwrap();
    let mut read = Vec::new();
    let error = std::io::Read::read_to_end(&mut download.reader(), &mut read).unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert!((read.len() as u64) < SIZE);
    assert_eq!(download.finish(&Silent).unwrap_err().code(), ErrorCode::InvalidInput);
    assert_eq!(names(dir.path()), [""; 0]);
    let announced = Expected { size: Some(SIZE + 1), sha256: None };
    let asked = DownloadRequest { expected: announced, ..request(&location, dir.path()) };
    let error = Download::start(&remote, asked, &Silent).unwrap().finish(&Silent).unwrap_err();
    assert!(error.to_string().contains("announced"), "{error}");
}

#[test]
fn a_finished_file_checks_its_own_digest() {
    let data = content(SIZE, 1);
    let digest = sha256(&data);
    let server = BadServer::start(move |r, s| serve(r, s, &data, "\"a\""));
    let (remote, location) = (Remote::new(quick()).unwrap(), Location::parse(&server.url("/x")).unwrap());
    for (sha256, right) in [(digest, true), (sha256(b"other"), false)] {
        let dir = tempfile::tempdir().unwrap();
        let expected = Expected { size: None, sha256: Some(sha256) };
        let asked = DownloadRequest { expected, ..request(&location, dir.path()) };
        let done = Download::start(&remote, asked, &Silent).unwrap().finish(&Silent).unwrap();
        assert_eq!(done.check_digest().is_ok(), right);
        done.discard();
        assert_eq!(names(dir.path()), [""; 0]);
    }
}
