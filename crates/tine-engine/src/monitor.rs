//! The life of a box's monitor process: the machine layer runs the box; when it has ended, a box that was made with
//! `--rm` is deleted.

use crate::{EngineConfig, LocalEngine, ops};
use std::{path::PathBuf, time::Duration};
use tine_machine::monitor::Ended;
use tine_model::{BoxRef, BoxStatus, ProjectName};

/// A stop holds the box while it waits for this process to end its box, so this may have to wait for it.
const DELETE_WAIT: Duration = Duration::from_secs(60);

/// The hidden entry of the executable: `__monitor ROOT PROJECT:BOX`. Returns the exit code.
#[must_use]
pub fn monitor_main(args: &[String]) -> u8 {
    let ended = tine_machine::monitor::run();
    if let [root, name] = args
        && let Ok(name) = BoxRef::parse(name, &ProjectName::default_project())
    {
        let mut config = EngineConfig::new(PathBuf::from(root));
        config.wait = DELETE_WAIT;
        delete_if_wanted(&LocalEngine::new(config), &name, ended.as_ref().ok());
    }
    u8::from(ended.is_err())
}

/// There is nobody to tell of a failure: the box is then still listed, and `gc` removes it.
fn delete_if_wanted(engine: &LocalEngine, name: &BoxRef, ended: Option<&Ended>) {
    // opening a pool mounts it, and one that was just detached is to stay so
    if !engine.config.root.join("store.json").exists() {
        return;
    }
    let Ok(pool) = engine.pool() else { return };
    // a box whose starter could not show it properly was never ready
    let unwanted = |id: &str| ended.is_some_and(|ended| ended.abandoned && ended.id == id);
    if !pool.box_meta(name).is_ok_and(|meta| meta.settings.remove_on_stop || unwanted(&meta.id)) {
        return;
    }
    let Ok(locked) = engine.lock(&pool, name) else { return };
    // a restore has started it again meanwhile
    if ops::status(&pool, name).is_ok_and(|status| status == BoxStatus::Stopped) {
        let _ = locked.delete();
    }
}
