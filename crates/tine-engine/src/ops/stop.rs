//! `stop`: ends a box's programs, gently at first.

use super::start;
use crate::LocalEngine;
use tine_model::{BoxRef, Result, StopBox};

pub fn run(engine: &LocalEngine, name: &BoxRef, request: &StopBox) -> Result<()> {
    let pool = engine.pool()?;
    let locked = engine.lock(&pool, name)?;
    start::end(&pool, &locked, Some(request.grace_seconds))?;
    // the monitor would do it too; done here, it is done when the command returns
    if start::goes_when_stopped(&locked) {
        locked.delete()?;
    }
    Ok(())
}
