//! An S3 server (s3s-fs, in this process), and one that fails at the end.

use crate::{
    bad_server::{BadServer, send_all},
    setup::{KIB, MIB, Memory, content, fetch_with, file_of, quick},
};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{AUTHORIZATION, ETAG, HeaderValue},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{
    Body, S3Error,
    auth::SimpleAuth,
    service::{S3ServiceBuilder, SharedS3Service},
};
use std::{fs, path::Path};
use tempfile::TempDir;
use tine_model::ErrorCode;
use tine_remote::{Location, Remote, RemoteConfig, RemoteError, UploadRequest, Uploaded};
use tokio::{net::TcpListener, runtime::Runtime};

/// A server with one bucket, `hub`.
pub struct S3 {
    _runtime: Runtime,
    pub port: u16,
    pub dir: TempDir,
}

impl S3 {
    fn start() -> Self {
        Self::start_for(Some(SimpleAuth::from_single("me", "secret")))
    }

    /// For those who sign as `auth` knows, or for all, whatever they say of themselves.
    pub fn start_for(auth: Option<SimpleAuth>) -> Self {
        let open = auth.is_none();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("hub")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        if let Some(auth) = auth {
            builder.set_auth(auth);
        }
        let service = builder.build().into_shared();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                let answering = service_fn(move |request| answer(service.clone(), request, open));
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), answering)
                        .await;
                });
            }
        });
        Self { _runtime: runtime, port, dir }
    }
}

/// Who need not log in need no signature either, and get a tag with every answer, as Google's store gives it.
async fn answer(
    service: SharedS3Service,
    mut request: Request<Incoming>,
    open: bool,
) -> Result<Response<Body>, S3Error> {
    if !open {
        return service.call(request).await;
    }
    request.headers_mut().remove(AUTHORIZATION);
    let mut response = service.call(request).await?;
    response.headers_mut().entry(ETAG).or_insert(HeaderValue::from_static("\"whole\""));
    Ok(response)
}

fn config(port: u16, secret: &str) -> RemoteConfig {
    let env = [
        ("AWS_ACCESS_KEY_ID", "me"),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}")),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    RemoteConfig { env, block: 512 * KIB, ..quick() }
}

fn push(
    config: RemoteConfig,
    data: &fs::File,
    journal: Option<&Path>,
    memory: &Memory,
) -> Result<Uploaded, RemoteError> {
    let location = Location::parse("s3://hub/tine/numpy.tar.zst").unwrap();
    let request = UploadRequest {
        file: data,
        size: data.metadata().unwrap().len(),
        sha256: None,
        name: "numpy.tar.zst",
        content_type: "application/zstd",
        location: &location,
        journal,
        beside: &[],
    };
    Remote::new(config).unwrap().upload(request, memory)
}

#[test]
fn what_is_sent_in_parts_is_fetched_by_ranges() {
    let server = S3::start();
    let data = content(23 * MIB + 9, 1);
    let file = file_of(&data);
    let done = push(config(server.port, "secret"), file.as_file(), None, &Memory::default()).unwrap();
    assert_eq!((done.sent, done.reused), (data.len() as u64, 0));
    assert!(fs::read(server.dir.path().join("hub/tine/numpy.tar.zst")).unwrap() == data);
    let (dir, url) = (tempfile::tempdir().unwrap(), "s3://hub/tine/numpy.tar.zst");
    let memory = Memory { cancel_at: 4 * MIB, ..Memory::default() };
    let broken = fetch_with(config(server.port, "secret"), url, dir.path(), &memory);
    let pulled = fetch_with(config(server.port, "secret"), url, dir.path(), &Memory::default()).unwrap();
    assert!(fs::read(&pulled.path).unwrap() == data);
    // the machine may be quicker than the cancelling
    assert!(broken.is_ok() || pulled.stats.reused > 0, "{:?}", pulled.stats);
    let remote = Remote::new(config(server.port, "secret")).unwrap();
    let at = |url: &str| Location::parse(url).unwrap();
    assert_eq!(remote.head(&at(url)).unwrap().unwrap().size, Some(data.len() as u64));
    assert_eq!(remote.head(&at("s3://hub/none")).unwrap(), None);
    assert_eq!(remote.fetch_small(&at("s3://hub/none"), 10).unwrap(), None);
    assert_eq!(remote.fetch_small(&at(url), 1000).unwrap_err().code(), ErrorCode::TooLarge);
}

