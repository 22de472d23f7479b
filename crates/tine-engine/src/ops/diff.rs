//! `diff status` and `diff file`: a box's current root, or a snapshot, against an older one.

use super::tree;
use crate::LocalEngine;
use std::os::fd::OwnedFd;
use tine_model::{
    BoxRef, DiffFile, DiffFileRequest, DiffStatus, DiffStatusRequest, Error, ErrorCode, Result, SnapshotName,
};
use tine_store::{Pool, diff::HiddenPaths};

pub fn status(engine: &LocalEngine, name: &BoxRef, request: &DiffStatusRequest) -> Result<DiffStatus> {
    let pool = engine.pool()?;
    let hidden = hidden(&pool, name)?;
    let against = older(&pool, name, request.against.as_ref())?;
    let old = tree(pool.open_snapshot_root(name, &against)?);
    // what a box goes on changing is looked at as it is now; the view is there until the diff is done
    let view;
    let new = match &request.to {
        Some(to) => pool.open_snapshot_root(name, to)?,
        None => {
            view = pool.view_of_box(name)?;
            view.open_root()?
        }
    };
    let changes = tine_store::diff::status(&old, &tree(new), &hidden)?;
    Ok(DiffStatus {
        against,
        to: request.to.clone(),
        added: changes.added,
        modified: changes.modified,
        deleted: changes.deleted,
    })
}

pub fn file(engine: &LocalEngine, name: &BoxRef, request: &DiffFileRequest) -> Result<DiffFile> {
    let pool = engine.pool()?;
    let hidden = hidden(&pool, name)?;
    let against = older(&pool, name, request.against.as_ref())?;
    let old = tree(pool.open_snapshot_root(name, &against)?);
    let new: OwnedFd = match &request.to {
        Some(to) => pool.open_snapshot_root(name, to)?,
        None => pool.open_box_root(name)?,
    };
    Ok(tine_store::diff::file(&old, &tree(new), &request.path, &hidden)?)
}

/// The snapshot asked for, or the most recent one.
fn older(pool: &Pool, name: &BoxRef, against: Option<&SnapshotName>) -> Result<SnapshotName> {
    if let Some(against) = against {
        return Ok(pool.snapshot(name, against)?.name);
    }
    pool.list_snapshots(name)?.pop().map(|snapshot| snapshot.name).ok_or_else(|| {
        let message = format!("box {name} has no snapshot; one must be given with --against");
        Error::new(ErrorCode::NotFound, message).hint(format!("tine snapshot create {name}"))
    })
}

/// What is mounted over the root and so is no part of it.
fn hidden(pool: &Pool, name: &BoxRef) -> Result<HiddenPaths> {
    Ok(HiddenPaths::of_container(&pool.box_meta(name)?.settings.volumes))
}
