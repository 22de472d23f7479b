//! What the agent does in processes of its own, so that its loop never waits for a disk: copying, and looking at
//! processes. Each is forked, does one thing, leaves a report when that failed, and ends.
//!
//! Copies see the box's root as it lies on the disk, without what is mounted over it, as those of a container do.

use super::channel::Failure;
use crate::{
    launch::Program,
    processes::{self, printable},
};
use rustix::{
    fs::CWD,
    mount::OpenTreeFlags,
    pipe::{PipeFlags, pipe_with},
};
use std::{
    fs::File,
    io::{ErrorKind, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use tine_archive::{Limits, Policy};
use tine_model::{ErrorCode, PathKind, RawPath, Silent};
use tine_sys::{
    SysError, SysResult, process,
    tree::{Dir, Kind, LastLink, Tree},
};

/// Members that one copy into a box may hold.
const MAX_MEMBERS: u64 = 5_000_000;
/// A report fits a pipe; a message is cut off after so many characters.
const MAX_MESSAGE: usize = 1000;

/// Forks a process that leads its group and does `body` with `data` and nothing else open. Returns when it leads its
/// group.
pub(super) fn start(
    enter: &dyn Fn() -> Result<(), String>,
    data: OwnedFd,
    reporting: OwnedFd,
    body: impl FnOnce(OwnedFd) -> Result<(), Failure>,
) -> SysResult<Program> {
    let (settled, settling) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| SysError::new("make", "pipe", e))?;
    let mut moved = Some((data, body));
    let pid = process::fork_child(|| {
        let Some((data, body)) = moved.take() else { return 1 };
        let prepared = prepare(enter, &data, &reporting);
        match prepared.and_then(|()| body(data)) {
            Ok(()) => 0,
            Err(failure) => {
                report(&reporting, &failure);
                1
            }
        }
    })?;
    drop(settling);
    // The new process closes the other end with everything it does not need.
    let _ = rustix::io::read(&settled, &mut [0; 1]);
    Ok(Program::worker(pid))
}

fn prepare(
    enter: &dyn Fn() -> Result<(), String>,
    data: &OwnedFd,
    reporting: &OwnedFd,
) -> Result<(), Failure> {
    process::default_signals();
    enter().map_err(|message| Failure::new(ErrorCode::Internal, message))?;
    rustix::process::setsid().map_err(|e| SysError::new("make", "session", e))?;
    Ok(process::close_all_except(&[data.as_fd(), reporting.as_fd()])?)
}

/// Leaves word of a failure; called in the process that failed.
pub(super) fn report(to: &OwnedFd, failure: &Failure) {
    let message = printable(&failure.message.chars().take(MAX_MESSAGE).collect::<String>());
    if let Ok(bytes) = serde_json::to_vec(&Failure { code: failure.code, message }) {
        let _ = rustix::io::write(to, &bytes);
    }
}

/// Writes what lies at a path as a tar; a link at its end is copied as a link.
pub(super) fn copy_out(root: &Path, path: &RawPath, out: OwnedFd) -> Result<(), Failure> {
    let (tree, resolved) = find(root, path, LastLink::Keep)?;
    tree.node(&resolved).map_err(|error| failed(path, &error))?;
    tine_archive::write(&tree, &resolved, path.as_path().file_name(), &mut File::from(out), &Silent)?;
    Ok(())
}

/// Extracts a tar into the directory at a path. Returns when it is on the disk.
pub(super) fn copy_in(root: &Path, path: &RawPath, tar: OwnedFd) -> Result<(), Failure> {
    let (tree, resolved) = find(root, path, LastLink::Follow)?;
    let folder = tree.dir(&resolved).map_err(|error| failed(path, &error))?;
    let limits = Limits { members: MAX_MEMBERS, bytes: free_space(&folder)? };
    let target = Tree::from_fd(duplicate(&folder)?);
    tine_archive::extract(&mut File::from(tar), &target, &limits, &Policy::copy(), &Silent)?;
    rustix::fs::syncfs(folder.as_fd()).map_err(|e| SysError::new("sync", path, e))?;
    Ok(())
}

/// Writes the processes as [`processes::parse_list`] reads them.
pub(super) fn list_processes(out: OwnedFd) -> Result<(), Failure> {
    let json = processes::list_as_json()?;
    let written = File::from(out).write_all(&json);
    Ok(written.map_err(|e| SysError::new("write", "the list of processes", e))?)
}

/// What lies at a path, a link at its end followed. Quick enough for the loop.
pub(super) fn stat(root: &Path, path: &RawPath) -> Result<PathKind, Failure> {
    let (tree, resolved) = find(root, path, LastLink::Follow)?;
    match tree.follow(&resolved) {
        Ok(node) if node.meta().kind == Kind::Dir => Ok(PathKind::Directory),
        Ok(_) => Ok(PathKind::File),
        Err(e) if matches!(e.source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(PathKind::Missing)
        }
        Err(error) => Err(failed(path, &error)),
    }
}

/// The root without what is mounted over it, and the path in it.
fn find(root: &Path, wanted: &RawPath, last: LastLink) -> Result<(Tree, std::path::PathBuf), Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let bare = rustix::mount::open_tree(CWD, root, flags).map_err(|e| SysError::new("open", "root", e))?;
    let tree = Tree::from_fd(bare);
    let absolute = Path::new("/").join(wanted.as_path());
    let resolved = tree.resolve(&absolute, last).map_err(|error| failed(wanted, &error))?;
    Ok((tree, resolved.path))
}

fn duplicate(folder: &Dir) -> SysResult<OwnedFd> {
    folder.as_fd().try_clone_to_owned().map_err(|e| SysError::new("open", "directory", e))
}

fn free_space(folder: &Dir) -> SysResult<u64> {
    let stats = rustix::fs::fstatfs(folder.as_fd()).map_err(|e| SysError::new("statfs", "root", e))?;
    Ok(stats.f_bavail.saturating_mul(u64::try_from(stats.f_bsize).unwrap_or(0)))
}

fn failed(path: &RawPath, error: &SysError) -> Failure {
    match error.source.kind() {
        ErrorKind::NotFound => Failure::new(ErrorCode::NotFound, format!("{path} does not exist")),
        ErrorKind::NotADirectory => {
            Failure::new(ErrorCode::InvalidPath, format!("{path} is not a directory"))
        }
        _ if error.errno() == rustix::io::Errno::LOOP.raw_os_error() => {
            Failure::new(ErrorCode::InvalidPath, format!("{path} leads in circles"))
        }
        _ => Failure::new(ErrorCode::Internal, format!("{path}: {error}")),
    }
}
