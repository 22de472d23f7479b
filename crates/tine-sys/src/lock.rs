//! Locks on files: flock(2) for operations, open-file-description locks (fcntl(2), F_OFD_SETLK) for "is it running".
//!
//! Both go with the open file: they end when its last descriptor closes, however the process ends. The second kind
//! can be asked about without taking it. Never creates directories, never deletes a lock's file.

use crate::{SysError, SysResult};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

/// Whether a lock is held with others or alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// A held flock(2); ends when dropped.
#[derive(Debug)]
pub struct FileLock {
    file: OwnedFd,
}

const FIRST_SLEEP: Duration = Duration::from_millis(1);
const EARLY_SLEEP: Duration = Duration::from_millis(5);
const LATE_SLEEP: Duration = Duration::from_millis(50);

impl FileLock {
    /// Takes the lock on the file at `path`, made if missing; none when another holds it.
    ///
    /// # Errors
    /// The kernel's, when the file cannot be opened or locked.
    pub fn try_acquire(path: &Path, mode: LockMode) -> SysResult<Option<Self>> {
        Self::try_on(open_lock_file(path)?, mode)
    }

    /// Takes the lock on an open file or directory; none when another holds it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_on(file: OwnedFd, mode: LockMode) -> SysResult<Option<Self>> {
        let lock = Self { file };
        Ok(lock.try_mode(mode)?.then_some(lock))
    }

    /// Takes the lock on the file at `path`, made if missing, waiting up to `wait`; none when that has passed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn acquire_within(path: &Path, mode: LockMode, wait: Duration) -> SysResult<Option<Self>> {
        Self::acquire_on_within(open_lock_file(path)?, mode, wait)
    }

    /// Takes the lock on an open file or directory, waiting up to `wait`; none when that has passed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn acquire_on_within(file: OwnedFd, mode: LockMode, wait: Duration) -> SysResult<Option<Self>> {
        let lock = Self { file };
        let begun = Instant::now();
        let mut sleep = FIRST_SLEEP;
        while !lock.try_mode(mode)? {
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(sleep.min(left));
            // short sleeps while the other side is likely to be done in a moment, longer ones afterwards
            let most = if begun.elapsed() < Duration::from_millis(100) { EARLY_SLEEP } else { LATE_SLEEP };
            sleep = (sleep * 2).min(most);
        }
        Ok(Some(lock))
    }

    /// True when the file at `path` is the one this lock is on: neither deleted, renamed nor replaced meanwhile.
    #[must_use]
    pub fn is_still_at(&self, path: &Path) -> bool {
        match (
            rustix::fs::fstat(&self.file),
            rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW),
        ) {
            (Ok(held), Ok(there)) => (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }

    fn try_mode(&self, mode: LockMode) -> SysResult<bool> {
        let operation = match mode {
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&self.file, operation) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(SysError::new("lock", self.file.as_raw_fd(), e)),
        }
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open_lock_file(path: &Path) -> SysResult<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))
        .map_err(|e| SysError::new("open lock", path.display(), e))
}

/// A held open-file-description write lock over a whole file; ends when its last descriptor closes.
#[derive(Debug)]
pub struct OfdLock {
    file: OwnedFd,
}

impl OfdLock {
    /// Takes the lock on the file at `path`, made if missing; none when another holds it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_acquire(path: &Path) -> SysResult<Option<Self>> {
        Self::try_on(open_lock_file(path)?)
    }

    /// Takes the lock on a file open for writing; none when another holds it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_on(file: OwnedFd) -> SysResult<Option<Self>> {
        let mut request = whole_file();
        match control(file.as_fd(), libc::F_OFD_SETLK, &mut request) {
            Ok(()) => Ok(Some(Self { file })),
            Err(e) if matches!(e.errno(), libc::EAGAIN | libc::EACCES) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for OfdLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// True when someone holds the [`OfdLock`] on the file at `path`; false also when there is no such file. Takes
/// nothing, so that it never makes the owner's own attempt fail.
///
/// # Errors
/// The kernel's.
pub fn is_locked(path: &Path) -> SysResult<bool> {
    is_locked_at(rustix::fs::CWD, path)
}

/// As [`is_locked`], with `path` relative to the directory `dir`.
///
/// # Errors
/// The kernel's.
pub fn is_locked_at(dir: BorrowedFd<'_>, path: &Path) -> SysResult<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, path, flags, Mode::empty()) {
        Ok(file) => is_locked_fd(file.as_fd()),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(SysError::new("open lock", path.display(), e)),
    }
}

