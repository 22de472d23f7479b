//! `init`: makes the pool, or makes sure that the one there is mounted.

use crate::{LocalEngine, require_root};
use tine_model::{InitRequest, PoolInfo, Reporter, Result};
use tine_store::Pool;

pub fn run(engine: &LocalEngine, request: &InitRequest, reporter: &dyn Reporter) -> Result<PoolInfo> {
    require_root()?;
    reporter.step(&format!("preparing the pool at {}", engine.config.root.display()), None);
    let made = Pool::init(&engine.config.root, request.size)?;
    Ok(PoolInfo {
        root: made.pool.root().display().to_string(),
        image_file: made.image_file.map(|path| path.display().to_string()),
        created_at: made.pool.created_at(),
        created: made.created,
    })
}
