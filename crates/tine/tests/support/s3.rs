//! An S3 server (`s3s-fs`, in this process), which refuses what its conditions forbid unless a test wants it otherwise, and
//! keeps requests waiting.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::support::Fixture;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{ETAG, IF_MATCH, IF_NONE_MATCH},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use md5::{Digest, Md5};
use s3s::{
    Body,
    auth::SimpleAuth,
    service::{S3ServiceBuilder, SharedS3Service},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};

const SECRET: &str = "secret";

/// A server with one bucket, `shelf`.
pub struct S3 {
    _runtime: Runtime,
    port: u16,
    dir: TempDir,
    state: Arc<State>,
}

struct State {
    service: SharedS3Service,
    root: PathBuf,
    /// Whether conditions are heeded.
    conditional: AtomicBool,
    /// A write on a condition is looked at and done as one, and no answer has the content before it with the tag after it: the
    /// server opens a file, and then reads it by its name for the tag.
    gate: tokio::sync::RwLock<()>,
    /// Requests with this in them get no answer once so many of them had one.
    held: Mutex<Option<(String, usize)>>,
    log: Mutex<Vec<String>>,
}

impl S3 {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("shelf")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("me", SECRET));
        let state = Arc::new(State {
            service: builder.build().into_shared(),
            root: dir.path().to_owned(),
            conditional: AtomicBool::new(true),
            gate: tokio::sync::RwLock::default(),
            held: Mutex::default(),
            log: Mutex::default(),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&state);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                let answering = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(async move {
                    let connection = Builder::new(TokioExecutor::new());
                    // whoever asked may have gone
                    let _ = connection.serve_connection(TokioIo::new(socket), answering).await;
                });
            }
        });
        Self { _runtime: runtime, port, dir, state }
    }

    /// A server that has never heard of conditions, as older ones have not.
    pub fn unconditional() -> Self {
        let server = Self::start();
        server.state.conditional.store(false, Ordering::SeqCst);
        server
    }

    /// Where an object of the bucket lies.
    pub fn path(&self, key: &str) -> PathBuf {
        self.dir.path().join("shelf").join(key)
    }

    /// Answers no request with `what` in it any more, once so many of them had their answer.
    pub fn hold(&self, what: &str, after: usize) {
        *self.state.held.lock().unwrap() = Some((what.to_owned(), after));
    }

    /// Answers everything again, and forgets what it was asked.
    pub fn heal(&self) {
        *self.state.held.lock().unwrap() = None;
        self.state.log.lock().unwrap().clear();
    }

    /// The requests so far: method, path and query.
    pub fn log(&self) -> Vec<String> {
        self.state.log.lock().unwrap().clone()
    }

    /// How many requests there were with all of this in them.
    pub fn asked(&self, what: &[&str]) -> usize {
        self.log().iter().filter(|line| what.iter().all(|what| line.contains(what))).count()
    }

    /// A command with the credentials.
    pub fn command(&self, f: &Fixture, args: &[&str]) -> Command {
        let mut command = f.command(args);
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "me")
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        command
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, s3s::S3Error> {
    let line = format!("{} {}", request.method(), request.uri());
    let waits = {
        let mut log = state.log.lock().unwrap();
        log.push(line.clone());
        let held = state.held.lock().unwrap();
        held.as_ref().is_some_and(|(what, after)| {
            line.contains(what) && log.iter().filter(|line| line.contains(what)).count() > *after
        })
    };
    if waits {
        std::future::pending::<()>().await;
    }
    let conditions = [IF_MATCH, IF_NONE_MATCH].map(|name| request.headers().get(name).cloned());
    let heeded = request.method() == Method::PUT && state.conditional.load(Ordering::SeqCst);
    if !heeded || conditions.iter().all(Option::is_none) {
        let _gate = state.gate.read().await;
        return state.service.call(request).await;
    }
    let _gate = state.gate.write().await;
    let there = tag_of(&state.root.join(request.uri().path().trim_start_matches('/')));
    let [only_if, unless] = conditions;
    let holds = only_if.is_none_or(|tag| there.as_deref().is_some_and(|there| tag == there))
        && unless.is_none_or(|_| there.is_none());
    if holds {
        return state.service.call(request).await;
    }
    let refused = Response::builder().status(412).header(ETAG, there.unwrap_or_default());
    Ok(refused.body(Body::empty()).unwrap())
}

/// The tag that the server gives an object.
fn tag_of(path: &Path) -> Option<String> {
    let digest = Md5::digest(fs::read(path).ok()?);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("\"{hex}\""))
}
