//! `snapshot create`.

use crate::LocalEngine;
use tine_model::{BoxRef, CreateSnapshot, Reporter, Result, SnapshotInfo};

/// Takes the same time for every tree: its size is measured when someone asks for it.
pub fn run(
    engine: &LocalEngine,
    name: &BoxRef,
    request: &CreateSnapshot,
    reporter: &dyn Reporter,
) -> Result<SnapshotInfo> {
    let pool = engine.pool()?;
    let record = engine.lock(&pool, name)?.create_snapshot(request)?;
    for path in &record.missing_subvolumes {
        reporter
            .note(&format!("{path} is a subvolume of its own: the snapshot holds it as an empty directory"));
    }
    Ok(record.into_info(None))
}
