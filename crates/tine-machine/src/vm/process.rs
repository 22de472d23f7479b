//! The QEMU process: started without privileges, with nothing but what it needs.
//!
//! It runs as a user of its own in the monitor's empty network namespace, inherits the descriptors it works with, and
//! dies with the monitor. Its opens for reading and writing are answered here while it starts, so that the memory's
//! file, which it wants to open for writing, is given to it for reading only.

use super::hardware::{MEMORY_PATH, Start, Wiring};
use crate::error::{MachineError, MachineResult};
use nix::unistd::{Gid, Uid, execve};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::{
    ffi::{CString, OsString},
    fs::File,
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::Path,
};
use tine_sys::{
    open_listener::{self, OpenListener},
    process,
};

/// The first of the user ids that machines run as: above those that systemd gives to containers, below the end of
/// what a signed number holds (systemd's `UIDS-GIDS`).
const FIRST_USER: u32 = 0x7000_0000;
/// Where kvm is opened.
const KVM: &str = "/dev/kvm";

/// The descriptors of the host that a machine works with.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) disk: File,
    pub(super) tap: Option<OwnedFd>,
    /// Kernel and initramfs.
    pub(super) kernel: Option<(File, File)>,
}

impl Files {
    /// The numbers at which they are inherited, as the command line wants to know them.
    pub(super) fn wiring(&self, mac: [u8; 6], generation: [u8; 16]) -> Wiring {
        let mut next = super::hardware::FIRST_OPTIONAL_FD;
        let mut number = || {
            next += 1;
            next - 1
        };
        let tap = self.tap.as_ref().map(|_| number());
        let start = match &self.kernel {
            Some(_) => Start::Kernel { kernel: number(), initrd: number() },
            None => Start::State,
        };
        Wiring { start, tap, mac, generation }
    }

    fn optional(&self) -> Vec<BorrowedFd<'_>> {
        let kernel = self.kernel.iter().flat_map(|(kernel, initrd)| [kernel.as_fd(), initrd.as_fd()]);
        self.tap.iter().map(AsFd::as_fd).chain(kernel).collect()
    }
}

/// A QEMU process. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    reaped: bool,
}

/// The other ends of what it inherits.
pub(super) struct Channels {
    pub(super) qmp: OwnedFd,
    pub(super) agent: OwnedFd,
    pub(super) console: OwnedFd,
    pub(super) errors: PipeReader,
    pub(super) opens: OpenListener,
}

/// Starts QEMU.
pub(super) fn start(
    qemu: &Path,
    arguments: &[OsString],
    files: &Files,
    id: &str,
) -> MachineResult<(Process, Channels)> {
    let io = |e: std::io::Error| MachineError::io("make", "channel to QEMU", e);
    let (qmp, their_qmp) = UnixStream::pair().map_err(io)?;
    let (agent, their_agent) = UnixStream::pair().map_err(io)?;
    let (console, their_console) = UnixStream::pair().map_err(io)?;
    let (errors, their_errors) = pipe().map_err(io)?;
    let (mut told, tell) = pipe().map_err(io)?;
    let (wait, mut go) = pipe().map_err(io)?;
    let mut inherited =
        vec![their_qmp.as_fd(), their_agent.as_fd(), their_console.as_fd(), files.disk.as_fd()];
    inherited.extend(files.optional());
    let child = Child { qemu, arguments, inherited: &inherited, errors: &their_errors, user: user_of(id) };
    let pid = process::fork_child(|| child.become_qemu(&tell, &wait))?;
    let started = Process {
        pid,
        pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|e| MachineError::io("watch", "QEMU", e))?,
        reaped: false,
    };
    drop(tell);
    drop(their_errors);
    let opens = take_listener(pid, &mut told, &mut go)
        .map_err(|error| complaint(&errors).map_or(error, MachineError::Start))?;
    Ok((started, Channels { qmp: qmp.into(), agent: agent.into(), console: console.into(), errors, opens }))
}

/// The last thing of weight that QEMU has said on its standard error, as far as nobody has read it.
pub(super) fn complaint(mut errors: &PipeReader) -> Option<String> {
    rustix::io::ioctl_fionbio(errors, true).ok()?;
    let mut bytes = vec![0; 16 << 10];
    let length = errors.read(&mut bytes).ok()?;
    last_complaint(&bytes[..length])
}

/// The last line that is not about what is as it should be.
pub(super) fn last_complaint(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let harmless = |line: &str| {
        // said of every state that was saved without its memory, and of every machine without a network
        line.contains("Expected vmdescription section") || line.contains("has no peer")
    };
    let last = text.lines().rfind(|line| !line.trim().is_empty() && !harmless(line));
    last.map(super::qmp::printable)
}

fn take_listener(pid: Pid, told: &mut PipeReader, go: &mut PipeWriter) -> MachineResult<OpenListener> {
    let mut number = [0; 4];
    let failed = |_| MachineError::Start("QEMU could not be started".to_owned());
    told.read_exact(&mut number).map_err(failed)?;
    let listener = open_listener::descriptor_of(pid, i32::from_le_bytes(number))?;
    go.write_all(&[1]).map_err(failed)?;
    Ok(OpenListener::new(listener))
}

