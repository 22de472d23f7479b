//! Deciding, for another process, what it gets when it opens a file for reading and writing.
//!
//! A process that insists on opening a file for writing though it only ever maps it privately can so be given a
//! descriptor that only reads. By the kernel's notification of system calls to a supervisor (seccomp_unotify(2)).
//! Knows nothing of machines.

use crate::error::{SysError, SysResult};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStringExt, fs::FileExt},
    },
    path::PathBuf,
};

/// `AUDIT_ARCH_X86_64` of `linux/audit.h`.
const ARCH_X86_64: u32 = 0xc000_003e;
/// A path is at most so long, its NUL included (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Paths are read in parts that cannot reach beyond the page they are in.
const PAGE: u64 = 4096;

/// Asks the kernel to tell the holder of the result of every open(2) and openat(2) for reading and writing that the
/// calling thread, and what it starts, makes from now on; such a call waits for the answer. Needs `no_new_privs` or
/// CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's: EBUSY when there is a listener already.
pub fn listen_to_own_opens() -> SysResult<OwnedFd> {
    let program = filter();
    let prog = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives until the call returns, and does not write to it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const prog,
        )
    };
    if fd < 0 {
        return Err(SysError::new("listen to", "own system calls", io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just made this descriptor for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Allows everything, but tells of the two system calls when their flags say read and write.
fn filter() -> [libc::sock_filter; 12] {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const GO: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // `struct seccomp_data`: number, architecture, instruction pointer, six arguments
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    const ARGUMENTS: u32 = 16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 0, 9, ARCH_X86_64),
        step(LOAD, 0, 0, NUMBER),
        step(EQUAL, 1, 0, libc::SYS_openat as u32),
        step(EQUAL, 2, 6, libc::SYS_open as u32),
        step(LOAD, 0, 0, ARGUMENTS + 16),
        step(GO, 0, 0, 1),
        step(LOAD, 0, 0, ARGUMENTS + 8),
        step(AND, 0, 0, libc::O_ACCMODE as u32),
        step(EQUAL, 0, 1, libc::O_RDWR as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Takes a copy of a descriptor of another process (pidfd_getfd(2)).
///
/// # Errors
/// The kernel's.
pub fn descriptor_of(process: Pid, number: RawFd) -> SysResult<OwnedFd> {
    let err = |e| SysError::new("take", format!("descriptor {number} of process {process:?}"), e);
    let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty()).map_err(err)?;
    rustix::process::pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).map_err(err)
}

/// The other end of [`listen_to_own_opens`].
#[derive(Debug)]
pub struct OpenListener(OwnedFd);

/// A process that waits in open(2) or openat(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingOpen {
    id: u64,
    /// What it wants to open, as it said it.
    pub path: PathBuf,
}

impl OpenListener {
    /// Takes over the descriptor.
    #[must_use]
    pub fn new(listener: OwnedFd) -> Self {
        Self(listener)
    }

    /// The next call that waits; blocks until there is one, so poll first. None when the caller died meanwhile or its
    /// words cannot be read: it is then refused.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> SysResult<Option<WaitingOpen>> {
        // SAFETY: plain data, which the kernel wants to be zero.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the structure it is given, whose size is part of the request's number.
        let received = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_RECV, &raw mut call) };
        if received < 0 {
            return match io::Error::last_os_error() {
                e if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
                e => Err(SysError::new("receive", "waiting system call", e)),
            };
        }
        let address =
            if i64::from(call.data.nr) == libc::SYS_openat { call.data.args[1] } else { call.data.args[0] };
        match read_path(call.pid, address) {
            Ok(path) => Ok(Some(WaitingOpen { id: call.id, path })),
            Err(_) => {
                self.refuse(call.id);
                Ok(None)
            }
        }
    }

    /// Lets the call give this descriptor, close-on-exec. A caller that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn give(&self, call: &WaitingOpen, fd: BorrowedFd<'_>) -> SysResult<()> {
        let answer = libc::seccomp_notif_addfd {
            id: call.id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: fd.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: libc::O_CLOEXEC as u32,
        };
        // SAFETY: the kernel reads the structure it is given, whose size is part of the request's number.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_ADDFD, &raw const answer) };
        tolerate_gone(done)
    }

    /// Lets the kernel carry out the call as if nobody had listened. A caller that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pass(&self, call: &WaitingOpen) -> SysResult<()> {
        self.answer(call.id, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)
    }

    fn refuse(&self, id: u64) {
        let _ = self.answer(id, -libc::EACCES, 0);
    }

    fn answer(&self, id: u64, error: i32, flags: u32) -> SysResult<()> {
        let answer = libc::seccomp_notif_resp { id, val: 0, error, flags };
        // SAFETY: the kernel reads the structure it is given, whose size is part of the request's number.
        let done = unsafe { libc::ioctl(self.0.as_raw_fd(), NOTIF_SEND, &raw const answer) };
        tolerate_gone(done)
    }
}

impl AsFd for OpenListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `SECCOMP_IOCTL_NOTIF_*` of `linux/seccomp.h`.
const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
const NOTIF_ADDFD: libc::c_ulong = 0x4018_2103;

fn tolerate_gone(done: libc::c_int) -> SysResult<()> {
    match io::Error::last_os_error() {
        _ if done >= 0 => Ok(()),
        e if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        e => Err(SysError::new("answer", "waiting system call", e)),
    }
}

/// Reads up to the NUL, page by page: the next page may not be there.
fn read_path(pid: u32, address: u64) -> io::Result<PathBuf> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut text = Vec::new();
    while text.len() < MAX_PATH {
        let from = address.checked_add(text.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let mut part = vec![0; (PAGE - from % PAGE) as usize];
        memory.read_exact_at(&mut part, from)?;
        match part.iter().position(|b| *b == 0) {
            Some(end) => {
                text.extend_from_slice(&part[..end]);
                return Ok(PathBuf::from(OsString::from_vec(text)));
            }
            None => text.extend(part),
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};
    use std::{io::Read, sync::mpsc, thread};

    fn opened(path: &str) -> String {
        let mut content = String::new();
        let fd = rustix::fs::open(path, OFlags::RDWR, Mode::empty()).unwrap();
        File::from(fd).read_to_string(&mut content).unwrap();
        content
    }

    #[test]
    fn an_open_is_answered_with_another_descriptor() {
        let path = std::env::temp_dir().join(format!("tine-open-listener-{}", std::process::id()));
        std::fs::write(&path, "given").unwrap();
        let given = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (send, receive) = mpsc::channel();
        // a filter goes for one thread
        let opener = thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            send.send(listen_to_own_opens().unwrap()).unwrap();
            (opened("/a/name"), opened("/dev/null"))
        });
        let listener = OpenListener::new(receive.recv().unwrap());
        for expected in ["/a/name", "/dev/null"] {
            let call = listener.next().unwrap().unwrap();
            assert_eq!(call.path.to_str(), Some(expected));
            match expected {
                "/a/name" => listener.give(&call, given.as_fd()).unwrap(),
                _ => listener.pass(&call).unwrap(),
            }
        }
        assert_eq!(opener.join().unwrap(), ("given".to_owned(), String::new()));
    }

    #[test]
    fn a_descriptor_of_another_process_is_taken() {
        let (reader, _writer) = io::pipe().unwrap();
        let taken = descriptor_of(rustix::process::getpid(), reader.as_raw_fd()).unwrap();
        let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(taken.as_fd()), inode(reader.as_fd()));
    }
}
