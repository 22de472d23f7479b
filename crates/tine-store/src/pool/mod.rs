//! The pool: opening it, its lock, making what was done durable.
//!
//! Every operation holds the pool's lock shared; what looks at all of it or takes it away holds it alone.

mod image;
mod init;
mod space;
mod stored;

pub use init::PoolInit;

use crate::{
    document::{self, Document},
    error::{Result, StoreError, at},
    layout::{self, Layout, SharedDirs},
    staging::{self, Staging},
};
use serde::{Deserialize, Serialize};
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{ProjectName, Timestamp};
use tine_sys::{
    commit::commit,
    lock::{FileLock, LockMode},
    mountpoint,
};

/// Features without which a pool must not even be read. This version knows none.
const KNOWN_INCOMPAT: [&str; 0] = [];
/// Features without which a pool must not be written. This version knows none, and always writes.
const KNOWN_RO_COMPAT: [&str; 0] = [];

/// `store.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoreFile {
    format: u32,
    created_at: Timestamp,
    #[serde(default)]
    features: Features,
}

/// What a reader or writer of the pool has to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Features {
    #[serde(default)]
    incompat: Vec<String>,
    #[serde(default)]
    ro_compat: Vec<String>,
    #[serde(default)]
    compat: Vec<String>,
}

impl Document for StoreFile {
    fn format(&self) -> u32 {
        self.format
    }
}

impl StoreFile {
    fn new() -> Self {
        Self { format: document::FORMAT, created_at: Timestamp::now(), features: Features::default() }
    }

    fn check(&self, root: &Path) -> Result<()> {
        let unknown = |have: &[String], known: &[&str]| {
            have.iter().filter(|f| !known.contains(&f.as_str())).cloned().collect::<Vec<_>>()
        };
        let mut features = unknown(&self.features.incompat, &KNOWN_INCOMPAT);
        features.extend(unknown(&self.features.ro_compat, &KNOWN_RO_COMPAT));
        if features.is_empty() {
            return Ok(());
        }
        Err(StoreError::Incompatible { object: format!("the pool at {}", root.display()), features })
    }
}

/// An open pool.
#[derive(Debug)]
pub struct Pool {
    layout: Layout,
    dir: OwnedFd,
    store: StoreFile,
    // held for as long as the pool is open
    _lock: FileLock,
}

/// An open pool that no one else has open.
#[derive(Debug)]
pub struct ExclusivePool {
    pool: Pool,
}

impl Pool {
    /// Opens the pool at `root`, mounting it when it lies in an image file that is not mounted. Waits up to `wait`
    /// for someone who holds it alone.
    ///
    /// # Errors
    /// `NoPool`, `Busy`, `Incompatible`.
    pub fn open(root: &Path, wait: Duration) -> Result<Self> {
        Self::open_as(root, LockMode::Shared, wait)
    }

    /// Opens the pool alone, waiting up to `wait` for everyone else to finish.
    ///
    /// # Errors
    /// As [`Pool::open`].
    pub fn open_exclusive(root: &Path, wait: Duration) -> Result<ExclusivePool> {
        Ok(ExclusivePool { pool: Self::open_as(root, LockMode::Exclusive, wait)? })
    }

    fn open_as(root: &Path, mode: LockMode, wait: Duration) -> Result<Self> {
        let root = &absolute(root)?;
        let layout = Layout::new(root);
        let store = match document::read_if_there::<StoreFile>(&layout.store())? {
            Some(store) => store,
            None => {
                image::mount_again(root)?;
                document::read_if_there(&layout.store())?
                    .ok_or_else(|| StoreError::NoPool { root: root.to_owned() })?
            }
        };
        store.check(root)?;
        let lock = FileLock::acquire_within(&layout.lock(), mode, wait)?
            .ok_or_else(|| StoreError::Busy { what: format!("the pool at {}", root.display()) })?;
        complete(&layout)?;
        Ok(Self { dir: staging::open_dir(root)?, layout, store, _lock: lock })
    }

    /// The pool's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// The image file it lies in, if it does.
    #[must_use]
    pub fn image_file(&self) -> Option<PathBuf> {
        Some(layout::image_beside(self.root())).filter(|path| path.exists())
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.store.created_at
    }

    /// The directories mounted over the boxes of `project`, made if missing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn shared_dirs(&self, project: &ProjectName) -> Result<SharedDirs> {
        let dirs = self.layout.shared(project);
        if !dirs.project.exists() {
            if let Some(own) = dirs.home.parent() {
                staging::ensure_dir(own, 0o755)?;
            }
            staging::ensure_dir(&dirs.home, 0o755)?;
            // programs of any user in any box of the project meet here
            staging::ensure_dir(&dirs.project, 0o1777)?;
        }
        Ok(dirs)
    }

    /// Where signing keys lie, what is trusted, and what was seen of hubs. The store makes the directory and knows
    /// nothing of what is in it.
    #[must_use]
    pub fn trust_dir(&self) -> PathBuf {
        self.layout.trust()
    }

    /// Where packs lie while they are fetched. What is left there is garbage.
    #[must_use]
    pub fn downloads_dir(&self) -> PathBuf {
        self.layout.downloads()
    }

    /// Where packs lie while they are sent to a store, and what is known of their uploads. What is left there is garbage.
    #[must_use]
    pub fn uploads_dir(&self) -> PathBuf {
        self.layout.uploads()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// A new folder in staging, removed with everything in it when dropped.
    ///
    /// # Errors
    /// `Full`, or the kernel's.
    pub fn stage(&self) -> Result<Staging<'_>> {
        Staging::new(self)
    }

    /// Makes every change of names and trees made so far durable.
    ///
    /// One commit of the running transaction. Not `syncfs`: that would first write back what every running box has
    /// in its page cache, however much that is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn commit(&self) -> Result<()> {
        Ok(commit(self.dir())?)
    }
}

/// Makes the directories that a pool made by an older version lacks.
fn complete(layout: &Layout) -> Result<()> {
    let missing =
        layout::DIRECTORIES.iter().map(|name| layout.root().join(name)).filter(|path| !path.exists());
    missing.into_iter().try_for_each(|path| staging::ensure_dir(&path, 0o700))
}

impl std::ops::Deref for ExclusivePool {
    type Target = Pool;
    fn deref(&self) -> &Pool {
        &self.pool
    }
}

impl ExclusivePool {
    /// Unmounts the pool and lets go of its loop device. False when there is nothing to unmount because the pool
    /// lies in place on btrfs.
    ///
    /// # Errors
    /// `Busy` when something still uses it: a running box, a shell whose directory it is.
    pub fn unmount(self) -> Result<bool> {
        let root = self.root().to_owned();
        if self.image_file().is_none() || mountpoint::mounted_at(&root)?.is_none() {
            return Ok(false);
        }
        self.commit()?;
        let _guard = image::guard(&root)?;
        drop(self);
        image::unmount(&root)?;
        Ok(true)
    }
}

/// Makes the absolute form of a pool's directory, its links followed as far as it exists, as mounts are listed.
pub(crate) fn absolute(root: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(root).map_err(at("resolve", root))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(StoreError::Usage { message: format!("{} cannot be a pool", root.display()) });
    };
    let followed = absolute.canonicalize().or_else(|_| parent.canonicalize().map(|parent| parent.join(name)));
    match followed {
        Ok(followed) if followed.parent().is_some() => Ok(followed),
        _ => Ok(absolute),
    }
}
