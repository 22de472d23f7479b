//! One object of a tree, held without opening it.

use super::{Dir, shown};
use crate::{SysError, SysResult};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

/// What kind of object a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    Char,
    /// A block device.
    Block,
}

impl Kind {
    pub(super) fn of(file_type: FileType) -> Option<Self> {
        Some(match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::Char,
            FileType::BlockDevice => Self::Block,
            FileType::Unknown => return None,
        })
    }
}

/// A moment as file systems keep it: seconds since the epoch (negative before it) and nanoseconds after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What `stat(2)` says about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content; of a link, the length of its target.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Major and minor number of the device it stands for; (0, 0) for other kinds.
    pub device: (u32, u32),
    /// File system it lies on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of names.
    pub nlink: u64,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of content or attributes.
    pub ctime: Time,
}

impl Meta {
    pub(super) fn of(stat: &Stat) -> Option<Self> {
        let kind = Kind::of(FileType::from_raw_mode(stat.st_mode))?;
        let device = match kind {
            Kind::Char | Kind::Block => (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            _ => (0, 0),
        };
        Some(Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            device,
            dev: stat.st_dev,
            ino: stat.st_ino,
            nlink: stat.st_nlink,
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        })
    }

    /// True when both describe the same inode.
    #[must_use]
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }
}

fn time(seconds: i64, nanoseconds: impl TryInto<u32>) -> Time {
    Time { seconds, nanoseconds: nanoseconds.try_into().unwrap_or(0) }
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// With its namespace, `user.comment`.
    pub name: OsString,
    /// At most 64 KiB.
    pub value: Vec<u8>,
}

/// An object held by an `O_PATH` descriptor: it can't be replaced under the caller's hands, and holding it
/// neither blocks nor has a device notice.
#[derive(Debug)]
pub struct Node {
    fd: OwnedFd,
    meta: Meta,
    path: PathBuf,
}

/// The kernel's own limit of an xattr and of the list of names.
const XATTR_MAX: usize = 65536;
/// A link's target is at most a page.
const LINK_MAX: usize = 4096;

impl Node {
    /// Takes a descriptor opened with `O_PATH`; `path` is what errors show.
    pub(super) fn from_fd(fd: OwnedFd, path: &Path) -> SysResult<Self> {
        let stat = rustix::fs::fstat(&fd).map_err(|e| SysError::new("stat", shown(path), e))?;
        let meta = Meta::of(&stat).ok_or_else(|| SysError::new("stat", shown(path), Errno::INVAL))?;
        Ok(Self { fd, meta, path: path.to_path_buf() })
    }

