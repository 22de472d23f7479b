//! `snapshot create`: of the root, or of the whole running machine.

use super::{capture, quiesced, status};
use crate::LocalEngine;
use tine_model::{
    BoxKind, BoxRef, BoxStatus, CreateSnapshot, Error, ErrorCode, Reporter, Result, SnapshotInfo,
};
use tine_store::{LockedBox, Pool};

/// Takes the same time for every tree: its size is measured when someone asks for it.
pub fn run(
    engine: &LocalEngine,
    name: &BoxRef,
    request: &CreateSnapshot,
    reporter: &dyn Reporter,
) -> Result<SnapshotInfo> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    if request.live {
        return live(&pool, &locked, request);
    }
    // refused before a guest is held still
    locked.free_snapshot_name(request)?;
    let record = quiesced(&pool, name, reporter, || Ok(locked.create_snapshot(request)?))?;
    for path in &record.missing_subvolumes {
        reporter
            .note(&format!("{path} is a subvolume of its own: the snapshot holds it as an empty directory"));
    }
    Ok(record.into_info(None))
}

/// Memory, devices and disk of one instant.
fn live(pool: &Pool, locked: &LockedBox<'_>, request: &CreateSnapshot) -> Result<SnapshotInfo> {
    let name = locked.name();
    if locked.meta()?.kind != BoxKind::Vm {
        let message = format!("box {name} is a container; only a vm box has memory that can be kept");
        return Err(Error::new(ErrorCode::WrongState, message).hint(format!("tine snapshot create {name}")));
    }
    if status(pool, name)? == BoxStatus::Stopped {
        let message = format!("box {name} is stopped and has no memory to keep");
        return Err(Error::new(ErrorCode::WrongState, message).hint(format!("tine snapshot create {name}")));
    }
    locked.free_snapshot_name(request)?;
    let (stage, captured) = capture::save(pool, &pool.box_run_path(name), &pool.box_root_path(name), false)?;
    let record = locked.publish_live_snapshot(stage, request, captured.contract)?;
    let mut info = record.into_info(None);
    info.pause_us = Some(captured.pause_us);
    Ok(info)
}
