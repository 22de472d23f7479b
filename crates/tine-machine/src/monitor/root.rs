//! Looking at a box's root before anything is mounted over it. The tree is hostile.

use crate::error::{MachineError, MachineResult};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

/// Directories the OCI runtime library reaches by plain paths, so none of them may be a link.
const PLAIN_DIRECTORIES: [&str; 3] = ["dev", "proc", "sys"];

/// Refuses a root in which one of the places of `/dev`, `/proc` and `/sys` is anything but a directory.
pub(super) fn check(root: BorrowedFd<'_>) -> MachineResult<()> {
    for name in PLAIN_DIRECTORIES {
        match type_of(root, Path::new(name)) {
            Ok(FileType::Directory) | Err(Errno::NOENT) => {}
            Ok(_) | Err(Errno::LOOP) => {
                return Err(MachineError::BadRoot(format!("/{name} is not a directory")));
            }
            Err(e) => return Err(MachineError::io("look at", format!("/{name} of the box"), e)),
        }
    }
    Ok(())
}

/// True when `path` is a regular file, reached without following a link.
pub(super) fn is_regular_file(root: BorrowedFd<'_>, path: &Path) -> bool {
    type_of(root, path) == Ok(FileType::RegularFile)
}

fn type_of(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<FileType> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file: OwnedFd = rustix::fs::openat2(root, relative, flags, Mode::empty(), resolve)?;
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{fd::AsFd, unix::fs::symlink};

    #[test]
    fn a_link_in_a_mount_points_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = || std::fs::File::open(dir.path()).unwrap();
        assert!(check(open().as_fd()).is_ok());
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        assert!(check(open().as_fd()).is_ok());
        symlink("/dev", dir.path().join("dev")).unwrap();
        assert!(matches!(check(open().as_fd()), Err(MachineError::BadRoot(_))));
    }

    #[test]
    fn only_a_file_reached_without_links_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/hosts"), "").unwrap();
        symlink("/etc/shadow", dir.path().join("etc/resolv.conf")).unwrap();
        symlink("etc", dir.path().join("etc2")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let regular = |path: &str| is_regular_file(root.as_fd(), Path::new(path));
        assert!(regular("/etc/hosts"));
        assert!(
            !regular("/etc/resolv.conf")
                && !regular("/etc2/hosts")
                && !regular("/etc/none")
                && !regular("/etc")
        );
    }
}
