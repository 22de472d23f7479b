//! `snapshot restore` and `snapshot undo`: a running box is stopped, its root exchanged, and it is started again; from
//! a live snapshot it goes on from its instant.

use super::{child, start, status};
use crate::{LocalEngine, machine};
use tine_model::{
    BoxKind, BoxRef, BoxStatus, Contract, RestoreReport, RestoreSnapshot, Result, SnapshotName,
};
use tine_store::{LockedBox, Pool, Restored, StateFiles};

/// Seconds a box's programs get to end. What they would still write is gone with the root.
const GRACE_SECONDS: u32 = 2;

pub fn restore(engine: &LocalEngine, name: &BoxRef, request: &RestoreSnapshot) -> Result<RestoreReport> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    // refused before the box is stopped, so that a mistyped name does no harm
    locked.check_restore(request)?;
    let live = pool.live_state(name, &request.name)?;
    let what = format!("snapshot {name}/{}", request.name);
    let live = live.as_ref().map(|state| child::verified(engine, state, &what)).transpose()?;
    exchange(engine, &pool, &locked, live, |locked| {
        let Restored { snapshot, kept_as } = locked.restore(request)?;
        Ok((Some(snapshot), kept_as))
    })
}

pub fn undo(engine: &LocalEngine, name: &BoxRef) -> Result<RestoreReport> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    locked.check_undo()?;
    exchange(engine, &pool, &locked, None, |locked| {
        locked.undo_restore()?;
        Ok((None, None))
    })
}

type Names = (Option<SnapshotName>, Option<SnapshotName>);

fn exchange(
    engine: &LocalEngine,
    pool: &Pool,
    locked: &LockedBox<'_>,
    live: Option<(&StateFiles, &Contract)>,
    swap: impl FnOnce(&LockedBox<'_>) -> Result<Names>,
) -> Result<RestoreReport> {
    let was = status(pool, locked.name())?;
    end(pool, locked)?;
    let swapped = swap(locked);
    let restarted = was != BoxStatus::Stopped;
    let resumed = live.is_some() && swapped.is_ok();
    match live.filter(|_| resumed) {
        Some((files, contract)) => {
            let from = machine::From::State { files, contract };
            start::start_from(engine, pool, locked, &from)
                .map_err(|error| error.hint(format!("tine start {}", locked.name())))?;
        }
        // also when the swap failed: the box goes on as it was
        None if restarted => start::start(engine, pool, locked)?,
        None => {}
    }
    let (restored, kept_as) = swapped?;
    let volumes = locked.meta()?.settings.volumes;
    let untouched_volumes = volumes.into_iter().map(|v| v.volume.to_string()).collect();
    Ok(RestoreReport { restored, kept_as, restarted, resumed, untouched_volumes })
}

/// A machine's disk is kept as it is; what its guest has not written yet is gone with it.
fn end(pool: &Pool, locked: &LockedBox<'_>) -> Result<()> {
    let grace = match locked.meta()?.kind {
        BoxKind::Container => Some(GRACE_SECONDS),
        BoxKind::Vm => Some(0),
    };
    start::end(pool, locked, grace)
}
