//! What every test here starts from: content, a quick configuration, a reporter that remembers.

use sha2::{Digest, Sha256};
use std::{
    io::Write,
    net::TcpListener,
    path::Path,
    process::{Child, Command},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tine_model::{Reporter, Sha256Digest};
use tine_remote::{
    Download, DownloadRequest, Expected, Finished, Location, Remote, RemoteConfig, RemoteError,
};

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// Bytes that differ everywhere, the same for each seed.
pub fn content(length: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut data = vec![0; length as usize];
    data.chunks_mut(4).for_each(|chunk| chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]));
    data
}

pub fn sha256(data: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(data).into())
}

/// Small blocks, short pauses.
pub fn quick() -> RemoteConfig {
    RemoteConfig {
        idle_timeout: Duration::from_secs(2),
        small_deadline: Duration::from_secs(20),
        retries: 3,
        backoff: Duration::from_millis(5),
        block: 64 * KIB,
        parallel_from: 128 * KIB,
        sync_every: 128 * KIB,
        part: 5 * MIB,
        ..RemoteConfig::default()
    }
}

/// Remembers what it hears; cancels when told to.
#[derive(Default)]
pub struct Memory {
    pub notes: Mutex<Vec<String>>,
    pub done: AtomicU64,
    pub cancel: AtomicBool,
    /// Cancels once so much is done; 0 for never.
    pub cancel_at: u64,
    pub cancelled: Mutex<Option<Instant>>,
}

impl Reporter for Memory {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, done: u64) {
        self.done.store(done, Ordering::SeqCst);
        if self.cancel_at > 0 && done >= self.cancel_at && !self.cancel.swap(true, Ordering::SeqCst) {
            *self.cancelled.lock().unwrap() = Some(Instant::now());
        }
    }
    fn output(&self, _: &str) {}
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::SeqCst)
    }
}

pub fn request<'a>(location: &'a Location, dir: &'a Path) -> DownloadRequest<'a> {
    DownloadRequest {
        location,
        dir,
        name: "pack",
        expected: Expected::default(),
        max_bytes: 1 << 40,
        parts: None,
        durable: true,
    }
}

pub fn fetch_with(
    config: RemoteConfig,
    url: &str,
    dir: &Path,
    reporter: &Memory,
) -> Result<Finished, RemoteError> {
    let remote = Remote::new(config)?;
    let location = Location::parse(url)?;
    Download::start(&remote, request(&location, dir), reporter)?.finish(reporter)
}

pub fn fetch(url: &str, dir: &Path) -> Result<Finished, RemoteError> {
    fetch_with(quick(), url, dir, &Memory::default())
}

/// A file with a content.
pub fn file_of(data: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    file
}

/// A port that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server's process; ends with this.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        // asked first: a server that is killed can't end its workers
        let asked = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(asked, rustix::process::Signal::TERM);
        for _ in 0..200 {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True when a program is there; else says loudly that the test is left out, or fails where it must not be.
pub fn has(program: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    let required =
        std::env::var("TINE_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == "servers"));
    assert!(!required, "{program} is not installed, and TINE_REQUIRE wants the servers");
    eprintln!("SKIPPED: {program} is not installed");
    false
}

/// Waits until something listens there.
pub fn wait_for_port(port: u16) {
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no server on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
