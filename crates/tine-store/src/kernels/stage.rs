//! Putting a kernel into the pool: its files are written into a staging directory, hashed and shown at once.

use super::KernelMeta;
use crate::{
    document,
    error::{Result, StoreError, at},
    layout::{INITRD, META, MODULES, VMLINUZ},
    pool::Pool,
    staging::{Staging, make_dir, now_ns, open_dir},
    state::{FileSum, of_all, open_file},
};
use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};
use tine_model::{ByteSize, KernelInfo, KernelName, Sha256Digest, Silent, Timestamp};

/// More files than any kernel has modules.
const MOST_MODULES: usize = 8192;

/// A kernel that is being put into the pool. Dropped without being published, nothing of it stays.
#[derive(Debug)]
pub struct KernelStage<'p> {
    pool: &'p Pool,
    staging: Staging<'p>,
}

impl Pool {
    /// Begins a new kernel: an empty `modules/`, and no `vmlinuz` yet.
    ///
    /// # Errors
    /// `Full`, or the kernel's.
    pub fn stage_kernel(&self) -> Result<KernelStage<'_>> {
        let staging = self.stage()?;
        make_dir(&staging.path().join(MODULES), 0o700)?;
        make_dir(&staging.path().join(INITRD), 0o700)?;
        Ok(KernelStage { pool: self, staging })
    }
}

impl KernelStage<'_> {
    /// Where to write the kernel.
    #[must_use]
    pub fn vmlinuz_path(&self) -> PathBuf {
        self.staging.path().join(VMLINUZ)
    }

    /// Where to write its modules and the file `order`, which names them in the order they are loaded in. Regular
    /// files, no directories.
    #[must_use]
    pub fn modules_path(&self) -> PathBuf {
        self.staging.path().join(MODULES)
    }

    /// Shows it as `name`; nothing new when the same kernel is there under that name. `source` says in words where it
    /// came from. Durable on return.
    ///
    /// # Errors
    /// `AlreadyExists` when there is another kernel of that name; `Usage` when a file is missing or is no regular
    /// file; `Full`.
    pub fn publish(self, name: &KernelName, source: &str) -> Result<KernelInfo> {
        let meta = self.sum(source)?;
        if let Some(there) = self.same_there(name, &meta)? {
            return Ok(there);
        }
        document::write_new(&self.staging.path().join(META), &meta)?;
        let (pool, target) = (self.pool, self.pool.layout().kernel(name));
        match self.staging.publish(&target, || taken(name)) {
            // another process was faster with, perhaps, the same kernel
            Err(StoreError::AlreadyExists { .. }) => same(pool, name, &meta)?.ok_or_else(|| taken(name)),
            published => {
                published?;
                pool.commit()?;
                info(pool, name)
            }
        }
    }

    fn same_there(&self, name: &KernelName, meta: &KernelMeta) -> Result<Option<KernelInfo>> {
        if !self.pool.layout().kernel(name).exists() {
            return Ok(None);
        }
        same(self.pool, name, meta)?.map(Some).ok_or_else(|| taken(name))
    }

    fn sum(&self, source: &str) -> Result<KernelMeta> {
        let vmlinuz = durable_sum(&open_dir(self.staging.path())?, VMLINUZ)?;
        let mut size = vmlinuz.bytes.bytes();
        let mut modules = BTreeMap::new();
        let dir = open_dir(&self.modules_path())?;
        for name in module_names(&self.modules_path())? {
            let sum = durable_sum(&dir, &name)?;
            size = size.saturating_add(sum.bytes.bytes());
            modules.insert(name, sum.digest);
        }
        let (created_at, created_ns) = (Timestamp::now(), now_ns());
        let (source, size_bytes, digest) = (source.to_owned(), ByteSize(size), vmlinuz.digest);
        Ok(KernelMeta {
            format: document::FORMAT,
            created_at,
            created_ns,
            source,
            size_bytes,
            digest,
            modules,
        })
    }
}

/// What is there under `name`, if it is the kernel of `meta`.
fn same(pool: &Pool, name: &KernelName, meta: &KernelMeta) -> Result<Option<KernelInfo>> {
    let Some(there) = pool.kernel_meta(name)? else { return Ok(None) };
    if (there.digest, &there.modules) == (meta.digest, &meta.modules) {
        return info(pool, name).map(Some);
    }
    Ok(None)
}

fn info(pool: &Pool, name: &KernelName) -> Result<KernelInfo> {
    let found = pool.list_kernels(&Silent)?.into_iter().find(|k| k.name == *name);
    found.ok_or_else(|| super::kernel_not_found(name.to_string()))
}

fn module_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let name = entry.map_err(at("list", dir))?.file_name();
        names.push(name.into_string().map_err(|name| unusable(&name.to_string_lossy(), "not UTF-8"))?);
    }
    if names.len() > MOST_MODULES {
        return Err(StoreError::TooLarge {
            message: format!("a kernel of more than {MOST_MODULES} modules"),
        });
    }
    Ok(names)
}

fn durable_sum(dir: &OwnedFd, name: &str) -> Result<FileSum> {
    let file = open_file(dir.as_fd(), name).map_err(|e| match e {
        StoreError::Corrupt { problem, .. } => unusable(name, &problem),
        e if e.is_missing() => unusable(name, "missing"),
        e => e,
    })?;
    file.sync_data().map_err(at("write back", Path::new(name)))?;
    of_all(&file).map_err(at("read", Path::new(name)))
}

/// Whether a file in the pool still has the digest it was put there with.
pub(crate) fn has_digest(dir: &OwnedFd, name: &str, digest: Sha256Digest) -> Result<bool> {
    let file = open_file(dir.as_fd(), name)?;
    Ok(of_all(&file).map_err(at("read", Path::new(name)))?.digest == digest)
}

fn unusable(name: &str, problem: &str) -> StoreError {
    StoreError::Usage { message: format!("the kernel's file {name}: {problem}") }
}

fn taken(name: &KernelName) -> StoreError {
    StoreError::AlreadyExists { kind: "kernel", name: name.to_string() }
}
