//! Single names in one open directory.

use super::{Kind, Meta, Node, Time, node::timestamps, shown};
use crate::{SysError, SysResult};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// An open directory. Its methods take one name each (no slash, not `.` or `..`) and never follow a link.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: OsString,
    /// What it stands for, where the file system says so without a look at the object.
    pub kind: Option<Kind>,
}

impl Dir {
    /// Takes an open directory.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Its names without `.` and `..`, in the file system's order.
    ///
    /// # Errors
    /// Those of `getdents(2)`.
    pub fn entries(&self) -> SysResult<Vec<DirEntry>> {
        let fail = |e: Errno| SysError::new("read", "a directory", e);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let kind = Kind::of(entry.file_type());
                names.push(DirEntry { name: OsStr::from_bytes(name).to_os_string(), kind });
            }
        }
        Ok(names)
    }

    /// What the directory itself is.
    ///
    /// # Errors
    /// Those of `fstat(2)`.
    pub fn meta(&self) -> SysResult<Meta> {
        let fail = |e: Errno| SysError::new("stat", "a directory", e);
        let stat = rustix::fs::fstat(&self.fd).map_err(fail)?;
        Meta::of(&stat).ok_or_else(|| fail(Errno::INVAL))
    }

    /// What a name stands for; a link is itself.
    ///
    /// # Errors
    /// `ENOENT` and the others of `fstatat(2)`.
    pub fn stat(&self, name: &OsStr) -> SysResult<Meta> {
        let stat = at("stat", name, |n| rustix::fs::statat(&self.fd, n, AtFlags::SYMLINK_NOFOLLOW))?;
        Meta::of(&stat).ok_or_else(|| error("stat", name, Errno::INVAL))
    }

    /// The object of a name; a link is itself.
    ///
    /// # Errors
    /// `ENOENT` and the others of `open(2)`.
    pub fn node(&self, name: &OsStr) -> SysResult<Node> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = at("open", name, |n| rustix::fs::openat(&self.fd, n, flags, Mode::empty()))?;
        Node::from_fd(fd, Path::new(name))
    }

    /// The directory of a name.
    ///
    /// # Errors
    /// `ENOTDIR` when it is something else, a link included; `ENOENT` and the others of `open(2)`.
    pub fn open_dir(&self, name: &OsStr) -> SysResult<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at("open directory", name, |n| rustix::fs::openat(&self.fd, n, flags, Mode::empty()))
            .map(Self::from_fd)
    }

    /// Makes a regular file, empty and open for writing.
    ///
    /// # Errors
    /// `EEXIST` and the others of `open(2)`.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> SysResult<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at("create", name, |n| rustix::fs::openat(&self.fd, n, flags, bits(mode))).map(File::from)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `EEXIST` and the others of `mkdir(2)`.
    pub fn create_dir(&self, name: &OsStr, mode: u32) -> SysResult<()> {
        at("create directory", name, |n| rustix::fs::mkdirat(&self.fd, n, bits(mode)))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// `EEXIST` and the others of `symlink(2)`.
    pub fn create_symlink(&self, target: &OsStr, name: &OsStr) -> SysResult<()> {
        at("create link", name, |n| rustix::fs::symlinkat(target, &self.fd, n))
    }

    /// Gives the object that `from_name` stands for in `from` a second name here; a link is itself the object.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `EMLINK`, `EXDEV` and the others of `link(2)`.
    pub fn create_hard_link(&self, from: &Self, from_name: &OsStr, name: &OsStr) -> SysResult<()> {
        single(from_name).map_err(|e| error("create hard link", from_name, e))?;
        let empty = AtFlags::empty();
        at("create hard link", name, |n| rustix::fs::linkat(&from.fd, from_name, &self.fd, n, empty))
    }

    /// Makes a FIFO, a socket's name or a device node with its major and minor number.
    ///
    /// # Errors
    /// `EINVAL` for another kind; `EEXIST`, `EPERM` and the others of `mknod(2)`.
    pub fn create_special(&self, name: &OsStr, kind: Kind, mode: u32, device: (u32, u32)) -> SysResult<()> {
        let file_type = match kind {
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            Kind::File | Kind::Dir | Kind::Symlink => return Err(error("create node", name, Errno::INVAL)),
        };
        let number = rustix::fs::makedev(device.0, device.1);
        at("create node", name, |n| rustix::fs::mknodat(&self.fd, n, file_type, bits(mode), number))
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// `EISDIR` for a directory; `ENOENT` and the others of `unlink(2)`.
    pub fn remove(&self, name: &OsStr) -> SysResult<()> {
        at("remove", name, |n| rustix::fs::unlinkat(&self.fd, n, AtFlags::empty()))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOTEMPTY`, `ENOTDIR` and the others of `rmdir(2)`.
    pub fn remove_dir(&self, name: &OsStr) -> SysResult<()> {
        at("remove directory", name, |n| rustix::fs::unlinkat(&self.fd, n, AtFlags::REMOVEDIR))
    }

    /// Sets owner and group of a name; a link is itself.
    ///
    /// # Errors
    /// Those of `fchownat(2)`.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> SysResult<()> {
        let (uid, gid, flags) = (Uid::from_raw(uid), Gid::from_raw(gid), AtFlags::SYMLINK_NOFOLLOW);
        at("set owner of", name, |n| rustix::fs::chownat(&self.fd, n, Some(uid), Some(gid), flags))
    }

    /// Sets the time of the last change of a name's content; a link is itself.
    ///
    /// # Errors
    /// Those of `utimensat(2)`.
    pub fn set_mtime(&self, name: &OsStr, mtime: Time) -> SysResult<()> {
        let (times, flags) = (timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW);
        at("set time of", name, |n| rustix::fs::utimensat(&self.fd, n, &times, flags))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// Runs a call on a single name.
fn at<T>(
    operation: &'static str,
    name: &OsStr,
    call: impl FnOnce(&OsStr) -> Result<T, Errno>,
) -> SysResult<T> {
    single(name).and_then(|()| call(name)).map_err(|e| error(operation, name, e))
}

fn error(operation: &'static str, name: &OsStr, source: impl Into<io::Error>) -> SysError {
    SysError::new(operation, shown(Path::new(name)), source)
}

/// Refuses what is not one name, so that no call can leave its directory.
fn single(name: &OsStr) -> Result<(), Errno> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        _ => Ok(()),
    }
}
