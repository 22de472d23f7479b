//! Processes: starting a detached one, forking from a single-threaded one, and what a process gives up for good.
//!
//! Knows nothing of boxes. Everything between a clone and an exec is written so that it is sound in a program with
//! several threads: only raw system calls, no allocation.

use crate::error::{SysError, SysResult};
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags},
    mount::OpenTreeFlags,
    process::Pid,
};
use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    ptr,
};

/// File descriptors that must survive into a new process are first moved to here or above, so that putting them in
/// their places cannot overwrite one that is still needed.
const HIGH_FD: libc::c_int = 64;

/// From `linux/sched.h`; wider than the type libc gives it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`spawn_detached`] starts.
#[derive(Debug)]
pub struct Detached<'a> {
    /// The program, as [`protected_program`] gives it.
    pub program: BorrowedFd<'a>,
    /// Its arguments, its name first. It has an empty environment.
    pub argv: &'a [CString],
    /// Become descriptors 3, 4, … of the process; 0 to 2 are `/dev/null`, and nothing else is inherited.
    pub fds: &'a [BorrowedFd<'a>],
    /// The cgroup (version 2) directory in which the process starts; the caller's own when none.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Everything the new process needs, prepared before the clone.
struct Prepared {
    program: OwnedFd,
    null: OwnedFd,
    fds: Vec<OwnedFd>,
    failed: OwnedFd,
    argv: Vec<*const libc::c_char>,
    cgroup: Option<RawFd>,
}

/// Starts a program that outlives the caller: in a session of its own, adopted by the system's init, with `/` as its
/// working directory and umask 022. Returns when the program runs.
///
/// # Errors
/// The kernel's, also when the program could not be executed.
pub fn spawn_detached(spec: &Detached<'_>) -> SysResult<()> {
    let err = |e: io::Error| SysError::new("start", "detached process", e);
    let (report, failed) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| err(e.into()))?;
    let prepared = prepare(spec, &failed).map_err(err)?;
    drop(failed);
    let child = clone_into(prepared.cgroup).map_err(err)?;
    if child == 0 {
        launch(&prepared);
    }
    drop(prepared);
    wait_for(child);
    let mut errno = [0_u8; 4];
    match File::from(report).read(&mut errno).map_err(err)? {
        0 => Ok(()),
        _ => Err(err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))),
    }
}

fn prepare(spec: &Detached<'_>, failed: &OwnedFd) -> io::Result<Prepared> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut argv: Vec<*const libc::c_char> = spec.argv.iter().map(|a| a.as_ptr()).collect();
    argv.push(ptr::null());
    Ok(Prepared {
        program: raised(spec.program)?,
        null: raised(null.as_fd())?,
        fds: spec.fds.iter().map(|fd| raised(*fd)).collect::<io::Result<_>>()?,
        failed: raised(failed.as_fd())?,
        argv,
        cgroup: spec.cgroup.map(|fd| fd.as_raw_fd()),
    })
}

fn raised(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, HIGH_FD)?)
}

fn clone_into(cgroup: Option<RawFd>) -> io::Result<libc::pid_t> {
    let Some(cgroup) = cgroup else { return raw_fork() };
    // SAFETY: clone_args is plain data, for which all zeroes are valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup as u64;
    // SAFETY: without CLONE_VM the child has a copy of the memory; it makes only system calls until it executes.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as libc::pid_t) }
}

fn raw_fork() -> io::Result<libc::pid_t> {
    // SAFETY: a clone without flags but the exit signal is a fork; the child makes only system calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as libc::pid_t) }
}

/// Runs in the first child: forks once more, so that the program is nobody's child, and executes it.
fn launch(prepared: &Prepared) -> ! {
    match raw_fork() {
        Ok(0) => {}
        Ok(_) => exit_now(0),
        Err(error) => fail(prepared, &error),
    }
    if let Err(error) = arrange(prepared) {
        fail(prepared, &error);
    }
    let envp = [ptr::null::<libc::c_char>()];
    // SAFETY: argv and envp are null-terminated arrays of C strings that live until the exec.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            prepared.program.as_raw_fd(),
            c"".as_ptr(),
            prepared.argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    fail(prepared, &io::Error::last_os_error())
}

