//! Making a pool: in place where there is btrfs, else in an image file. Doing it twice changes nothing.

use super::{Pool, StoreFile, absolute, image};
use crate::{
    document,
    error::{Result, StoreError, at},
    layout::{DIRECTORIES, Layout, image_beside},
    staging::{ensure_dir, open_dir},
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::ByteSize;
use tine_sys::mountpoint;

/// What [`Pool::init`] found or made.
#[derive(Debug)]
pub struct PoolInit {
    /// The pool, open.
    pub pool: Pool,
    /// False when there was one already.
    pub created: bool,
    /// The image file it lies in, if it does.
    pub image_file: Option<PathBuf>,
}

impl Pool {
    /// Makes a pool at `root`, or makes sure that the one there is mounted. `size` is that of the image file, when
    /// one has to be made because `root` does not lie on btrfs.
    ///
    /// # Errors
    /// `WrongState` when `root` holds something else, `Usage` when `size` is too small, `Unsupported` or
    /// `ToolFailed` without a working `mkfs.btrfs`.
    pub fn init(root: &Path, size: ByteSize) -> Result<PoolInit> {
        let root = absolute(root)?;
        let parent = root.parent().unwrap_or(&root);
        fs::create_dir_all(parent).map_err(at("create", parent))?;
        let guard = image::guard(&root)?;
        let layout = Layout::new(&root);
        ensure_mounted(&root, &layout, size)?;
        let created = lay_out(&layout)?;
        drop(guard);
        let pool = Self::open(&root, Duration::from_secs(10))?;
        let image_file = pool.image_file();
        Ok(PoolInit { pool, created, image_file })
    }
}

fn ensure_mounted(root: &Path, layout: &Layout, size: ByteSize) -> Result<()> {
    if layout.store().exists() {
        return Ok(());
    }
    if !root.exists() {
        ensure_dir(root, 0o700)?;
    }
    let image = image_beside(root);
    if image.exists() {
        return image::mount(&image, root);
    }
    refuse_strangers(root)?;
    if mountpoint::is_on_btrfs(root)? {
        return Ok(());
    }
    let image = image::make(root, size)?;
    image::mount(&image, root)
}

/// A directory with anything in it but what a killed `init` makes is someone else's.
fn refuse_strangers(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).map_err(at("list", root))? {
        let entry = entry.map_err(at("list", root))?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|n| n == crate::layout::LOCK || DIRECTORIES.contains(&n)) {
            return Err(StoreError::WrongState {
                message: format!("{} is not empty and not a pool", root.display()),
                hint: Some("tine --root DIR init, with an empty or new DIR".to_owned()),
            });
        }
    }
    Ok(())
}

/// Makes the pool's own entries; `store.json` is the last, so that a pool that has it is whole. True when this made
/// the pool.
fn lay_out(layout: &Layout) -> Result<bool> {
    if layout.store().exists() {
        return Ok(false);
    }
    let root = layout.root();
    // setuid programs in boxes are no way up for the host's users
    rustix::fs::chmod(root, 0o700.into()).map_err(at("set mode of", root))?;
    for name in DIRECTORIES {
        ensure_dir(&root.join(name), 0o700)?;
    }
    let shared = root.join("shared");
    ensure_dir(&shared.join("all"), 0o1777)?;
    ensure_dir(&shared.join("bin"), 0o755)?;
    ensure_dir(&shared.join("projects"), 0o755)?;
    document::replace(&layout.tmp(), &layout.store(), &StoreFile::new())?;
    rustix::fs::syncfs(open_dir(root)?).map_err(at("sync", root))?;
    Ok(true)
}