#[test]
fn a_broken_upload_goes_on_with_the_parts_that_are_there() {
    let server = S3::start();
    let data = content(41 * MIB, 1);
    let file = file_of(&data);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("pack.upload.json");
    let slow = RemoteConfig { streams: 1, ..config(server.port, "secret") };
    let memory = Memory { cancel_at: 10 * MIB, ..Memory::default() };
    let error = push(slow, file.as_file(), Some(&journal), &memory).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled);
    assert!(!server.dir.path().join("hub/tine/numpy.tar.zst").exists());
    let done =
        push(config(server.port, "secret"), file.as_file(), Some(&journal), &Memory::default()).unwrap();
    assert!(done.reused >= 10 * MIB && done.sent + done.reused == data.len() as u64, "{done:?}");
    assert!(fs::read(server.dir.path().join("hub/tine/numpy.tar.zst")).unwrap() == data);
    assert!(!journal.exists());
}

#[test]
fn a_journal_of_an_upload_that_the_store_forgot_or_of_another_file_is_no_help_and_no_harm() {
    let server = S3::start();
    let data = content(11 * MIB, 1);
    let file = file_of(&data);
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("pack.upload.json");
    for text in ["garbage\n", "{\"part\":[0,\"x\"]}\n"] {
        fs::write(&journal, text).unwrap();
        let done =
            push(config(server.port, "secret"), file.as_file(), Some(&journal), &Memory::default()).unwrap();
        assert_eq!(done.reused, 0);
        assert!(fs::read(server.dir.path().join("hub/tine/numpy.tar.zst")).unwrap() == data);
    }
}

#[test]
fn wrong_credentials_and_plain_endpoints_are_told_apart() {
    let server = S3::start();
    let file = file_of(&content(MIB, 1));
    let error = push(config(server.port, "wrong"), file.as_file(), None, &Memory::default()).unwrap_err();
    assert!(matches!(error.code(), ErrorCode::Forbidden | ErrorCode::Unauthorized), "{error}");
    let mut plain = config(server.port, "secret");
    plain.env.retain(|(name, _)| name != "AWS_ALLOW_HTTP");
    let error = push(plain, file.as_file(), None, &Memory::default()).unwrap_err();
    assert!(error.to_string().contains("AWS_ALLOW_HTTP"), "{error}");
}

#[test]
fn an_upload_that_fails_at_the_end_is_not_done() {
    for (status, body) in [
        ("200 OK", "<Error><Code>InternalError</Code><Message>late</Message></Error>"),
        ("500 Internal Server Error", ""),
        ("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"),
    ] {
        let server = BadServer::start(move |r, s| {
            r.body(s);
            let begun = "<InitiateMultipartUploadResult><Bucket>hub</Bucket><Key>k</Key>\
                <UploadId>u</UploadId></InitiateMultipartUploadResult>";
            match (r.method.as_str(), r.path.contains("uploadId=")) {
                ("POST", false) => send_all(s, "200 OK", "", begun.as_bytes()),
                ("PUT", _) => send_all(s, "200 OK", "ETag: \"p\"\r\n", b""),
                ("POST", true) => send_all(s, status, "", body.as_bytes()),
                _ => send_all(s, "204 No Content", "", b""),
            }
        });
        let file = file_of(&content(11 * MIB, 1));
        let done = push(config(server.port(), "secret"), file.as_file(), None, &Memory::default());
        assert!(done.is_err(), "{status}: {done:?}");
        assert!(server.requests().iter().any(|r| r.method == "DELETE"), "it was not withdrawn");
    }
}