    /// What it was when it was opened.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Opens a regular file for reading; other kinds are refused with `EINVAL` before they are opened.
    ///
    /// # Errors
    /// `EINVAL` and those of `open(2)`.
    pub fn open_file(&self) -> SysResult<File> {
        if self.meta.kind != Kind::File {
            return Err(self.error("open as a file", Errno::INVAL));
        }
        self.reopen(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// `ENOTDIR` and those of `open(2)`.
    pub fn open_dir(&self) -> SysResult<Dir> {
        if self.meta.kind != Kind::Dir {
            return Err(self.error("open directory", Errno::NOTDIR));
        }
        self.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map(Dir::from_fd)
    }

    fn reopen(&self, flags: OFlags) -> SysResult<OwnedFd> {
        rustix::fs::open(self.proc_path(), flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| self.error("open", e))
    }

    /// The content of a regular file; `None` when it has more than `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::open_file`], and those of `read(2)`.
    pub fn read(&self, limit: u64) -> SysResult<Option<Vec<u8>>> {
        let mut content = Vec::new();
        self.open_file()?
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|e| self.error("read", e))?;
        Ok((content.len() as u64 <= limit).then_some(content))
    }

    /// The target of a link.
    ///
    /// # Errors
    /// `EINVAL` when it is not a link.
    pub fn read_link(&self) -> SysResult<OsString> {
        if self.meta.kind != Kind::Symlink {
            return Err(self.error("read link", Errno::INVAL));
        }
        let target = rustix::fs::readlinkat(&self.fd, "", Vec::with_capacity(LINK_MAX))
            .map_err(|e| self.error("read link", e))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Its extended attributes, sorted by name; none where the file system keeps none.
    ///
    /// # Errors
    /// Those of `listxattr(2)` and `getxattr(2)`.
    pub fn xattrs(&self) -> SysResult<Vec<Xattr>> {
        let path = self.proc_path();
        let mut names = Vec::new();
        match rustix::fs::listxattr(&path, rustix::buffer::spare_capacity(reserve(&mut names, 256))) {
            Ok(_) => {}
            Err(Errno::RANGE) => {
                rustix::fs::listxattr(&path, rustix::buffer::spare_capacity(reserve(&mut names, XATTR_MAX)))
                    .map_err(|e| self.error("list attributes of", e))?;
            }
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(e) => return Err(self.error("list attributes of", e)),
        }
        let mut found = Vec::new();
        for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            found.extend(self.xattr(OsStr::from_bytes(name))?);
        }
        found.sort();
        Ok(found)
    }

    /// One extended attribute; `None` when there is none of that name.
    ///
    /// # Errors
    /// Those of `getxattr(2)`.
    pub fn xattr(&self, name: &OsStr) -> SysResult<Option<Xattr>> {
        let mut value = Vec::new();
        let buffer = rustix::buffer::spare_capacity(reserve(&mut value, XATTR_MAX));
        match rustix::fs::getxattr(self.proc_path(), name, buffer) {
            Ok(_) => {
                value.shrink_to_fit();
                Ok(Some(Xattr { name: name.to_os_string(), value }))
            }
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(e) => Err(self.error("read attribute of", e)),
        }
    }

    /// Sets one extended attribute.
    ///
    /// # Errors
    /// Those of `setxattr(2)`.
    pub fn set_xattr(&self, xattr: &Xattr) -> SysResult<()> {
        rustix::fs::setxattr(self.proc_path(), xattr.name.as_os_str(), &xattr.value, XattrFlags::empty())
            .map_err(|e| self.error("set attribute of", e))
    }

    /// Sets the mode bits; a link has none to set (`EOPNOTSUPP`).
    ///
    /// # Errors
    /// Those of `chmod(2)`.
    pub fn set_mode(&self, mode: u32) -> SysResult<()> {
        if self.meta.kind == Kind::Symlink {
            return Err(self.error("set mode of", Errno::OPNOTSUPP));
        }
        rustix::fs::chmod(self.proc_path(), Mode::from_raw_mode(mode & 0o7777))
            .map_err(|e| self.error("set mode of", e))
    }

    /// Sets owner and group; the kernel then clears set-id bits and file capabilities.
    ///
    /// # Errors
    /// Those of `chown(2)`.
    pub fn set_owner(&self, uid: u32, gid: u32) -> SysResult<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&self.fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(|e| self.error("set owner of", e))
    }

    /// Sets the time of the last change of content, and of the last access to the same.
    ///
    /// # Errors
    /// Those of `utimensat(2)`.
    pub fn set_mtime(&self, mtime: Time) -> SysResult<()> {
        rustix::fs::utimensat(&self.fd, "", &timestamps(mtime), AtFlags::EMPTY_PATH)
            .map_err(|e| self.error("set time of", e))
    }

    /// The object by way of `/proc`, for the calls that take no `O_PATH` descriptor; the kernel goes straight to
    /// the object and follows nothing.
    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }

    fn error(&self, operation: &'static str, source: impl Into<io::Error>) -> SysError {
        SysError::new(operation, shown(&self.path), source)
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn timestamps(time: Time) -> Timestamps {
    let spec = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: spec, last_modification: spec }
}

fn reserve(buffer: &mut Vec<u8>, capacity: usize) -> &mut Vec<u8> {
    buffer.clear();
    buffer.reserve_exact(capacity);
    buffer
}
