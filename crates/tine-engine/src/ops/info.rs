//! `list` and `info`: boxes as they stand.

use super::status;
use crate::LocalEngine;
use tine_model::{BoxInfo, BoxRef, BoxStatus, BoxSummary, ListBoxes, Reporter, Result};
use tine_store::{BoxRecord, Pool};

/// Boxes by project and name, only those that carry all the tags asked for.
pub fn list(engine: &LocalEngine, request: &ListBoxes, reporter: &dyn Reporter) -> Result<Vec<BoxSummary>> {
    let pool = engine.pool()?;
    let mut list = Vec::new();
    for record in pool.readable_boxes(request.project.as_ref(), reporter)? {
        if request.tags.iter().all(|tag| record.meta.settings.tags.contains(tag)) {
            list.push(summary(&pool, record)?);
        }
    }
    Ok(list)
}

/// One box with all that is known of it.
pub fn run(pool: &Pool, name: &BoxRef) -> Result<BoxInfo> {
    let meta = pool.box_meta(name)?;
    let (id, source, settings) = (meta.id.clone(), meta.source.clone(), meta.settings.clone());
    let summary = summary(pool, BoxRecord { name: name.clone(), meta })?;
    let run_dir = pool.box_run_path(name);
    let stopped = summary.status == BoxStatus::Stopped;
    let address = if stopped { None } else { tine_machine::address(&run_dir)? };
    let accel = if stopped { None } else { tine_machine::accel(&run_dir)? };
    let last_end = if stopped { tine_machine::last_end(&run_dir)? } else { None };
    Ok(BoxInfo {
        summary,
        id,
        source,
        settings,
        address,
        snapshots: pool.list_snapshots(name)?.into_iter().map(|s| s.name).collect(),
        can_undo: pool.can_undo(name)?,
        root_path: pool.box_root_path(name).display().to_string(),
        accel,
        last_end,
    })
}

fn summary(pool: &Pool, record: BoxRecord) -> Result<BoxSummary> {
    let BoxRecord { name, meta } = record;
    Ok(BoxSummary {
        status: status(pool, &name)?,
        name,
        kind: meta.kind,
        base: meta.base,
        created_at: meta.created_at,
        tags: meta.settings.tags,
    })
}
