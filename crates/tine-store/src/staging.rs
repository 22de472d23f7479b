//! Staging: making things where no one looks, and making them appear in one step.
//!
//! Also the way out: what is deleted is first renamed into `tmp/`, so that it disappears at once, and then taken
//! apart. Whatever a killed process leaves there is garbage.

use crate::{
    error::{Result, StoreError, at},
    pool::Pool,
};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use tine_sys::{SysError, btrfs};

/// Plain directories of the pool are never nested deeper than this.
const MAX_DEPTH: u32 = 8;

/// A directory in `tmp/`; removed with everything in it when dropped, unless published.
#[derive(Debug)]
pub struct Staging<'p> {
    pool: &'p Pool,
    path: PathBuf,
    published: bool,
}

impl<'p> Staging<'p> {
    pub(crate) fn new(pool: &'p Pool) -> Result<Self> {
        let path = pool.layout().tmp().join(random_id()?);
        make_dir(&path, 0o700)?;
        Ok(Self { pool, path, published: false })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to `target`; the kernel decides whether that name is free. Durable after the next commit.
    pub(crate) fn publish(mut self, target: &Path, taken: impl FnOnce() -> StoreError) -> Result<()> {
        rename_to_free(&self.path, target, taken)?;
        self.published = true;
        Ok(())
    }

    /// Swaps it with what is at `target`, which is then what this removes when dropped.
    pub(crate) fn swap_with(&self, target: &Path) -> Result<()> {
        exchange(&self.path, target)
    }

    /// Makes a snapshot of `source` in it.
    pub(crate) fn snapshot(&self, source: &OwnedFd, name: &str, read_only: bool) -> Result<()> {
        let dir = open_dir(&self.path)?;
        Ok(btrfs::snapshot(source.as_fd(), dir.as_fd(), name, read_only)?)
    }

    /// Makes an empty subvolume in it.
    pub(crate) fn subvolume(&self, name: &str) -> Result<()> {
        let dir = open_dir(&self.path)?;
        Ok(btrfs::create_subvolume(dir.as_fd(), name)?)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.published
            && let Err(e) = discard(&self.path)
        {
            tracing::warn!(path = %self.path.display(), pool = %self.pool.root().display(), "staging stays until gc: {e}");
        }
    }
}

/// Moves `path` into `tmp/`, from where it does not come back. Returns where it lies now.
pub(crate) fn withdraw(pool: &Pool, path: &Path) -> Result<PathBuf> {
    let target = pool.layout().tmp().join(random_id()?);
    fs::rename(path, &target).map_err(at("remove", path))?;
    Ok(target)
}

/// Removes what lies at `path`: subvolumes with what is nested in them, plain directories, files. Stands being
/// interrupted and called again.
pub(crate) fn discard(path: &Path) -> Result<()> {
    discard_at_depth(path, 0)
}

fn discard_at_depth(path: &Path, depth: u32) -> Result<()> {
    let stat = match fs::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(at("stat", path)(e)),
    };
    if !stat.is_dir() {
        return fs::remove_file(path).map_err(at("delete", path));
    }
    let dir = open_dir(path)?;
    if btrfs::is_subvolume(dir.as_fd())? {
        drop(dir);
        return delete_subvolume(path);
    }
    if depth == MAX_DEPTH {
        return Err(StoreError::Corrupt {
            object: path.display().to_string(),
            problem: "nested too deep".into(),
        });
    }
    for entry in fs::read_dir(path).map_err(at("list", path))? {
        discard_at_depth(&entry.map_err(at("list", path))?.path(), depth + 1)?;
    }
    fs::remove_dir(path).map_err(at("delete", path))
}

fn delete_subvolume(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(StoreError::Corrupt { object: path.display().to_string(), problem: "odd name".into() });
    };
    Ok(btrfs::delete_subvolume_tree(open_dir(parent)?.as_fd(), name)?)
}

/// Opens a directory of the pool itself, never through a link.
pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))
}

/// Makes a directory of the pool with exactly this mode.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode)).map_err(at("create", path))?;
    // the process's umask may have taken bits away
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(at("set mode of", path))
}

/// As [`make_dir`], nothing when it is there.
pub(crate) fn ensure_dir(path: &Path, mode: u32) -> Result<()> {
    match make_dir(path, mode) {
        Err(StoreError::System(e)) if e.source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Renames within the pool to a name that must be free.
pub(crate) fn rename_to_free(from: &Path, to: &Path, taken: impl FnOnce() -> StoreError) -> Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => Err(taken()),
        done => done.map_err(at("publish", to)),
    }
}

/// Swaps two names within the pool in one step.
pub(crate) fn exchange(one: &Path, other: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(at("swap", other))
}

/// 32 random hex digits.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| SysError::new("read", "random numbers", std::io::Error::other(e.to_string())))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
