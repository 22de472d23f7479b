//! `delete`, `base delete` and `volume delete`: first what would go, then the deed.

use super::{start, status};
use crate::LocalEngine;
use tine_model::{
    BoxRef, BoxStatus, DeleteBase, DeleteBaseReport, DeleteBoxReport, Error, ErrorCode, Result, VolumeInfo,
    VolumeRef,
};

/// Deletes a box and its snapshots; a running one is killed.
pub fn run(engine: &LocalEngine, name: &BoxRef, dry_run: bool) -> Result<DeleteBoxReport> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    // a box whose document cannot be read can still be deleted
    let volumes = locked.meta().map(|meta| meta.settings.volumes).unwrap_or_default();
    let report = DeleteBoxReport {
        name: name.clone(),
        dry_run,
        snapshots: pool.snapshot_names(name)?,
        was_running: status(&pool, name)? != BoxStatus::Stopped,
        kept_volumes: volumes.into_iter().map(|v| v.volume.to_string()).collect(),
    };
    if !dry_run {
        start::end(&pool, &locked, None)?;
        locked.delete()?;
    }
    Ok(report)
}

/// Deletes an alias or a version.
pub fn base(engine: &LocalEngine, request: &DeleteBase, dry_run: bool) -> Result<DeleteBaseReport> {
    let pool = engine.pool()?;
    let plan = if dry_run { pool.plan_delete_base(request)? } else { pool.delete_base(request)? };
    let alias = plan.alias.map(|name| format!("alias {name}"));
    let version = plan.version.map(|name| format!("version {name}"));
    Ok(DeleteBaseReport { dry_run, removed: alias.into_iter().chain(version).collect(), moved: plan.moved })
}

/// Deletes a volume that no box has attached.
pub fn volume(engine: &LocalEngine, name: &VolumeRef, dry_run: bool) -> Result<VolumeInfo> {
    let pool = engine.pool()?;
    let info = pool.volume_info(name)?;
    if let (true, Some(holder)) = (dry_run, info.attached_to.first()) {
        return Err(Error::new(ErrorCode::WrongState, format!("volume {name} is attached to box {holder}")));
    }
    if !dry_run {
        pool.delete_volume(name)?;
    }
    Ok(info)
}
