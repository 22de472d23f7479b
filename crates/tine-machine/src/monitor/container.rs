//! Making the container by the OCI runtime library: its mounts, namespaces, capabilities.
//!
//! The library works in a mount namespace of the monitor's, in which a small tmpfs lies over the cgroup file systems:
//! it finds no controllers there and leaves cgroups alone, and its own files vanish with the namespace.

use super::{Stage, root};
use crate::{
    error::{MachineError, MachineResult},
    init::BoxInit,
    rundir::open_dir,
    spec::{Bind, ContainerSpec, StartSpec},
};
use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use rustix::process::Pid;
use serde_json::{Value, json};
use std::{
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};
use tine_sys::namespace::{self, MountNamespace};

/// Covered by the private tmpfs.
const STAGE: &str = "/sys/fs/cgroup";
/// More than the library's files need.
const STAGE_SIZE: u64 = 4 << 20;

/// What a box's root user may do: Docker's default set.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
/// The init needs it to install filters, and drops it.
const INIT_CAPABILITY: &str = "CAP_SYS_ADMIN";

/// Files of `/proc` and `/sys` that tell too much.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Files of `/proc` that change the host when written.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Files of the monitor's that the box sees in `/etc`.
pub(super) struct Files<'a> {
    pub(super) hosts: &'a Path,
    pub(super) resolv_conf: &'a Path,
    pub(super) hostname: PathBuf,
}

/// Makes the container and starts its init, whose process id on the host is the result. The calling process is in the
/// host's mount namespace afterwards, and in the monitors' cgroups where entering them is cheap.
pub(super) fn create(
    spec: &StartSpec,
    container: &ContainerSpec,
    stage: &Stage,
    init: BoxInit,
) -> MachineResult<Pid> {
    let root = open_dir(&container.root)?;
    root::check(root.as_fd())?;
    let config = config(spec, container, stage, root.as_fd());
    drop(root);
    let host = MountNamespace::current()?;
    namespace::enter_private_mounts()?;
    let built = lay_out(&container.root, &config)
        .and_then(|()| stage.cgroup.enter())
        .and_then(|()| build(&spec.id, init));
    let left = stage.cgroup.leave_early();
    host.enter()?;
    let pid = built?;
    left?;
    Ok(pid)
}

fn lay_out(root: &Path, config: &Value) -> MachineResult<()> {
    let stage = Path::new(STAGE);
    namespace::detach_mount(stage)?;
    namespace::mount_tmpfs(stage, STAGE_SIZE)?;
    let io = |e| MachineError::io("prepare", STAGE, e);
    for dir in ["root", "bundle", "state"] {
        std::fs::create_dir(stage.join(dir)).map_err(io)?;
    }
    // A device node in the root is of no use: the box may make them, and its image may hold them.
    namespace::bind_without_devices(root, &stage.join("root"))?;
    std::fs::write(stage.join("bundle/config.json"), config.to_string()).map_err(io)
}

fn build(id: &str, init: BoxInit) -> MachineResult<Pid> {
    let stage = Path::new(STAGE);
    let failed = |e: libcontainer::error::LibcontainerError| MachineError::Start(chain(&e));
    let mut container: Container = ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(stage.join("state"))
        .map_err(failed)?
        .with_executor(init)
        .as_init(stage.join("bundle"))
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(failed)?;
    container.start().map_err(failed)?;
    let pid = container.pid().and_then(|pid| Pid::from_raw(pid.as_raw()));
    pid.ok_or_else(|| MachineError::Start("the container has no process".to_owned()))
}

/// An error with its causes, for the library's outermost says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}

fn config(spec: &StartSpec, container: &ContainerSpec, stage: &Stage, root: BorrowedFd<'_>) -> Value {
    let set: Vec<&str> = CAPABILITIES.into_iter().chain([INIT_CAPABILITY]).collect();
    let namespaces: Vec<Value> =
        ["mount", "pid", "uts", "ipc", "cgroup"].iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": format!("{STAGE}/root"), "readonly": false },
        "hostname": spec.hostname.to_string(),
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["init"],
            "env": [],
            "cwd": "/",
            "noNewPrivileges": false,
            "capabilities": { "bounding": set, "effective": set, "permitted": set },
        },
        "mounts": mounts(container, stage, root),
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn mounts(container: &ContainerSpec, stage: &Stage, root: BorrowedFd<'_>) -> Vec<Value> {
    let mut all = vec![
        mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        // The init forbids devices on /dev when it has given the six it keeps mounts of their own.
        mount("tmpfs", "/dev", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    if stage.cgroup.is_unified() {
        all.push(mount("cgroup2", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "ro"]));
    }
    all.extend(container.binds.iter().map(bind));
    all.extend(etc_files(stage, root));
    all
}

fn mount(kind: &str, target: &str, options: &[&str]) -> Value {
    json!({ "type": kind, "source": kind, "destination": target, "options": options })
}

fn bind(bind: &Bind) -> Value {
    let access = if bind.read_only { "ro" } else { "rw" };
    json!({
        "type": "bind",
        "source": bind.source,
        "destination": bind.target,
        "options": ["bind", "nodev", access],
    })
}

/// Only where the box has such a file: mounting over a link could lead elsewhere, and making the file would change
/// the box.
fn etc_files(stage: &Stage, root: BorrowedFd<'_>) -> Vec<Value> {
    let files = stage.files();
    [("/etc/hosts", files.hosts), ("/etc/resolv.conf", files.resolv_conf), ("/etc/hostname", &files.hostname)]
        .into_iter()
        .filter(|(target, source)| source.exists() && root::is_regular_file(root, Path::new(target)))
        .map(|(target, source)| {
            bind(&Bind { source: source.to_owned(), target: PathBuf::from(target), read_only: true })
        })
        .collect()
}