/// True when someone else holds the [`OfdLock`] on this file.
///
/// # Errors
/// The kernel's.
pub fn is_locked_fd(file: BorrowedFd<'_>) -> SysResult<bool> {
    let mut request = whole_file();
    control(file, libc::F_OFD_GETLK, &mut request)?;
    Ok(i32::from(request.l_type) != libc::F_UNLCK)
}

fn whole_file() -> libc::flock {
    // SAFETY: a structure of integers, for which zeros are valid; a length of 0 means the whole file.
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = libc::F_WRLCK as libc::c_short;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    request
}

fn control(file: BorrowedFd<'_>, command: i32, request: &mut libc::flock) -> SysResult<()> {
    // SAFETY: both commands take a pointer to a `struct flock`, which lives during the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(request)) };
    if result < 0 { Err(SysError::new("lock", file.as_raw_fd(), io::Error::last_os_error())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct TempFile(PathBuf);
    impl TempFile {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("tine-lock-{}-{name}", std::process::id())))
        }
    }
    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn shared_holders_keep_an_exclusive_one_out_until_they_leave() {
        let file = TempFile::new("flock");
        let shared = FileLock::try_acquire(&file.0, LockMode::Shared).unwrap().unwrap();
        let second = FileLock::try_acquire(&file.0, LockMode::Shared).unwrap().unwrap();
        let wait = Duration::from_millis(30);
        let begun = Instant::now();
        assert!(FileLock::acquire_within(&file.0, LockMode::Exclusive, wait).unwrap().is_none());
        assert!(begun.elapsed() >= wait);
        drop((shared, second));
        assert!(FileLock::try_acquire(&file.0, LockMode::Exclusive).unwrap().is_some());
    }

    #[test]
    fn a_waiter_gets_the_lock_when_it_is_let_go() {
        let file = TempFile::new("wait");
        let held = FileLock::try_acquire(&file.0, LockMode::Exclusive).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiter = scope
                .spawn(|| FileLock::acquire_within(&file.0, LockMode::Exclusive, Duration::from_secs(10)));
            std::thread::sleep(Duration::from_millis(20));
            drop(held);
            assert!(waiter.join().unwrap().unwrap().is_some());
        });
    }

    #[test]
    fn a_lock_knows_when_its_file_was_replaced() {
        let file = TempFile::new("moved");
        let held = FileLock::try_acquire(&file.0, LockMode::Exclusive).unwrap().unwrap();
        assert!(held.is_still_at(&file.0));
        std::fs::remove_file(&file.0).unwrap();
        std::fs::write(&file.0, "").unwrap();
        assert!(!held.is_still_at(&file.0));
    }

    #[test]
    fn asking_tells_whether_it_is_held_and_takes_nothing() {
        let file = TempFile::new("ofd");
        assert!(!is_locked(&file.0).unwrap());
        let held = OfdLock::try_acquire(&file.0).unwrap().unwrap();
        assert!(is_locked(&file.0).unwrap());
        assert!(OfdLock::try_acquire(&file.0).unwrap().is_none());
        drop(held);
        assert!(!is_locked(&file.0).unwrap());
        assert!(OfdLock::try_acquire(&file.0).unwrap().is_some());
    }
}
