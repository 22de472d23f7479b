//! Small objects at a store that loses answers, knows no conditions, or lies about lengths.

use crate::{
    bad_server::{BadServer, Request, send, send_all, serve},
    setup::{KIB, MIB, Memory, content, quick, sha256},
};
use std::{
    net::TcpStream,
    sync::{Arc, Mutex},
};
use tine_model::ErrorCode;
use tine_remote::{Location, Over, Remote, RemoteConfig};

const MODIFIED: &str = "Last-Modified: Tue, 05 Aug 2025 10:00:00 GMT\r\n";

fn remote(server: &BadServer) -> Remote {
    let env = [
        ("AWS_ACCESS_KEY_ID", "me"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", server.port())),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Remote::new(RemoteConfig { env, ..quick() }).unwrap()
}

fn at(key: &str) -> Location {
    Location::parse(&format!("s3://hub/{key}")).unwrap()
}

/// A store with one object, which answers writes by `put`.
fn store(put: impl Fn(&Request, &mut TcpStream, &mut Option<Vec<u8>>) + Send + Sync + 'static) -> BadServer {
    let object: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    BadServer::start(move |request, stream| {
        let mut object = object.lock().unwrap();
        match (request.method.as_str(), object.as_ref()) {
            ("PUT", _) => put(request, stream, &mut object),
            (_, None) => send_all(stream, "404 Not Found", "", b""),
            (_, Some(bytes)) => {
                let headers = format!("ETag: \"{}\"\r\n{MODIFIED}", bytes.len());
                send_all(stream, "200 OK", &headers, bytes);
            }
        }
    })
}

#[test]
fn a_write_whose_answer_is_lost_is_found_out() {
    let server = store(|request, stream, object| {
        *object = Some(request.body(stream));
        send_all(stream, "500 Internal Server Error", "", b"");
    });
    let remote = remote(&server);
    remote.put_object(&at("a.json"), &"one".into(), Over::Nothing).unwrap();
    let (bytes, _) = remote.fetch_object(&at("a.json"), 3).unwrap().unwrap();
    assert_eq!(bytes, "one");
}

#[test]
fn a_write_over_what_another_has_written_is_refused() {
    let server = store(|_, stream, object| {
        *object = Some(b"theirs".to_vec());
        send_all(stream, "412 Precondition Failed", "", b"");
    });
    let error = remote(&server).put_object(&at("a.json"), &"mine".into(), Over::Nothing).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Busy, "{error}");
}

#[test]
fn a_store_that_says_it_knows_no_conditions_is_told_apart() {
    let server = store(|_, stream, _| send_all(stream, "501 Not Implemented", "", b""));
    let error = remote(&server).put_object(&at("a.json"), &"one".into(), Over::Nothing).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unsupported, "{error}");
}

#[test]
fn a_store_must_heed_both_conditions() {
    for (heeded, good) in
        [(&["if-match", "if-none-match"][..], true), (&["if-none-match"], false), (&[], false)]
    {
        let server = store(move |request, stream, object| {
            let body = request.body(stream);
            if object.is_some() && heeded.iter().any(|name| request.header(name).is_some()) {
                return send_all(stream, "412 Precondition Failed", "", b"");
            }
            *object = Some(body);
            send_all(stream, "200 OK", "ETag: \"x\"\r\n", b"");
        });
        let remote = remote(&server);
        remote.put_object(&at("a.json"), &"one".into(), Over::Anything).unwrap();
        let checked = remote.check_conditions(&at("a.json"), &"one".into());
        assert_eq!(checked.is_ok(), good, "{heeded:?}: {checked:?}");
        assert!(checked.err().is_none_or(|error| error.code() == ErrorCode::Unsupported));
        assert_eq!(remote.fetch_object(&at("a.json"), 3).unwrap().unwrap().0, "one", "it keeps its content");
    }
}

#[test]
fn an_object_that_is_too_long_is_not_read() {
    let server = BadServer::start(|_, stream| {
        let headers = format!("Content-Length: {}\r\nETag: \"a\"\r\n{MODIFIED}", 1u64 << 40);
        send(stream, "200 OK", &headers, &[b' '; 4096]);
    });
    let error = remote(&server).fetch_object(&at("a.json"), 1000).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
}

#[test]
fn a_digest_is_of_all_bytes_whatever_breaks() {
    let data = content(3 * MIB + 7, 1);
    let expected = (data.len() as u64, sha256(&data));
    let server = BadServer::start(move |request, stream| match request.range() {
        // never more than so much at once
        Some((first, end)) => {
            let headers = format!(
                "ETag: \"a\"\r\n{MODIFIED}Content-Range: bytes {first}-{}/{}\r\nContent-Length: {}\r\n",
                end - 1,
                data.len(),
                end - first
            );
            let sent = &data[first as usize..end.min(first + 700 * KIB) as usize];
            send(stream, "206 Partial Content", &headers, sent);
        }
        None => serve(request, stream, &data, "\"a\""),
    });
    let location = Location::parse(&server.url("/pack")).unwrap();
    let read = Remote::new(quick()).unwrap().digest(&location, &Memory::default()).unwrap();
    assert_eq!(read, Some(expected));
    let gone = BadServer::start(|_, stream| send_all(stream, "404 Not Found", "", b""));
    let location = Location::parse(&gone.url("/pack")).unwrap();
    assert_eq!(Remote::new(quick()).unwrap().digest(&location, &Memory::default()).unwrap(), None);
}
