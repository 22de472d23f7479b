//! One file per verb, and the small things several verbs share: how a box stands and how it is shown.

mod base_build;
mod base_export;
mod base_import;
mod base_install;
mod base_save;
mod check;
mod copy;
mod create;
mod delete;
mod detach;
mod diff;
mod exec;
mod gc;
mod info;
mod init;
mod logs;
mod pause;
mod rename;
mod service;
mod snapshot_create;
mod snapshot_restore;
mod start;
mod stop;
mod update;

use std::os::fd::OwnedFd;
use tine_model::{BoxRef, BoxStatus, Error, ErrorCode, Result};
use tine_store::{LockedBox, Pool};
use tine_sys::tree::Tree;

/// What a box is doing.
pub(crate) fn status(pool: &Pool, name: &BoxRef) -> Result<BoxStatus> {
    Ok(tine_machine::status(&pool.box_run_path(name))?)
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
