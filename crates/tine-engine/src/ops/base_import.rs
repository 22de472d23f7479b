//! `base import`: a tar becomes a new version.

use crate::{LocalEngine, build};
use std::io::Read;
use tine_archive::{Limits, Policy};
use tine_model::{BaseAlias, ImportBase, Provenance, ProvenanceKind, Reporter, Result, WrittenBase};
use tine_store::{BaseStage, Pool};
use tine_sys::tree::Tree;

/// Members of one tar; a large desktop root has about a million.
const MAX_MEMBERS: u64 = 5_000_000;

pub fn run(
    engine: &LocalEngine,
    request: &ImportBase,
    tar: &mut (dyn Read + Send),
    reporter: &dyn Reporter,
) -> Result<WrittenBase> {
    let pool = engine.pool()?;
    let parent = request.parent.as_ref().map(|base| pool.resolve_base(base)).transpose()?;
    let stage = pool.stage_base(parent.as_ref().map(|p| &p.name))?;
    reporter.step(&format!("importing {}", request.name), None);
    extract(&pool, &stage, tar, reporter)?;
    publish(stage, &request.name, Provenance { kind: ProvenanceKind::Import, build: None })
}

/// Extracts a root into a staged base; what does not fit into the pool is refused as soon as it is known.
pub fn extract(
    pool: &Pool,
    stage: &BaseStage<'_>,
    tar: &mut (dyn Read + Send),
    reporter: &dyn Reporter,
) -> Result<()> {
    let limits = Limits { members: MAX_MEMBERS, bytes: pool.space()?.available };
    let tree = Tree::open(&stage.root_path()).map_err(tine_archive::ArchiveError::from)?;
    tine_archive::extract(tar, &tree, &limits, &Policy::root_image(), reporter)?;
    Ok(())
}

/// Checks a staged base's programs and makes it a version.
pub fn publish(stage: BaseStage<'_>, alias: &BaseAlias, provenance: Provenance) -> Result<WrittenBase> {
    let tree = Tree::open(&stage.root_path()).map_err(tine_archive::ArchiveError::from)?;
    tine_archive::check_architecture(&tree)?;
    drop(tree);
    let version = stage.publish(alias, provenance)?;
    Ok(WrittenBase { alias: alias.clone(), version, created: true })
}

/// The same for a root that an engine built.
pub fn import_built(
    pool: &Pool,
    alias: &BaseAlias,
    built: &build::Built,
    provenance: Provenance,
    reporter: &dyn Reporter,
) -> Result<WrittenBase> {
    let stage = pool.stage_base(None)?;
    reporter.step(&format!("importing {alias}"), None);
    built.read_root(|tar| extract(pool, &stage, tar, reporter))?;
    publish(stage, alias, provenance)
}
