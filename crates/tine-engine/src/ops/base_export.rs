//! `base export`: a version's tree as a tar.

use super::tree;
use crate::LocalEngine;
use std::{io::Write, path::Path};
use tine_model::{BaseRef, Reporter, Result};

pub fn run(engine: &LocalEngine, base: &BaseRef, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()> {
    let pool = engine.pool()?;
    let version = pool.resolve_base(base)?;
    reporter.step(&format!("exporting {}", version.name), Some(version.size_bytes.bytes()));
    let tree = tree(pool.open_base_root(&version.name)?);
    tine_archive::write(&tree, Path::new("/"), None, out, reporter)?;
    Ok(())
}