fn arrange(prepared: &Prepared) -> io::Result<()> {
    default_signals();
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::chdir(c"/")?;
    for target in 0..3 {
        place(prepared.null.as_raw_fd(), target)?;
    }
    let mut next = 3;
    for fd in &prepared.fds {
        place(fd.as_raw_fd(), next)?;
        next += 1;
    }
    // SAFETY: marks descriptors only; they close when the program is executed.
    let marked = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            next as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if marked < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn place(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: the process owns no Rust value for the descriptor it replaces, for it runs nothing but this.
    if unsafe { libc::dup2(from, to) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn fail(prepared: &Prepared, error: &io::Error) -> ! {
    let errno = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
    // SAFETY: writes four bytes of a live buffer.
    unsafe { libc::write(prepared.failed.as_raw_fd(), errno.as_ptr().cast(), errno.len()) };
    exit_now(127)
}

fn exit_now(code: libc::c_int) -> ! {
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(code) }
}

fn wait_for(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: waits for the child just made; status is a live integer.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Opens a program so that what runs from the result cannot be written to through `/proc/<pid>/exe`: by way of a
/// detached read-only mount of it, or, where the kernel refuses that, of a sealed copy in memory.
///
/// # Errors
/// The kernel's.
pub fn protected_program(path: &Path) -> SysResult<OwnedFd> {
    match readonly_clone(path) {
        Ok(fd) => Ok(fd),
        Err(_) => sealed_copy(path).map_err(|e| SysError::new("copy program", path.display(), e)),
    }
}

fn readonly_clone(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, path, flags)?;
    crate::namespace::set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY)?;
    Ok(tree)
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(path)?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy.into())
}

/// Forks a process that has one thread, and runs `child` in the new one, whose exit code is what `child` returns
/// (125 when it panics). The new process never returns from this.
///
/// # Errors
/// Refused (EBUSY) when the process has several threads, whose locks the child would inherit; else the kernel's.
pub fn fork_child(child: impl FnOnce() -> u8) -> SysResult<Pid> {
    let err = |e: io::Error| SysError::new("fork", "process", e);
    if std::fs::read_dir("/proc/self/task").map_err(err)?.count() != 1 {
        return Err(err(io::Error::from_raw_os_error(libc::EBUSY)));
    }
    // SAFETY: the process has one thread, so the child may do whatever the parent may.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(125);
        exit_now(libc::c_int::from(code));
    }
    Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(|| err(io::Error::last_os_error()))
}

/// Ends the process at once, without destructors or exit handlers.
pub fn exit_immediately(code: u8) -> ! {
    exit_now(libc::c_int::from(code))
}

/// Gives every signal its default action and unblocks all, as a program expects when it starts.
pub fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: sets a default action; the two that cannot be set and the ones libc keeps fail without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: sigset_t is plain data that sigemptyset fills before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Really closes every descriptor from 3 on but those in `keep`. For a process that goes on with nothing but them:
/// values that own one of the others must never be used or dropped again.
///
/// # Errors
/// The kernel's.
pub fn close_all_except(keep: &[BorrowedFd<'_>]) -> SysResult<()> {
    let mut kept: Vec<libc::c_uint> = keep.iter().map(|fd| fd.as_raw_fd() as libc::c_uint).collect();
    kept.sort_unstable();
    let mut from: libc::c_uint = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3).chain([libc::c_uint::MAX]) {
        if fd > from {
            // SAFETY: the caller has given up every other descriptor, as this function demands.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
            if closed < 0 {
                return Err(SysError::new("close", "file descriptors", io::Error::last_os_error()));
            }
        }
        from = fd.saturating_add(1);
    }
    Ok(())
}

/// Makes `fds` the descriptors 3, 4, … of a process that is about to execute a program, which inherits them. Closes
/// every other one from 3 on but those in `keep`, which come back at other numbers and are not inherited: values that
/// own one of the others must never be used or dropped again.
///
/// # Errors
/// The kernel's.
pub fn inherit_exactly(fds: &[BorrowedFd<'_>], keep: &[BorrowedFd<'_>]) -> SysResult<Vec<OwnedFd>> {
    let err = |e| SysError::new("place", "file descriptors", e);
    let raise = |fd: &BorrowedFd<'_>| raised(*fd).map_err(err);
    let wanted: Vec<OwnedFd> = fds.iter().map(raise).collect::<SysResult<_>>()?;
    let kept: Vec<OwnedFd> = keep.iter().map(raise).collect::<SysResult<_>>()?;
    close_all_except(&wanted.iter().chain(&kept).map(AsFd::as_fd).collect::<Vec<_>>())?;
    for (target, fd) in (3..).zip(&wanted) {
        place(fd.as_raw_fd(), target).map_err(err)?;
    }
    Ok(kept)
}

