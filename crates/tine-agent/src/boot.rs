//! From the kernel's first process to an agent in the box's root: mounts, modules, disk, link.
//!
//! Writes nothing to the disk, and hides nothing of it but where every Linux machine has a mount, and the four files
//! that say who the machine is. No program has run yet, so what is looked at cannot change underneath.

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags},
    process::{Resource, Rlimit},
    system::RebootCommand,
};
use std::{
    ffi::CStr,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tine_agent::{
    AgentError, AgentResult,
    agent::{Config, FILES, IdentityFiles},
    message::{GuestControl, GuestMessage, PORT},
};
use tine_sys::interface::Interface;

/// Where the disk is mounted until it becomes the root.
const ROOT: &str = "/root";
/// The disk.
const DISK: &str = "/dev/vda";
/// How long a device may take to appear, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(2);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How many files a process of the machine may have open, and how many it may ask for.
const OPEN_FILES: u64 = 65_536;
const MAX_OPEN_FILES: u64 = 1 << 20;
/// The cgroup that programs run in.
const GROUP: &str = "/sys/fs/cgroup/box";

/// Mount flags of what is no disk.
const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Brings the machine up. What keeps it down is told over the link, if there is one, and the machine is off then.
///
/// # Errors
/// [`AgentError`], when there is no link to tell it over.
pub fn boot() -> AgentResult<Config> {
    mount_kernel_trees()?;
    let complaints = load_modules();
    let come_up = |link: &OwnedFd| -> AgentResult<Config> {
        wait_for("disk", || Path::new(DISK).exists().then_some(()))?;
        let identity = enter_root()?;
        let link = link.try_clone().map_err(|e| AgentError::io("use", "link", e))?;
        let cgroup = make_group();
        raise_limits();
        // A machine without a loopback device is a machine all the same.
        let _ = Interface::named("lo").and_then(|lo| lo.set_up());
        Ok(Config { link, is_first: true, root: "/".into(), cgroup, identity })
    };
    let blame = |error: AgentError| AgentError::Boot([error.to_string(), complaints.clone()].concat());
    let link = wait_for("link", find_link).map_err(blame)?;
    come_up(&link).map_err(|error| give_up(&link, &blame(error)))
}

/// Writes a line to the kernel's log, and so to the console.
pub fn say_to_kernel(line: &str) {
    let _ = fs::write("/dev/kmsg", format!("<3>tine-agent: {line}\n"));
}

fn mount(fs_type: &str, target: &str, flags: MountFlags, options: &CStr) -> AgentResult<()> {
    rustix::mount::mount(fs_type, target, fs_type, flags, Some(options))
        .map_err(|e| AgentError::io("mount", target, e))
}

fn make_dir(path: impl AsRef<Path>) -> AgentResult<()> {
    match fs::create_dir(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(AgentError::io("create", path.as_ref().display(), e))
        }
        _ => Ok(()),
    }
}

/// `/proc`, `/sys`, `/dev`, `/run` and what lies in them, in the initramfs; they move into the root later.
fn mount_kernel_trees() -> AgentResult<()> {
    for dir in ["/proc", "/sys", "/dev", "/run", ROOT] {
        make_dir(dir)?;
    }
    mount("proc", "/proc", PLAIN, c"")?;
    mount("sysfs", "/sys", PLAIN, c"")?;
    mount("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755")?;
    mount("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")?;
    for dir in ["/dev/pts", "/dev/shm", "/run/tine"] {
        make_dir(dir)?;
    }
    mount("devpts", "/dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, c"gid=5,mode=0620,ptmxmode=0666")?;
    mount("tmpfs", "/dev/shm", MountFlags::NOSUID | MountFlags::NODEV, c"mode=1777")?;
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let link = Path::new("/dev").join(name);
        std::os::unix::fs::symlink(format!("/proc/self/fd{target}"), &link)
            .map_err(|e| AgentError::io("create", link.display(), e))?;
    }
    // Kernels without cgroups of version 2 run programs in no group.
    let _ = mount("cgroup2", "/sys/fs/cgroup", PLAIN, c"");
    Ok(())
}

