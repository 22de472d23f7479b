//! Making a box: a writable clone and its document, staged and published by one rename.

use super::{BoxMeta, box_taken};
use crate::{error::Result, pool::Pool};
use tine_model::{BoxRef, BoxSettings, BoxSource, KernelName, VolumeRef};
use tine_sys::lock::FileLock;

impl Pool {
    /// Makes a box of kind container from `source`. Durable on return.
    ///
    /// # Errors
    /// `NotFound` for the source or a volume, `AlreadyExists` when the name is taken, `InvalidPath` when a volume
    /// cannot be mounted where it is wanted, `WrongState` when the source is a machine, `Full`.
    pub fn create_box(&self, name: &BoxRef, source: &BoxSource, settings: &BoxSettings) -> Result<BoxMeta> {
        self.check_box_name(name)?;
        let origin = self.root_origin(source)?;
        let _volumes = self.hold_volumes(name, settings)?;
        self.stage_box(&origin, settings, None)?.publish(name)
    }

    /// Makes a box of kind vm from `source`, with a disk as long as the settings' disk limit says. It boots `kernel`;
    /// without one, that of the machine it is from. Durable on return.
    ///
    /// # Errors
    /// As [`Pool::vm_root_origin`]; `AlreadyExists` when the name is taken; `Usage` for volumes.
    pub fn create_vm_box(
        &self,
        name: &BoxRef,
        source: &BoxSource,
        settings: &BoxSettings,
        kernel: Option<KernelName>,
    ) -> Result<BoxMeta> {
        self.check_box_name(name)?;
        super::staged::refuse_volumes(settings)?;
        let origin = self.vm_root_origin(source, settings.limits.disk_bytes)?;
        self.stage_box(&origin, settings, kernel)?.publish(name)
    }

    /// Refuses a name that is taken: for a caller that is about to begin long work.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn check_box_name(&self, name: &BoxRef) -> Result<()> {
        if self.layout().box_dir(name).exists() { Err(box_taken(name)) } else { Ok(()) }
    }

    /// Keeps the volumes of `settings` from being deleted until the box that has them is there to be seen.
    pub(crate) fn hold_volumes(&self, name: &BoxRef, settings: &BoxSettings) -> Result<Vec<FileLock>> {
        let volume =
            |v: &tine_model::VolumeMount| VolumeRef { project: name.project.clone(), name: v.volume.clone() };
        settings.volumes.iter().map(|v| self.hold_volume(&volume(v))).collect()
    }
}
