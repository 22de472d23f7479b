//! `check`: verifies the store's invariants, and with `--read-data` everything that has a digest or checksum.

use crate::LocalEngine;
use tine_model::{CheckReport, CheckRequest, Reporter, Result};

pub fn run(engine: &LocalEngine, request: &CheckRequest, reporter: &dyn Reporter) -> Result<CheckReport> {
    Ok(engine.pool()?.check(request, reporter)?)
}
