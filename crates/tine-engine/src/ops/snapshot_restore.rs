//! `snapshot restore` and `snapshot undo`: a running box is stopped, its root exchanged, and it is started again.

use super::{start, status};
use crate::LocalEngine;
use tine_model::{BoxRef, BoxStatus, RestoreReport, RestoreSnapshot, Result};
use tine_store::{LockedBox, Pool, Restored};

/// Seconds a box's programs get to end. What they would still write is gone with the root.
const GRACE_SECONDS: u32 = 2;

pub fn restore(engine: &LocalEngine, name: &BoxRef, request: &RestoreSnapshot) -> Result<RestoreReport> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    // refused before the box is stopped, so that a mistyped name does no harm
    locked.check_restore(request)?;
    exchange(engine, &pool, &locked, |locked| {
        let Restored { snapshot, kept_as } = locked.restore(request)?;
        Ok((Some(snapshot), kept_as))
    })
}

pub fn undo(engine: &LocalEngine, name: &BoxRef) -> Result<RestoreReport> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    locked.check_undo()?;
    exchange(engine, &pool, &locked, |locked| {
        locked.undo_restore()?;
        Ok((None, None))
    })
}

type Names = (Option<tine_model::SnapshotName>, Option<tine_model::SnapshotName>);

fn exchange(
    engine: &LocalEngine,
    pool: &Pool,
    locked: &LockedBox<'_>,
    swap: impl FnOnce(&LockedBox<'_>) -> Result<Names>,
) -> Result<RestoreReport> {
    let was = status(pool, locked.name())?;
    start::end(pool, locked, Some(GRACE_SECONDS))?;
    let swapped = swap(locked);
    let restarted = was != BoxStatus::Stopped;
    if restarted {
        // also when the swap failed: the box goes on as it was
        start::start(engine, pool, locked)?;
    }
    let (restored, kept_as) = swapped?;
    let volumes = locked.meta()?.settings.volumes;
    let untouched_volumes = volumes.into_iter().map(|v| v.volume.to_string()).collect();
    Ok(RestoreReport { restored, kept_as, restarted, untouched_volumes })
}
