//! The local engine: `trait Service` on this host's pool.
//!
//! A verb exists once, in `ops/<verb>.rs`, and reads like its own specification. The only crate that knows both the
//! store and the machines. Never prints, never reads the environment.
#![forbid(unsafe_code)]

mod bucket;
mod build;
mod doctor;
mod hub;
mod kept;
mod machine;
mod monitor;
mod ops;
mod outgoing;
mod reach;
mod recipes;
mod script;
mod tool;
mod trust;

pub use monitor::monitor_main;

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{BoxRef, Error, ErrorCode, Result};
use tine_store::{LockedBox, Pool};

/// Where the engine works and how long it waits.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The pool's directory.
    pub root: PathBuf,
    /// The host's directory for things that do not outlive a reboot; the same for all pools of a host.
    pub runtime_dir: PathBuf,
    /// The executable that becomes a box's monitor when its first argument is `__monitor`.
    pub monitor_program: PathBuf,
    /// How long an operation waits for another one on the same box.
    pub wait: Duration,
    /// The hub that is used when none is named; before the pool's own default.
    pub hub: Option<String>,
    /// The variables that transfers heed: credentials of stores, proxies, certificates. Builds heed the latter two.
    pub env: Vec<(String, String)>,
}

impl EngineConfig {
    /// The usual configuration for a pool at `root`: this very program as monitor, `/run/tine`, 10 seconds.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            runtime_dir: PathBuf::from("/run/tine"),
            monitor_program: PathBuf::from("/proc/self/exe"),
            wait: Duration::from_secs(10),
            hub: None,
            env: Vec::new(),
        }
    }
}

/// The implementation of [`tine_model::Service`] on this host.
#[derive(Debug, Clone)]
pub struct LocalEngine {
    config: EngineConfig,
}

impl LocalEngine {
    /// An engine for the pool that the configuration names. Looks at nothing yet.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self { config }
    }

    /// Opens the pool, shared with other operations.
    fn pool(&self) -> Result<Pool> {
        require_root()?;
        Pool::open(&self.config.root, self.config.wait).map_err(|error| self.with_root(error.into()))
    }

    /// What moves bytes between this host and others.
    fn remote(&self) -> Result<tine_remote::Remote> {
        let config = tine_remote::RemoteConfig { env: self.config.env.clone(), ..Default::default() };
        Ok(tine_remote::Remote::new(config)?)
    }

    /// Opens the pool alone.
    fn exclusive_pool(&self) -> Result<tine_store::ExclusivePool> {
        require_root()?;
        Pool::open_exclusive(&self.config.root, self.config.wait)
            .map_err(|error| self.with_root(error.into()))
    }

    fn lock<'p>(&self, pool: &'p Pool, name: &BoxRef) -> Result<LockedBox<'p>> {
        Ok(pool.lock_box(name, self.config.wait)?)
    }

    /// A missing pool's hint names the pool that was meant.
    fn with_root(&self, error: Error) -> Error {
        if error.code == ErrorCode::NoPool {
            return error.hint(format!("tine --root {} init", self.config.root.display()));
        }
        error
    }
}

fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::Forbidden, "a pool can only be used by root").hint("sudo tine …"))
}

/// Identifies a pool on this host: its file system and where it lies there.
fn pool_id(pool: &Pool) -> Result<String> {
    use sha2::{Digest as _, Sha256};
    let dir = std::fs::File::open(pool.root()).map_err(|e| io_error("open", pool.root(), &e))?;
    let uuid = tine_sys::btrfs::filesystem_uuid(dir.as_fd())
        .map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
    let mut hash = Sha256::new();
    hash.update(uuid.0);
    hash.update(pool.root().as_os_str().as_encoded_bytes());
    Ok(hash.finalize()[..16].iter().map(|b| format!("{b:02x}")).collect())
}

/// An I/O error with what was being done to which path; a full disk has its own code.
fn io_error(doing: &str, path: &Path, error: &std::io::Error) -> Error {
    let message = format!("{doing} {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorCode::PoolFull, message).hint("tine gc")
        }
        _ => Error::new(ErrorCode::Internal, message),
    }
}

/// Makes a file that is not there yet, open for reading and writing.
fn create_new(path: &Path) -> Result<std::fs::File> {
    std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| io_error("create", path, &e))
}

/// The error of an operation that the caller asked to stop.
fn cancelled(doing: &str) -> Error {
    Error::new(ErrorCode::Cancelled, format!("{doing}: cancelled; nothing was changed"))
}
