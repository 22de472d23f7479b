//! Limits on what a box writes, by simple quotas.
//!
//! Under simple quotas an extent is charged to the subvolume that wrote it and to no other, so a limit on what is
//! charged bounds what the box adds to what it was cloned from. A restore makes a new subvolume, whose count begins
//! at zero under the same limit.

use crate::{
    error::{Result, StoreError},
    pool::Pool,
};
use tine_model::ByteSize;
use tine_sys::btrfs;

impl Pool {
    /// Sets or removes the limit of a subvolume. The first limit in a pool turns quotas on.
    pub(crate) fn limit_subvolume(&self, subvolume: u64, limit: Option<ByteSize>) -> Result<()> {
        let enabled = btrfs::simple_quotas_enabled(self.dir())?;
        match limit {
            None if !enabled => return Ok(()),
            Some(_) if !enabled => {
                btrfs::enable_simple_quotas(self.dir()).map_err(|e| StoreError::Unsupported {
                    message: format!(
                        "a disk limit needs btrfs simple quotas (Linux 6.7 or later): {}",
                        e.source
                    ),
                })?
            }
            _ => {}
        }
        Ok(btrfs::limit_referenced(self.dir(), subvolume, limit.map(ByteSize::bytes))?)
    }
}
