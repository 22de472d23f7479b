//! Saving the machine of a running vm box into a stage of the store.

use crate::{create_new, io_error};
use std::{fs::File, os::fd::AsFd, path::Path};
use tine_machine::{CaptureTarget, Captured};
use tine_model::Result;
use tine_store::{Pool, StateStage};

/// Saves memory, devices and disk of one instant; the machine goes on. With `quiesce` its programs are stopped in order
/// first, so that clones can be given identities of their own before anything runs in them.
pub fn save<'p>(
    pool: &'p Pool,
    run_dir: &Path,
    root: &Path,
    quiesce: bool,
) -> Result<(StateStage<'p>, Captured)> {
    let stage = pool.stage_state()?;
    let root_dir = File::open(root).map_err(|e| io_error("open", root, &e))?;
    let (memory, vmstate) = (create_new(&stage.memory_path())?, create_new(&stage.vmstate_path())?);
    let target = CaptureTarget {
        memory: memory.as_fd(),
        vmstate: vmstate.as_fd(),
        root: root_dir.as_fd(),
        directory: stage.dir_fd(),
    };
    let captured = tine_machine::capture(run_dir, quiesce, &target)?;
    Ok((stage, captured))
}
