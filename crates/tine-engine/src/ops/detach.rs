//! `detach`: stops every box and unmounts the pool.

use super::{gc, start, status};
use crate::{LocalEngine, cancelled};
use tine_model::{BoxRef, BoxStatus, DetachReport, Reporter, Result};
use tine_store::Pool;

/// Seconds a box's programs get to end.
const GRACE_SECONDS: u32 = 10;

pub fn run(engine: &LocalEngine, reporter: &dyn Reporter) -> Result<DetachReport> {
    let stopped = stop_boxes(engine, reporter)?;
    if reporter.is_cancelled() {
        return Err(cancelled("detach"));
    }
    let pool = engine.exclusive_pool()?;
    // what cannot be removed now goes with the next `gc` of the pool, or with the host's restart
    let _ = gc::reap_cgroups(&pool);
    let unmounted = pool.unmount()?;
    Ok(DetachReport { stopped, unmounted })
}

fn stop_boxes(engine: &LocalEngine, reporter: &dyn Reporter) -> Result<Vec<BoxRef>> {
    let pool = engine.pool()?;
    let running: Vec<BoxRef> = pool
        .box_names(None)?
        .into_iter()
        .filter(|n| !matches!(status(&pool, n), Ok(BoxStatus::Stopped)))
        .collect();
    reporter.step("stopping boxes", Some(running.len() as u64));
    // each has its own grace period, so they get it at the same time
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let stops: Vec<_> = running.iter().map(|name| scope.spawn(|| stop(engine, &pool, name))).collect();
        stops.into_iter().map(|stop| stop.join().unwrap_or(Ok(()))).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    Ok(running)
}

fn stop(engine: &LocalEngine, pool: &Pool, name: &BoxRef) -> Result<()> {
    let locked = engine.lock(pool, name)?;
    start::end(pool, &locked, Some(GRACE_SECONDS))?;
    if start::goes_when_stopped(&locked) {
        locked.delete()?;
    }
    Ok(())
}
