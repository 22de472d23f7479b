//! `pause` and `resume`: freezing a box's processes and thawing them.

use super::for_box;
use crate::LocalEngine;
use std::path::Path;
use tine_machine::MachineResult;
use tine_model::{BoxRef, Result};

pub fn pause(engine: &LocalEngine, name: &BoxRef) -> Result<()> {
    switch(engine, name, tine_machine::pause)
}

pub fn resume(engine: &LocalEngine, name: &BoxRef) -> Result<()> {
    switch(engine, name, tine_machine::resume)
}

fn switch(engine: &LocalEngine, name: &BoxRef, to: fn(&Path) -> MachineResult<()>) -> Result<()> {
    let pool = engine.pool()?;
    let _locked = engine.lock(&pool, name)?;
    to(&pool.box_run_path(name)).map_err(|error| for_box(name)(error.into()))
}