/// The user that the machine of this box runs as: two boxes hardly ever share one, and nothing else uses it.
fn user_of(id: &str) -> u32 {
    let number = id.get(..6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    FIRST_USER + number.unwrap_or(0)
}

struct Child<'a> {
    qemu: &'a Path,
    arguments: &'a [OsString],
    inherited: &'a [BorrowedFd<'a>],
    errors: &'a PipeWriter,
    user: u32,
}

impl Child<'_> {
    /// Runs in the new process, which never goes back: descriptors that values here own are closed.
    fn become_qemu(&self, tell: &PipeWriter, wait: &PipeReader) -> u8 {
        if let Err(error) = self.prepare(tell, wait).and_then(|()| self.execute()) {
            let _ = std::io::stderr().write_all(error.to_string().as_bytes());
        }
        process::exit_immediately(127)
    }

    fn prepare(&self, tell: &PipeWriter, wait: &PipeReader) -> MachineResult<()> {
        process::default_signals();
        // rather this one than one that works already
        let _ = std::fs::write("/proc/self/oom_score_adj", super::unready::MACHINE_SCORE);
        let null = File::open("/dev/null").map_err(|e| MachineError::io("open", "/dev/null", e))?;
        process::set_standard_streams([null.as_fd(), self.errors.as_fd(), self.errors.as_fd()])?;
        let kept = process::inherit_exactly(self.inherited, &[tell.as_fd(), wait.as_fd()])?;
        std::mem::forget(null);
        let [tell, wait] = kept.as_slice() else { return Err(MachineError::NotRunning) };
        self.give_up_privileges()?;
        let listener = open_listener::listen_to_own_opens()?;
        let io = |e| MachineError::io("hand over", "listener", e);
        rustix::io::write(tell, &listener.as_raw_fd().to_le_bytes()).map_err(io)?;
        // nothing is executed before somebody answers its opens
        if rustix::io::read(wait, &mut [0; 1]).map_err(io)? == 0 {
            return Err(MachineError::Start("the monitor has died".to_owned()));
        }
        std::mem::forget((kept, listener));
        Ok(())
    }

    fn give_up_privileges(&self) -> MachineResult<()> {
        let io = |e: nix::Error| MachineError::io("give up", "privileges", e);
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        rustix::process::chdir(c"/").map_err(|e| MachineError::io("enter", "/", e))?;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).map_err(io)?;
        nix::unistd::setgroups(&[]).map_err(io)?;
        let (uid, gid) = (Uid::from_raw(self.user), Gid::from_raw(self.user));
        nix::unistd::setresgid(gid, gid, gid).map_err(io)?;
        nix::unistd::setresuid(uid, uid, uid).map_err(io)?;
        rustix::thread::set_no_new_privs(true).map_err(|e| MachineError::io("give up", "privileges", e))?;
        // a change of user clears it
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| MachineError::io("set", "parent death signal", e))
    }

    fn execute(&self) -> MachineResult<()> {
        let word =
            |text: &[u8]| CString::new(text).map_err(|_| MachineError::Invalid("a NUL byte".to_owned()));
        let program = word(self.qemu.as_os_str().as_bytes())?;
        let mut argv = vec![c"qemu".to_owned()];
        for argument in self.arguments {
            argv.push(word(argument.as_bytes())?);
        }
        match execve::<CString, CString>(&program, &argv, &[]) {
            Ok(never) => match never {},
            Err(e) => Err(MachineError::io("execute", self.qemu.display(), e)),
        }
    }
}

/// Answers one open of the starting QEMU: the memory is given for reading, kvm with the monitor's rights.
pub(super) fn answer_open(opens: &OpenListener, memory: &File) -> MachineResult<()> {
    let Some(call) = opens.next()? else { return Ok(()) };
    if call.path == Path::new(MEMORY_PATH) {
        return Ok(opens.give(&call, memory.as_fd())?);
    }
    if call.path == Path::new(KVM)
        && let Ok(kvm) = File::options().read(true).write(true).open(KVM)
    {
        return Ok(opens.give(&call, kvm.as_fd())?);
    }
    Ok(opens.pass(&call)?)
}

impl Process {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// From now on it is worth as much as the monitor itself when the host is short of memory.
    pub(super) fn is_ready(&self) {
        // as it is, it is only killed sooner than it need be
        let _ = std::fs::read("/proc/self/oom_score_adj").and_then(|own| {
            std::fs::write(format!("/proc/{}/oom_score_adj", self.pid.as_raw_nonzero()), own)
        });
    }

    /// Readable when it has ended.
    pub(super) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Kills it; nothing when it has ended.
    pub(super) fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for its end.
    pub(super) fn reap(&mut self) {
        if !self.reaped {
            while matches!(
                rustix::process::waitpid(Some(self.pid), WaitOptions::empty()),
                Err(rustix::io::Errno::INTR)
            ) {}
            self.reaped = true;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}