/// Makes `fds` the standard streams of a process that is about to execute a program.
///
/// # Errors
/// The kernel's.
pub fn set_standard_streams(fds: [BorrowedFd<'_>; 3]) -> SysResult<()> {
    let err = |e| SysError::new("set", "standard streams", e);
    let raised: Vec<OwnedFd> = fds.into_iter().map(raised).collect::<io::Result<_>>().map_err(err)?;
    for (target, fd) in raised.iter().enumerate() {
        place(fd.as_raw_fd(), target as RawFd).map_err(err)?;
    }
    Ok(())
}

/// One instruction of a classic BPF program (`linux/filter.h`).
#[derive(Debug, Clone, Copy)]
pub struct BpfInstruction {
    /// Operation code.
    pub code: u16,
    /// Jump offset when true.
    pub jt: u8,
    /// Jump offset when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Installs a seccomp filter (seccomp(2)) for this thread and what it starts, without setting `no_new_privs`, which
/// needs CAP_SYS_ADMIN.
///
/// # Errors
/// The kernel's: EACCES without the capability, EINVAL for a malformed program.
pub fn install_seccomp(program: &[BpfInstruction]) -> SysResult<()> {
    let filter: Vec<libc::sock_filter> =
        program.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    let len = u16::try_from(filter.len())
        .map_err(|_| SysError::new("install", "seccomp filter", io::Error::from_raw_os_error(libc::E2BIG)))?;
    let prog = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives until the call returns, and does not write to it.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const prog) };
    if done < 0 {
        Err(SysError::new("install", "seccomp filter", io::Error::last_os_error()))
    } else {
        Ok(())
    }
}

/// Gives memory that the allocator holds but does not use back to the kernel.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes ownership of a descriptor the process inherited at a number agreed with its parent.
///
/// # Errors
/// EBADF when nothing is open there; EINVAL for the standard streams.
pub fn inherited_fd(number: RawFd) -> SysResult<OwnedFd> {
    let err =
        |errno| SysError::new("take", format!("descriptor {number}"), io::Error::from_raw_os_error(errno));
    if number < 3 {
        return Err(err(libc::EINVAL));
    }
    // SAFETY: only asks for the descriptor's flags; a number that is not open gives an error.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(err(libc::EBADF));
    }
    // SAFETY: open, and by agreement with the parent owned by nobody else in this process.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_program_gets_its_descriptors_and_nothing_else() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let program = protected_program(Path::new("/bin/sh")).unwrap();
        let script =
            c"ls -1 /proc/self/fd | tr '\\n' ' ' >&3; pwd >&3; umask >&3; env | grep -c TINE >&3; exec 3>&-";
        let argv = [c"sh".to_owned(), c"-c".to_owned(), script.to_owned()];
        spawn_detached(&Detached {
            program: program.as_fd(),
            argv: &argv,
            fds: &[write.as_fd()],
            cgroup: None,
        })
        .unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        // The fourth descriptor is that of the listing itself.
        assert_eq!(text, "0 1 2 3 4 /\n0022\n0\n");
    }

    #[test]
    fn a_program_that_is_none_is_an_error() {
        let file = rustix::fs::open("/etc/passwd", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let failed = spawn_detached(&Detached {
            program: file.as_fd(),
            argv: &[c"x".to_owned()],
            fds: &[],
            cgroup: None,
        });
        assert_eq!(failed.unwrap_err().errno(), libc::EACCES);
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert_eq!(fork_child(|| 0).unwrap_err().errno(), libc::EBUSY);
        drop(stop);
        let _ = thread.join();
    }

    #[test]
    fn a_sealed_copy_cannot_be_written() {
        let copy = File::from(sealed_copy(Path::new("/bin/true")).unwrap());
        let again =
            std::fs::OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        let written = again.and_then(|mut f| io::Write::write(&mut f, b"x"));
        assert!(written.is_err());
    }
}