/// Loads the modules and gives their memory back; in words what went wrong, which may not matter.
fn load_modules() -> String {
    let order = fs::read_to_string("/modules/order").unwrap_or_default();
    let complaints = order.lines().filter_map(|name| {
        let path = Path::new("/modules").join(name);
        let error = load_module(&path).err();
        let _ = fs::remove_file(&path);
        error.map(|error| format!("; {error}"))
    });
    complaints.collect()
}

fn load_module(path: &Path) -> AgentResult<()> {
    let err = |e: Errno| AgentError::io("load", path.display(), e);
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(err)?;
    match rustix::system::finit_module(&file, c"", 0) {
        // It may be loaded or built in already.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(err(errno)),
    }
}

/// Drivers look for their devices in their own time.
fn wait_for<T>(what: &'static str, mut find: impl FnMut() -> Option<T>) -> AgentResult<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(AgentError::Boot(format!("there is no {what}")));
        }
        std::thread::sleep(STEP);
    }
}

/// Opens the port of the link; none as long as the kernel does not know its name.
fn find_link() -> Option<OwnedFd> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let named = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim_end() == PORT)
    };
    let port = ports.filter_map(Result::ok).find(named)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(Path::new("/dev").join(port.file_name()), flags, Mode::empty()).ok()
}

/// Makes the disk the root, with everything mounted so far in it.
fn enter_root() -> AgentResult<IdentityFiles> {
    rustix::mount::mount(DISK, ROOT, "ext4", MountFlags::NOATIME, None::<&CStr>)
        .map_err(|e| AgentError::io("mount", DISK, e))?;
    let identity = IdentityFiles::create(Path::new("/run/tine"))?;
    for name in FILES {
        cover(name)?;
    }
    for tree in ["/proc", "/sys", "/dev", "/run"] {
        let target = in_root(tree);
        if is_dir(&target) {
            rustix::mount::mount_move(tree, &target).map_err(|e| AgentError::io("mount", tree, e))?;
        }
    }
    switch_root().map_err(|e| AgentError::io("enter", ROOT, e))?;
    Ok(identity)
}

/// Mounts the file of this name over that in `/etc`, where there is a regular one.
fn cover(name: &str) -> AgentResult<()> {
    let target = in_root("/etc").join(name);
    if !is_dir(&in_root("/etc")) || !fs::symlink_metadata(&target).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    rustix::mount::mount_bind(Path::new("/run/tine").join(name), &target)
        .map_err(|e| AgentError::io("mount", target.display(), e))
}

fn switch_root() -> rustix::io::Result<()> {
    rustix::process::chdir(ROOT)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    // As the first process of most machines leaves it: what is mounted here shows in namespaces made of it.
    rustix::mount::mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
}

fn in_root(path: &str) -> PathBuf {
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

/// True for a directory, not for a link to one, which might lead out of the root.
fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The kernel's own limit is too low for an agent with all its channels, and for many a program.
fn raise_limits() {
    let wanted = Rlimit { current: Some(OPEN_FILES), maximum: Some(MAX_OPEN_FILES) };
    // A kernel that does not allow as many keeps its own limit, which does for most.
    let _ = rustix::process::setrlimit(Resource::Nofile, wanted);
}

fn make_group() -> Option<PathBuf> {
    let group = Path::new(GROUP);
    make_dir(group).ok()?;
    group.join("cgroup.freeze").exists().then(|| group.to_owned())
}

/// Says over the link why the machine does not come up, and switches it off.
fn give_up(link: &OwnedFd, error: &AgentError) -> AgentError {
    say_to_kernel(&error.to_string());
    let mut frame = vec![tine_agent::frame::END];
    let message = GuestControl::Boot { message: error.to_string().into() };
    let _ = GuestMessage::Control(message).append(&mut frame);
    let (end, mut rest) = (Instant::now() + LAST_WORDS, frame.as_slice());
    while !rest.is_empty() && Instant::now() < end {
        match rustix::io::write(link, rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(_) => std::thread::sleep(STEP),
        }
    }
    // What was written is on its way once the host has taken it from the port.
    std::thread::sleep(Duration::from_millis(50));
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    AgentError::Boot(error.to_string())
}
