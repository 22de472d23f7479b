//! `base build`: a Dockerfile becomes a new version.

use super::base_import;
use crate::{LocalEngine, build, recipes};
use tine_model::{BuildBase, BuildProvenance, Provenance, ProvenanceKind, Reporter, Result, WrittenBase};

pub fn run(engine: &LocalEngine, request: &BuildBase, reporter: &dyn Reporter) -> Result<WrittenBase> {
    let pool = engine.pool()?;
    let built = build::build(request, reporter)?;
    let provenance = Provenance {
        kind: ProvenanceKind::Build,
        build: Some(BuildProvenance {
            builder: built.engine.program().to_owned(),
            parent_alias: None,
            parent_version: None,
            script_sha256: recipes::digest(&built.script),
            script: built.script.clone(),
        }),
    };
    base_import::import_built(&pool, &request.name, &built, provenance, reporter)
}
