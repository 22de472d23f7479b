//! `diff status` and `diff file`: a box's current root, or a snapshot, against an older one.

use super::{quiesced, tree};
use crate::LocalEngine;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use tine_model::{
    BoxKind, BoxRef, DiffFile, DiffFileRequest, DiffStatus, DiffStatusRequest, Error, ErrorCode, Result,
    Silent, SnapshotName,
};
use tine_store::{
    Pool,
    diff::{Changes, HiddenPaths},
    disk::Image,
};

pub fn status(engine: &LocalEngine, name: &BoxRef, request: &DiffStatusRequest) -> Result<DiffStatus> {
    let pool = engine.pool()?;
    let against = older(&pool, name, request.against.as_ref())?;
    if pool.box_meta(name)?.kind == BoxKind::Vm {
        let changes = between_disks(&pool, name, &against, request.to.as_ref(), |old, new| {
            tine_store::diff::disk_status(old, new)
        })?;
        return Ok(answer(against, request, changes));
    }
    let hidden = hidden(&pool, name)?;
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
    Ok(answer(against, request, changes))
}

fn answer(against: SnapshotName, request: &DiffStatusRequest, changes: Changes) -> DiffStatus {
    DiffStatus {
        against,
        to: request.to.clone(),
        added: changes.added,
        modified: changes.modified,
        deleted: changes.deleted,
    }
}

/// Reads the disks of two roots of a vm box; a running guest writes down what it has first.
fn between_disks<T>(
    pool: &Pool,
    name: &BoxRef,
    against: &SnapshotName,
    to: Option<&SnapshotName>,
    compare: impl FnOnce(&Image, &Image) -> tine_store::Result<T>,
) -> Result<T> {
    let old = image(&pool.open_snapshot_root(name, against)?)?;
    match to {
        Some(to) => Ok(compare(&old, &image(&pool.open_snapshot_root(name, to)?)?)?),
        None => {
            let view = quiesced(pool, name, &Silent, || Ok(pool.view_of_box(name)?))?;
            Ok(compare(&old, &image(&view.open_root()?)?)?)
        }
    }
}

fn image(root: &OwnedFd) -> Result<Image> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let disk = rustix::fs::openat(root, "disk.img", flags, Mode::empty())
        .map_err(|e| Error::new(ErrorCode::Corrupt, format!("open the box's disk: {e}")))?;
    Ok(Image::open(disk)?)
}

pub fn file(engine: &LocalEngine, name: &BoxRef, request: &DiffFileRequest) -> Result<DiffFile> {
    let pool = engine.pool()?;
    let against = older(&pool, name, request.against.as_ref())?;
    if pool.box_meta(name)?.kind == BoxKind::Vm {
        return between_disks(&pool, name, &against, request.to.as_ref(), |old, new| {
            tine_store::diff::disk_file(old, new, &request.path)
        });
    }
    let hidden = hidden(&pool, name)?;
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
