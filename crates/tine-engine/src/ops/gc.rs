//! `gc`: removes what nothing refers to, in the store and on the host.
//!
//! Holds the pool alone, so that nothing in staging belongs to an operation that is still at work. Running boxes go
//! on: they do not hold the pool's lock.

use super::{start, status};
use crate::LocalEngine;
use std::collections::BTreeSet;
use tine_model::{BoxRef, BoxStatus, GcReport, Reporter, Result, Silent};
use tine_store::{BoxRecord, ExclusivePool, Garbage, Pool};

pub fn run(engine: &LocalEngine, dry_run: bool, reporter: &dyn Reporter) -> Result<GcReport> {
    let pool = engine.exclusive_pool()?;
    let mut removed = Vec::new();
    reporter.step("looking for garbage", None);
    let garbage = pool.plan_gc()?;
    removed.extend(garbage.iter().map(|g| g.what.clone()));
    let staged: Vec<String> = garbage.iter().filter_map(Garbage::box_id).collect();
    if !dry_run {
        pool.apply_gc(&garbage, reporter)?;
    }
    let boxes = pool.readable_boxes(None, reporter)?;
    removed.extend(left_over_cgroups(&pool, &boxes, &staged, dry_run)?);
    removed.extend(ended_boxes(engine, &pool, &boxes, dry_run)?);
    removed.extend(tine_machine::net::sweep(&engine.config.runtime_dir, dry_run)?);
    Ok(GcReport { dry_run, removed })
}

/// Removes the groups that killed monitors and commands have left. To be asked as long as the pool is there: nobody else
/// can tell whose they are.
pub fn reap_cgroups(pool: &ExclusivePool) -> Result<()> {
    let staged: Vec<String> = pool.plan_gc()?.iter().filter_map(Garbage::box_id).collect();
    left_over_cgroups(pool, &pool.readable_boxes(None, &Silent)?, &staged, false).map(drop)
}

/// Groups of boxes of this pool that run no longer, or were never done. Those of other pools are not ours to judge.
fn left_over_cgroups(
    pool: &Pool,
    boxes: &[BoxRecord],
    staged: &[String],
    dry_run: bool,
) -> Result<Vec<String>> {
    let mut stopped: BTreeSet<&String> = staged.iter().collect();
    for record in boxes {
        if status(pool, &record.name)? == BoxStatus::Stopped {
            stopped.insert(&record.meta.id);
        }
    }
    let left: Vec<String> =
        tine_machine::cgroup::list_cgroups()?.into_iter().filter(|id| stopped.contains(id)).collect();
    for id in left.iter().filter(|_| !dry_run) {
        tine_machine::cgroup::reap_leftovers(id)?;
    }
    if !dry_run {
        tine_machine::cgroup::remove_empty_parents();
    }
    Ok(left.into_iter().map(|id| format!("cgroup {id}")).collect())
}

/// Boxes made with `--rm` whose monitor was killed before it could delete them. One that was never started stays.
fn ended_boxes(engine: &LocalEngine, pool: &Pool, boxes: &[BoxRecord], dry_run: bool) -> Result<Vec<String>> {
    let mut ended: Vec<&BoxRef> = Vec::new();
    for record in boxes.iter().filter(|r| r.meta.settings.remove_on_stop) {
        let started = pool.box_run_path(&record.name).join("lock").exists();
        if started && status(pool, &record.name)? == BoxStatus::Stopped {
            ended.push(&record.name);
        }
    }
    for name in ended.iter().filter(|_| !dry_run) {
        let locked = engine.lock(pool, name)?;
        start::end(pool, &locked, None)?;
        locked.delete()?;
    }
    Ok(ended.into_iter().map(|name| format!("box {name}")).collect())
}
