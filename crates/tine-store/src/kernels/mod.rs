//! Guest kernels: each a directory with the kernel, its modules, and the boot archives made for it.
//!
//! A kernel never changes once it is there. Its boot archives are a cache: each can be deleted and made again. Knows
//! nothing of how a kernel is booted.

mod initrd;
mod stage;

pub(crate) use initrd::is_initrd;
pub use stage::KernelStage;
pub(crate) use stage::has_digest;

use crate::{
    bases::names_in,
    document::{self, Document, or_note},
    error::{Result, StoreError},
    layout::{META, MODULES, VMLINUZ},
    pool::Pool,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};
use tine_model::{ByteSize, KernelInfo, KernelName, Reporter, Sha256Digest, Timestamp};

/// `meta.json` of a kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KernelMeta {
    format: u32,
    created_at: Timestamp,
    /// Nanoseconds since the Unix epoch: seconds do not tell which of two is the newer.
    created_ns: u64,
    source: String,
    size_bytes: ByteSize,
    pub digest: Sha256Digest,
    /// The digest of each file in `modules/`.
    pub modules: BTreeMap<String, Sha256Digest>,
}

impl Document for KernelMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

/// A kernel in the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRecord {
    /// Its name.
    pub name: KernelName,
    /// SHA-256 of the kernel's file.
    pub digest: Sha256Digest,
    /// The kernel's file.
    pub vmlinuz: PathBuf,
    /// The directory of its modules, with the file `order` in it.
    pub modules: PathBuf,
}

impl Pool {
    /// The kernels, by name. One that cannot be read is told of and left out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list_kernels(&self, reporter: &dyn Reporter) -> Result<Vec<KernelInfo>> {
        let found = self.kernel_metas(reporter)?;
        let newest = newest(&found).cloned();
        let info = |(name, meta): (KernelName, KernelMeta)| {
            let default = newest.as_ref() == Some(&name);
            meta.into_info(name, default)
        };
        Ok(found.into_iter().map(info).collect())
    }

    /// One kernel.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn kernel(&self, name: &KernelName) -> Result<KernelRecord> {
        let meta = self.kernel_meta(name)?.ok_or_else(|| kernel_not_found(name.to_string()))?;
        let dir = self.layout().kernel(name);
        let (vmlinuz, modules) = (dir.join(VMLINUZ), dir.join(MODULES));
        Ok(KernelRecord { name: name.clone(), digest: meta.digest, vmlinuz, modules })
    }

    /// The kernel that new machines boot: the one put into the pool last.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub fn default_kernel(&self, reporter: &dyn Reporter) -> Result<KernelRecord> {
        let found = self.kernel_metas(reporter)?;
        let name = newest(&found).ok_or_else(|| kernel_not_found("for machines to boot".to_owned()))?;
        self.kernel(name)
    }

    pub(crate) fn kernel_names(&self) -> Result<Vec<KernelName>> {
        names_in(&self.layout().kernels())
    }

    pub(crate) fn kernel_meta(&self, name: &KernelName) -> Result<Option<KernelMeta>> {
        document::read_if_there(&self.layout().kernel(name).join(META))
    }

    fn kernel_metas(&self, reporter: &dyn Reporter) -> Result<Vec<(KernelName, KernelMeta)>> {
        let names = self.kernel_names()?.into_iter();
        let found = names.filter_map(|name| {
            let meta = or_note(reporter, "kernel", &name, self.kernel_meta(&name))?;
            Some((name, meta))
        });
        Ok(found.collect())
    }
}

impl KernelMeta {
    fn into_info(self, name: KernelName, default: bool) -> KernelInfo {
        let Self { digest, size_bytes, created_at, source, .. } = self;
        KernelInfo { name, digest, size_bytes, created_at, source, default }
    }
}

fn newest(found: &[(KernelName, KernelMeta)]) -> Option<&KernelName> {
    found.iter().max_by_key(|(_, meta)| meta.created_ns).map(|(name, _)| name)
}

fn kernel_not_found(name: String) -> StoreError {
    StoreError::NotFound { kind: "kernel", name, hint: "tine kernel install".to_owned() }
}
