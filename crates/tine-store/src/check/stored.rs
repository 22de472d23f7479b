//! Verifying images, live snapshots, cached disks and kernels.

use super::{Access, Checker};
use crate::{
    disks::{DiskMeta, DiskName},
    error::{Result, StoreError},
    images::ImageMeta,
    kernels::{KernelMeta, has_digest, is_initrd},
    layout::{DISK, INITRD, MEMORY, META, MODULES, ROOT, STATE, VMLINUZ, VMSTATE},
    staging::open_dir,
    state::{OpenState, SavedState, of_data, open_file},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use tine_model::{ImageTag, KernelName, Sha256Digest};

impl Checker<'_> {
    pub(super) fn images(&mut self) -> Result<()> {
        let dir = self.pool.layout().images();
        self.only_names::<ImageTag>("images", &dir)?;
        for tag in self.pool.image_tags()? {
            self.begin()?;
            let (path, object) = (self.pool.layout().image(&tag), format!("image {tag}"));
            self.only_entries(&object, &path, &[META, ROOT, STATE])?;
            if let Some(meta) = self.document::<ImageMeta>(&object, &path) {
                self.saved_state(&object, &path, meta.saved)?;
            }
        }
        Ok(())
    }

    /// The subvolumes and files of an image or live snapshot in `path`.
    pub(super) fn saved_state(&mut self, object: &str, path: &Path, saved: SavedState) -> Result<()> {
        self.subvolume(object, &path.join(STATE), Access::ReadOnly)?;
        self.file_entries(object, &path.join(STATE), &[MEMORY, VMSTATE])?;
        if saved.disk.is_some() {
            self.disk_root(object, &path.join(ROOT), Access::ReadOnly)?;
        }
        let remedy = "delete it";
        let state =
            open_dir(path).and_then(|dir| OpenState::open(dir.as_fd(), saved, object.to_owned(), remedy));
        let sealed = match &state {
            Ok(state) if self.read_data => state.verify_content().and_then(|()| state.is_sealed()),
            Ok(state) => state.is_sealed(),
            // a missing file was told of above
            Err(_) => return Ok(()),
        };
        match sealed {
            Ok(true) => {}
            Ok(false) => self.problem(object, "it could be written to since it was saved".to_owned(), None),
            Err(StoreError::Corrupt { problem, .. }) => self.problem(object, problem, None),
            Err(e) => self.problem(object, e.to_string(), None),
        }
        Ok(())
    }

    /// A root that holds a disk and nothing else.
    pub(super) fn disk_root(&mut self, object: &str, path: &Path, access: Access) -> Result<()> {
        self.subvolume(object, path, access)?;
        self.file_entries(object, path, &[DISK])
    }

    pub(super) fn disks(&mut self) -> Result<()> {
        let dir = self.pool.layout().disks();
        self.only_names::<DiskName>("disks", &dir)?;
        for name in self.pool.disk_names()? {
            self.begin()?;
            let (path, object) = (self.pool.disk_dir(&name), format!("disk {name}"));
            self.only_entries(&object, &path, &[META, ROOT])?;
            self.disk_root(&object, &path.join(ROOT), Access::ReadOnly)?;
            if let Some(meta) = self.document::<DiskMeta>(&object, &path) {
                let same = is_same_disk(&path.join(ROOT), &meta, self.read_data);
                self.expect(&object, DISK, same);
            }
        }
        Ok(())
    }

    pub(super) fn kernels(&mut self) -> Result<()> {
        let dir = self.pool.layout().kernels();
        self.only_names::<KernelName>("kernels", &dir)?;
        for name in self.pool.kernel_names()? {
            self.begin()?;
            let (path, object) = (self.pool.layout().kernel(&name), format!("kernel {name}"));
            self.only_entries(&object, &path, &[META, VMLINUZ, MODULES, INITRD])?;
            if path.join(INITRD).exists() {
                self.entries(&object, &path.join(INITRD), is_initrd)?;
            }
            if let Some(meta) = self.document::<KernelMeta>(&object, &path) {
                self.kernel_files(&object, &path, &meta)?;
            }
        }
        Ok(())
    }

    fn kernel_files(&mut self, object: &str, path: &Path, meta: &KernelMeta) -> Result<()> {
        self.kernel_file(object, path, VMLINUZ, meta.digest);
        let modules = path.join(MODULES);
        for (name, digest) in &meta.modules {
            self.kernel_file(object, &modules, name, *digest);
        }
        if modules.exists() {
            self.entries(object, &modules, |name| meta.modules.contains_key(name))?;
        }
        Ok(())
    }

    fn kernel_file(&mut self, object: &str, dir: &Path, name: &str, digest: Sha256Digest) {
        let same = open_dir(dir).and_then(|dir| match self.read_data {
            true => has_digest(&dir, name, digest),
            false => open_file(dir.as_fd(), name).map(|_| true),
        });
        self.expect(object, name, same);
    }

    fn expect(&mut self, object: &str, file: &str, same: Result<bool>) {
        match same {
            Ok(true) => {}
            Ok(false) => self.problem(object, format!("{file} is not what was put there"), None),
            Err(e) => self.problem(object, format!("{file}: {e}"), None),
        }
    }

    /// Exactly these regular files.
    fn file_entries(&mut self, object: &str, dir: &Path, files: &[&str]) -> Result<()> {
        // what is no directory was told of as no subvolume
        let Ok(root) = open_dir(dir) else { return Ok(()) };
        self.only_entries(object, dir, files)?;
        for file in files {
            if let Err(e) = open_file(root.as_fd(), file) {
                self.problem(object, format!("{file}: {e}"), None);
            }
        }
        Ok(())
    }
}

fn is_same_disk(root: &Path, meta: &DiskMeta, read_data: bool) -> Result<bool> {
    let root: OwnedFd = open_dir(root)?;
    let file = open_file(root.as_fd(), DISK)?;
    let sealed = meta.seal.holds(file.as_fd())?;
    if !sealed || !read_data {
        return Ok(sealed);
    }
    let sum = of_data(&file).map_err(crate::error::at("read", Path::new(DISK)))?;
    Ok((sum.digest, sum.bytes) == (meta.sum.digest, meta.sum.bytes))
}
