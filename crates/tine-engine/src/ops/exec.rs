//! `exec`: runs a program in a box, starting the box if it is stopped.

use super::{for_box, start, status};
use crate::LocalEngine;
use tine_machine::ExecContext;
use tine_model::{BoxRef, BoxStatus, Error, ErrorCode, ExecOutcome, ExecRequest, ExecStreams, Result};

/// The box is held only while it is started: programs run beside snapshots, updates and each other.
pub fn run(
    engine: &LocalEngine,
    name: &BoxRef,
    request: &ExecRequest,
    streams: ExecStreams,
) -> Result<ExecOutcome> {
    if request.argv.is_empty() {
        return Err(Error::new(ErrorCode::Usage, "no command to run was given"));
    }
    let pool = engine.pool()?;
    let meta = pool.box_meta(name)?;
    if status(&pool, name)? == BoxStatus::Stopped {
        let locked = engine.lock(&pool, name)?;
        if status(&pool, name)? == BoxStatus::Stopped {
            start::start(engine, &pool, &locked)?;
        }
    }
    let run_dir = pool.box_run_path(name);
    // a program may run for days; what needs the pool alone must not wait for it
    drop(pool);
    let context = ExecContext { run_dir: &run_dir, env: &meta.settings.env, kind: meta.kind };
    tine_machine::exec(context, request, streams).map_err(|error| for_box(name)(error.into()))
}
