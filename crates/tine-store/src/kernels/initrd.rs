//! The boot archives of a kernel: a cache of files, each under an identifier of what it was made of.

use crate::{
    error::{Result, StoreError, at},
    layout::INITRD,
    pool::Pool,
    staging::{ensure_dir, random_id},
};
use rustix::fs::{Mode, OFlags};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};
use tine_model::KernelName;

const SUFFIX: &str = ".cpio";

impl Pool {
    /// The boot archive `id` of a kernel, if it was made.
    ///
    /// # Errors
    /// `Usage` when `id` is not 1 to 64 of `a-z0-9-`.
    pub fn kernel_initrd(&self, name: &KernelName, id: &str) -> Result<Option<PathBuf>> {
        let path = self.initrd_path(name, id)?;
        Ok(path.is_file().then_some(path))
    }

    /// Makes the boot archive `id` of a kernel by calling `write` with an empty file, and shows it when it is whole.
    /// Another process may do the same at the same time: one of the two stays. Not made durable: it is a cache, and
    /// what a power cut leaves of it is either whole or not there.
    ///
    /// # Errors
    /// `NotFound` for the kernel; `Usage` for the identifier; `Full`; the error of `write`.
    pub fn put_kernel_initrd(
        &self,
        name: &KernelName,
        id: &str,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<PathBuf> {
        let path = self.initrd_path(name, id)?;
        let dir = self.kernel(name)?.vmlinuz.with_file_name(INITRD);
        ensure_dir(&dir, 0o700)?;
        let fresh = self.layout().tmp().join(random_id()?);
        write_whole(&fresh, write)
            .and_then(|()| fs::rename(&fresh, &path).map_err(at("publish", &path)))
            .inspect_err(|_| drop(fs::remove_file(&fresh)))?;
        Ok(path)
    }

    /// Every boot archive but the newest of each kernel, as `kernel/id` and where it lies.
    pub(crate) fn old_initrds(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut old = Vec::new();
        for name in self.kernel_names()? {
            let mut found = initrds_in(&self.layout().kernel(&name).join(INITRD))?;
            found.sort();
            found.pop();
            let shown =
                |path: &Path| path.file_stem().map_or(String::new(), |id| id.to_string_lossy().into());
            old.extend(found.into_iter().map(|(_, path)| (format!("{name}/{}", shown(&path)), path)));
        }
        Ok(old)
    }

    fn initrd_path(&self, name: &KernelName, id: &str) -> Result<PathBuf> {
        if !is_id(id) {
            return Err(StoreError::Usage { message: format!("{id:?} is no identifier of a boot archive") });
        }
        Ok(self.layout().kernel(name).join(INITRD).join(format!("{id}{SUFFIX}")))
    }
}

/// Whether a file name is that of a boot archive.
pub(crate) fn is_initrd(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(is_id)
}

fn is_id(id: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&id.len()) && id.bytes().all(known)
}

fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let mut file = File::from(rustix::fs::open(path, flags, mode).map_err(at("create", path))?);
    write(&mut file).map_err(at("write", path))?;
    // the name must not become durable before the data
    file.sync_data().map_err(at("write back", path))
}

fn initrds_in(dir: &Path) -> Result<Vec<(SystemTime, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at("list", dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at("list", dir))?;
        if entry.file_name().to_str().is_some_and(is_initrd) {
            let made = entry.metadata().and_then(|m| m.modified()).map_err(at("stat", dir))?;
            found.push((made, entry.path()));
        }
    }
    Ok(found)
}
