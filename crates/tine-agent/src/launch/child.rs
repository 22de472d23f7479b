//! From the fork to the program: session, terminal, streams, user, directory, environment, execution.

use super::{
    Hooks, Launch, Refusal,
    users::{self, Identity},
};
use nix::{errno::Errno, unistd::execve};
use rustix::{
    fs::Mode,
    process::{Gid, Uid},
};
use std::{
    collections::BTreeMap,
    ffi::CString,
    io::Write,
    os::fd::{AsFd, OwnedFd},
};
use tine_sys::{process, terminal};

/// Where programs are looked for when the box does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Found but not executable, as a shell says it.
const NOT_EXECUTABLE: u8 = 126;
/// Not found, as a shell says it.
const NOT_FOUND: u8 = 127;
/// Tine's own failure.
const OWN_FAILURE: u8 = 125;

/// The standard streams of a program.
#[derive(Debug)]
pub enum ChildStreams {
    /// One terminal for all three.
    Terminal(OwnedFd),
    /// Input, output and error.
    Three([OwnedFd; 3]),
}

/// Why no program runs: the exit code, and what is said on its standard error.
struct Misfire(u8, String);

/// Becomes the program; returns the exit code when that fails. `settled` is called once it leads its session.
pub(super) fn become_program(launch: &Launch<'_>, hooks: &Hooks<'_>, settled: &mut dyn FnMut()) -> u8 {
    let refuse = |refusal| {
        (hooks.refuse)(refusal);
        OWN_FAILURE
    };
    process::default_signals();
    if let Err(message) = (hooks.enter)().and_then(|()| take_session(launch.streams)) {
        return refuse(Refusal::Other(message));
    }
    settled();
    let identity = match users::look_up(launch.request.user.as_deref()) {
        Ok(identity) => identity,
        Err(message) => return refuse(Refusal::NoSuchUser(message)),
    };
    if let Err(error) = assume(&identity) {
        return refuse(Refusal::Other(format!("cannot become user {}: {error}", identity.uid)));
    }
    let Misfire(code, message) = execute(launch, &identity);
    let _ = writeln!(std::io::stderr(), "tine: exec: {message}");
    code
}

fn take_session(streams: &ChildStreams) -> Result<(), String> {
    rustix::process::setsid().map_err(|e| format!("cannot make a session: {e}"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let fds = match streams {
        ChildStreams::Three([stdin, stdout, stderr]) => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        ChildStreams::Terminal(slave) => {
            terminal::make_controlling(slave.as_fd()).map_err(|e| e.to_string())?;
            [slave.as_fd(); 3]
        }
    };
    process::set_standard_streams(fds).map_err(|e| e.to_string())
}
/// The group ids go first, for they need the privilege that leaves with the user id.
fn assume(identity: &Identity) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn execute(launch: &Launch<'_>, identity: &Identity) -> Misfire {
    let request = launch.request;
    let dir = request.working_dir.as_deref();
    let entered = match dir {
        Some(dir) => rustix::process::chdir(dir),
        None => rustix::process::chdir(identity.home.as_str()).or_else(|_| rustix::process::chdir("/")),
    };
    if let Err(error) = entered {
        let reason = error_text(Errno::from_raw(error.raw_os_error()));
        return Misfire(NOT_EXECUTABLE, format!("working directory {:?}: {reason}", dir.unwrap_or("/")));
    }
    let env = environment(launch, identity);
    let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let Some(name) = request.argv.first() else {
        return Misfire(NOT_EXECUTABLE, "no program is given".to_owned());
    };
    let strings = |list: Vec<String>| list.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let pairs = env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let (Ok(argv), Ok(envp)) = (strings(request.argv.clone()), strings(pairs)) else {
        return Misfire(NOT_EXECUTABLE, format!("{name:?}: an argument holds a NUL byte"));
    };
    let errno = search(name, path, &argv, &envp);
    let code = if matches!(errno, Errno::ENOENT | Errno::ENOTDIR) { NOT_FOUND } else { NOT_EXECUTABLE };
    Misfire(code, format!("{name:?}: {}", error_text(errno)))
}

fn environment(launch: &Launch<'_>, identity: &Identity) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOME".to_owned(), identity.home.clone()),
    ]);
    if let Some(name) = &identity.name {
        env.insert("USER".to_owned(), name.clone());
    }
    if launch.request.tty.is_some() {
        env.insert("TERM".to_owned(), "xterm".to_owned());
    }
    env.extend(launch.env.iter().chain(&launch.request.env).map(|v| (v.key.clone(), v.value.clone())));
    env
}

/// Tries each directory of `path` in turn, as execvp(3) does, and tells why none did.
fn search(name: &str, path: &str, argv: &[CString], envp: &[CString]) -> Errno {
    if name.contains('/') {
        return attempt(name, argv, envp);
    }
    let mut worst = Errno::ENOENT;
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        match attempt(&format!("{dir}/{name}"), argv, envp) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => worst = Errno::EACCES,
            other => return other,
        }
    }
    worst
}

/// Executes a file; one without a known format goes to the shell, as execvp(3) does.
fn attempt(file: &str, argv: &[CString], envp: &[CString]) -> Errno {
    let Ok(path) = CString::new(file) else { return Errno::EINVAL };
    if path.is_empty() {
        return Errno::ENOENT;
    }
    match execve(&path, argv, envp) {
        Err(Errno::ENOEXEC) => {
            let script = [c"sh".to_owned(), path].into_iter().chain(argv.iter().skip(1).cloned());
            let Err(errno) = execve(c"/bin/sh", &script.collect::<Vec<_>>(), envp);
            errno
        }
        Err(errno) => errno,
    }
}

fn error_text(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => "not found",
        Errno::EACCES | Errno::EPERM => "permission denied",
        Errno::ENOEXEC => "not a program",
        other => other.desc(),
    }
}
