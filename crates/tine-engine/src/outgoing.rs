//! A pack on its way to a store: it stays until it is there, so that a push which was broken off goes on with it.
//!
//! A folder of `uploads/`, named by what is pushed and where to. A pack in it is whole when its report is there. Who finds
//! it locked by another push, of the very same, and for long, makes a pack of its own.

use crate::io_error;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{Error, ErrorCode, PackReport, Result, Sha256Digest};
use tine_store::Pool;
use tine_sys::lock::{FileLock, LockMode};

const LOCK: &str = "lock";
const REPORT: &str = "pack.json";

/// A pack's folder, locked.
pub struct Outgoing {
    dir: PathBuf,
    _lock: FileLock,
}

impl Outgoing {
    /// The folder of what `what` describes; none when another push has it for longer than `wait`.
    pub fn open(pool: &Pool, what: &impl serde::Serialize, wait: Duration) -> Result<Option<Self>> {
        let text = serde_json::to_vec(&(env!("CARGO_PKG_VERSION"), what))
            .map_err(|e| Error::new(ErrorCode::Internal, format!("describing an upload: {e}")))?;
        let digest: [u8; 32] = Sha256::digest(text).into();
        let dir = pool.uploads_dir().join(format!("{:.32}", Sha256Digest(digest).to_string()));
        match fs::create_dir(&dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(io_error("create", &dir, &e)),
            _ => {}
        }
        let path = dir.join(LOCK);
        let lock = FileLock::acquire_within(&path, LockMode::Exclusive, wait)
            .map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
        // one that was deleted meanwhile is nobody's
        Ok(lock.filter(|lock| lock.is_still_at(&path)).map(|lock| Self { dir, _lock: lock }))
    }

    /// Where the pack's files lie.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The report of the pack that is here; none when there is none, or not all of it, and then nothing of it is.
    pub fn whole(&self) -> Result<Option<PackReport>> {
        let bytes = fs::read(self.dir.join(REPORT)).unwrap_or_default();
        let report: Option<PackReport> = serde_json::from_slice(&bytes).ok();
        let is_here = |report: &PackReport| {
            report.files.iter().all(|file| {
                let meta = fs::symlink_metadata(self.dir.join(&file.name));
                meta.is_ok_and(|meta| meta.is_file() && meta.len() == file.bytes.bytes())
            })
        };
        if let Some(report) = report.filter(is_here) {
            return Ok(Some(report));
        }
        self.empty()?;
        Ok(None)
    }

    /// Says that the pack is whole. Durable on return.
    pub fn keep(&self, report: &PackReport) -> Result<()> {
        report.files.iter().try_for_each(|file| self.sync(&file.name))?;
        let text = serde_json::to_vec(report)
            .map_err(|e| Error::new(ErrorCode::Internal, format!("describing a pack: {e}")))?;
        // half of it is no report
        let path = self.dir.join(REPORT);
        fs::write(&path, text).map_err(|e| io_error("write", &path, &e))?;
        self.sync(REPORT)
    }

    /// Deletes it; what stays is garbage to `gc`.
    pub fn discard(self) {
        let _ = fs::remove_dir_all(&self.dir);
    }

    fn sync(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        File::open(&path).and_then(|file| file.sync_all()).map_err(|e| io_error("write back", &path, &e))
    }

    fn empty(&self) -> Result<()> {
        let failed = |e| io_error("clear", &self.dir, &e);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != LOCK {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}
