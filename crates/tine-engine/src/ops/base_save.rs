//! `base save`: a box's root becomes a new version.

use super::{base_import, quiesced};
use crate::LocalEngine;
use tine_model::{Provenance, ProvenanceKind, Reporter, Result, SaveBase, WrittenBase};

pub fn run(engine: &LocalEngine, request: &SaveBase, reporter: &dyn Reporter) -> Result<WrittenBase> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, &request.source)?;
    reporter.step(&format!("saving {} as {}", request.source, request.name), None);
    let stage =
        quiesced(&pool, &request.source, reporter, || Ok(pool.stage_base_from_box(&request.source)?))?;
    drop(locked);
    for path in pool.nested_subvolumes(&request.source)? {
        reporter.note(&format!("{path} is a subvolume of its own: the base holds it as an empty directory"));
    }
    base_import::publish(stage, &request.name, Provenance { kind: ProvenanceKind::Save, build: None })
}
