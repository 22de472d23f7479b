//! `cp`: files out of a box as a tar, and a tar into a box. The host's side of the paths is the caller's.
//!
//! Works on the root as it lies in the pool, so a stopped box does as well; what is mounted over a container box is
//! looked up where it is mounted from. The files of a vm box are asked of its guest.

use super::{start, status, tree};
use crate::LocalEngine;
use std::{
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};
use tine_archive::{ArchiveError, Limits, Policy};
use tine_machine::vm;
use tine_model::{BoxKind, BoxPath, BoxStatus, Error, ErrorCode, PathKind, Reporter, Result, VolumeRef};
use tine_store::Pool;
use tine_sys::{
    SysError,
    tree::{Kind, LastLink, Node, Tree},
};

/// Members that one copy into a box may hold.
const MAX_MEMBERS: u64 = 5_000_000;

/// What lies at a path of a box, a link at its end followed.
pub fn stat(engine: &LocalEngine, path: &BoxPath) -> Result<PathKind> {
    let pool = engine.pool()?;
    if let Some(run_dir) = guest(engine, &pool, path)? {
        return vm::stat_path(&run_dir, &path.path).map_err(|e| in_guest(path, e));
    }
    let place = find(&pool, path, LastLink::Follow)?;
    match place.tree.follow(&place.path) {
        Ok(node) if node.meta().kind == Kind::Dir => Ok(PathKind::Directory),
        Ok(_) => Ok(PathKind::File),
        Err(error) if is_missing(&error) => Ok(PathKind::Missing),
        Err(error) => Err(failed(path, error)),
    }
}

/// Writes what lies at a path as a tar; a link at its end is copied as a link.
pub fn out(engine: &LocalEngine, path: &BoxPath, out: &mut dyn Write, reporter: &dyn Reporter) -> Result<()> {
    let pool = engine.pool()?;
    if let Some(run_dir) = guest(engine, &pool, path)? {
        reporter.step(&format!("copying {}:{}", path.name, path.path), None);
        return vm::copy_out(&run_dir, &path.path, out).map_err(|e| in_guest(path, e));
    }
    let place = find(&pool, path, LastLink::Keep)?;
    node_at(&place, path)?;
    let name = path.path.as_path().file_name();
    reporter.step(&format!("copying {}:{}", path.name, path.path), None);
    tine_archive::write(&place.tree, &place.path, name, out, reporter)?;
    Ok(())
}

/// Extracts a tar into the directory at a path.
pub fn into(
    engine: &LocalEngine,
    path: &BoxPath,
    tar: &mut (dyn Read + Send),
    reporter: &dyn Reporter,
) -> Result<()> {
    let pool = engine.pool()?;
    if let Some(run_dir) = guest(engine, &pool, path)? {
        reporter.step(&format!("copying into {}:{}", path.name, path.path), None);
        return vm::copy_in(&run_dir, &path.path, tar).map_err(|e| in_guest(path, e));
    }
    // held, so that no restore exchanges the root meanwhile
    let _locked = engine.lock(&pool, &path.name)?;
    let place = find(&pool, path, LastLink::Follow)?;
    if place.read_only {
        let message = format!("{}:{} is read-only in the box", path.name, path.path);
        return Err(Error::new(ErrorCode::InvalidPath, message));
    }
    let folder = place.tree.dir(&place.path).map_err(|error| failed(path, error))?;
    let folder: OwnedFd =
        folder.as_fd().try_clone_to_owned().map_err(|e| crate::io_error("open", &place.path, &e))?;
    reporter.step(&format!("copying into {}:{}", path.name, path.path), None);
    let limits = Limits { members: MAX_MEMBERS, bytes: pool.space()?.available };
    tine_archive::extract(tar, &tree(folder), &limits, &Policy::copy(), reporter)?;
    Ok(pool.commit()?)
}

/// The run directory of a vm box, whose files only its guest knows; a stopped one is started. None for a container box.
fn guest(engine: &LocalEngine, pool: &Pool, path: &BoxPath) -> Result<Option<PathBuf>> {
    let name = &path.name;
    if pool.box_meta(name)?.kind != BoxKind::Vm {
        return Ok(None);
    }
    if status(pool, name)? == BoxStatus::Stopped {
        let locked = engine.lock(pool, name)?;
        if status(pool, name)? == BoxStatus::Stopped {
            start::start(engine, pool, &locked)?;
        }
    }
    Ok(Some(pool.box_run_path(name)))
}

fn in_guest(path: &BoxPath, error: tine_machine::MachineError) -> Error {
    super::for_box(&path.name)(error.into())
}

/// A path of a box: the tree it is in and where in that tree.
struct Place {
    tree: Tree,
    path: PathBuf,
    read_only: bool,
}

/// Follows links inside the box's root, then looks whether the path lies in something mounted over it.
fn find(pool: &Pool, wanted: &BoxPath, last: LastLink) -> Result<Place> {
    let root = tree(pool.open_box_root(&wanted.name)?);
    let absolute = Path::new("/").join(wanted.path.as_path());
    let resolved = root.resolve(&absolute, last).map_err(|error| failed(wanted, error))?;
    for (target, source, read_only) in mounts(pool, wanted)? {
        if let Ok(rest) = resolved.path.strip_prefix(&target) {
            let tree = Tree::open(&source).map_err(ArchiveError::from)?;
            return Ok(Place { tree, path: Path::new("/").join(rest), read_only });
        }
    }
    Ok(Place { tree: root, path: resolved.path, read_only: false })
}

/// What is mounted over the box: where, from where, and whether read-only; inner mounts first.
fn mounts(pool: &Pool, wanted: &BoxPath) -> Result<Vec<(PathBuf, PathBuf, bool)>> {
    let project = &wanted.name.project;
    let shared = pool.shared_dirs(project)?;
    let mut mounts: Vec<(PathBuf, PathBuf, bool)> = vec![
        ("/home".into(), shared.home, false),
        ("/box/proj".into(), shared.project, false),
        ("/box/all".into(), shared.all, false),
        ("/box/bin".into(), shared.bin, true),
    ];
    for volume in pool.box_meta(&wanted.name)?.settings.volumes {
        let data = pool.volume_data_path(&VolumeRef { project: project.clone(), name: volume.volume });
        mounts.push((volume.path.as_str().into(), data, volume.read_only));
    }
    mounts.sort_by(|a, b| b.0.cmp(&a.0));
    Ok(mounts)
}

fn node_at(place: &Place, wanted: &BoxPath) -> Result<Node> {
    place.tree.node(&place.path).map_err(|error| failed(wanted, error))
}

fn is_missing(error: &SysError) -> bool {
    matches!(error.source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn failed(wanted: &BoxPath, error: SysError) -> Error {
    let (name, path) = (&wanted.name, &wanted.path);
    match error.source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorCode::NotFound, format!("{name}:{path} does not exist"))
        }
        std::io::ErrorKind::NotADirectory => {
            Error::new(ErrorCode::InvalidPath, format!("{name}:{path} is not a directory"))
        }
        _ if error.errno() == rustix::io::Errno::LOOP.raw_os_error() => {
            Error::new(ErrorCode::InvalidPath, format!("{name}:{path} leads in circles"))
        }
        _ => Error::new(ErrorCode::Internal, format!("{name}:{path}: {error}")),
    }
}
