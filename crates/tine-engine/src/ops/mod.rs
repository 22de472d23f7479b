//! One file per verb, and the small things several verbs share: how a box stands and how it is shown.

mod base_build;
mod base_export;
mod base_import;
mod base_install;
mod base_save;
mod capture;
mod check;
mod child;
mod copy;
mod create;
mod delete;
mod detach;
mod diff;
mod exec;
mod fork;
mod gc;
mod hub;
mod image;
mod image_bake;
mod info;
mod init;
mod kernel;
mod key;
mod logs;
mod pack;
mod pause;
mod pull;
mod push;
mod recipe;
mod rename;
mod service;
mod snapshot_create;
mod snapshot_restore;
mod start;
mod stop;
mod unpack;
mod update;

use std::os::fd::OwnedFd;
use tine_model::{BoxKind, BoxRef, BoxStatus, Error, ErrorCode, Reporter, Result};
use tine_store::{LockedBox, Pool};
use tine_sys::tree::Tree;

/// What a box is doing.
pub(crate) fn status(pool: &Pool, name: &BoxRef) -> Result<BoxStatus> {
    Ok(tine_machine::status(&pool.box_run_path(name))?)
}

/// Does something with the disk of a vm box while its guest writes nothing to it; with any other box at once. A guest
/// that does not come to rest is taken as after a power cut, and the user is told.
fn quiesced<T>(
    pool: &Pool,
    name: &BoxRef,
    reporter: &dyn Reporter,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let run_dir = pool.box_run_path(name);
    if pool.box_meta(name)?.kind != BoxKind::Vm || status(pool, name)? != BoxStatus::Running {
        return work();
    }
    match tine_machine::quiesce(&run_dir) {
        Ok(()) => {
            let done = work();
            let thawed = tine_machine::thaw(&run_dir).map_err(|error| for_box(name)(error.into()));
            done.and_then(|done| thawed.map(|()| done))
        }
        Err(error) => {
            reporter.note(&format!("the disk of {name} is taken as after a power cut: {error}"));
            work()
        }
    }
}

/// Refuses a box that has processes.
fn require_stopped(pool: &Pool, locked: &LockedBox<'_>, to: &str) -> Result<()> {
    let name = locked.name();
    match status(pool, name)? {
        BoxStatus::Stopped => Ok(()),
        state => Err(Error::new(
            ErrorCode::WrongState,
            format!("box {name} is {state}; it has to be stopped to {to}"),
        )
        .hint(format!("tine stop {name}"))),
    }
}

/// A hint of the machine layer speaks of BOX; a user wants to paste it.
fn for_box(name: &BoxRef) -> impl FnOnce(Error) -> Error {
    let name = name.to_string();
    move |mut error| {
        error.hint = error.hint.map(|hint| hint.replace("BOX", &name));
        if error.message.starts_with("the box") {
            error.message = error.message.replacen("the box", &format!("box {name}"), 1);
        }
        error
    }
}

/// A root to be looked into, confined to it.
fn tree(root: OwnedFd) -> Tree {
    Tree::from_fd(root)
}
