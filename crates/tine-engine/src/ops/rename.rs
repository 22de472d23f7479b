//! `rename`: another name for a stopped box.

use super::{info, require_stopped};
use crate::LocalEngine;
use tine_model::{BoxInfo, BoxName, BoxRef, Result};

pub fn run(engine: &LocalEngine, name: &BoxRef, new_name: &BoxName) -> Result<BoxInfo> {
    let pool = engine.pool()?;
    let mut locked = engine.lock(&pool, name)?;
    require_stopped(&pool, &locked, "be renamed")?;
    locked.meta()?;
    locked.rename(new_name)?;
    info::run(&pool, locked.name())
}
