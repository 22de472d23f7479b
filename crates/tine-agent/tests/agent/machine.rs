//! A microVM whose first process is the agent: a distribution's kernel, an initramfs, and a disk of this host's own
//! programs. Without hardware virtualisation, so that it runs anywhere.

use crate::host::TestHost;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::{
        fs::symlink,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PROGRAMS: [&str; 20] = [
    "bash", "cat", "date", "find", "head", "hostname", "id", "kill", "ls", "mount", "sh", "sleep", "stat",
    "stty", "sync", "touch", "tr", "true", "uname", "wc",
];
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio-rng"];
/// A boot without hardware virtualisation on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// False, with a loud word, where no machine can be made; a failure where that is required.
pub fn machines() -> bool {
    let programs = ["qemu-system-x86_64", "modprobe", "mkfs.ext4", "ldd"];
    let missing = programs.into_iter().find(|program| which(program).is_none());
    let problem = match (missing, kernel()) {
        (Some(program), _) => Some(format!("no {program}")),
        (None, None) => Some("$TINE_TEST_KERNEL names no folder with a kernel".to_owned()),
        (None, Some(_)) => None,
    };
    let required = std::env::var("TINE_REQUIRE").is_ok_and(|v| v.split(',').any(|a| a == "vm"));
    assert!(problem.is_none() || !required, "vm is required and missing: {problem:?}");
    if let Some(problem) = &problem {
        eprintln!("SKIPPED: no vm: {problem}");
    }
    problem.is_none()
}

/// A folder with `vmlinuz` and `lib/modules/<version>`.
fn kernel() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("TINE_TEST_KERNEL")?);
    folder.join("vmlinuz").exists().then_some(folder)
}

/// Everything a machine is made of, in a folder that goes with it.
pub struct Parts {
    dir: tempfile::TempDir,
}

/// A machine that is on; off when dropped.
pub struct Machine {
    qemu: Child,
    pub monitor: PathBuf,
    pub console: PathBuf,
    pub started: Instant,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Machine {
    /// Waits until it is off.
    pub fn wait_until_off(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.qemu.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the machine stays on: {}", self.console());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What its console has said.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Has QEMU's own monitor do something.
    pub fn command(&self, line: &str) {
        use std::io::Write;
        let mut monitor = UnixStream::connect(&self.monitor).unwrap();
        monitor.write_all(format!("{line}\n").as_bytes()).unwrap();
        // It is read to the end, for a monitor whose client is gone forgets what it was told.
        std::thread::spawn(move || std::io::read_to_string(monitor));
    }
}

impl Parts {
    /// A kernel's modules and the agent in an initramfs, and a disk.
    pub fn make() -> Self {
        let parts = Self::without_disk();
        make_disk(&parts.path("root"), &parts.path("disk"));
        parts
    }

    /// The same without a disk.
    pub fn without_disk() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        pack_initramfs(&dir.path().join("initramfs"));
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Switches a machine on; gives its host once QEMU has connected.
    pub fn boot(&self, name: &str, more: &[&str]) -> (Machine, TestHost) {
        let (socket, monitor) = (self.path(&format!("{name}.link")), self.path(&format!("{name}.monitor")));
        let console = self.path(&format!("{name}.console"));
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "pc-q35-7.2,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "256"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-rtc", "base=2040-01-01"]);
        command.arg("-kernel").arg(kernel().unwrap().join("vmlinuz"));
        command.arg("-initrd").arg(self.path("initramfs"));
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.arg("-monitor").arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.args(["-device", "virtio-serial-pci", "-device", "virtio-rng-pci"]);
        command.arg("-chardev").arg(format!("socket,id=link,path={}", socket.display()));
        command.args(["-device", "virtserialport,chardev=link,name=tine.agent"]);
        command.args(["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="]);
        let disk = self.path("disk");
        if disk.exists() {
            let drive = format!("file={},if=none,id=disk,format=raw,cache=unsafe", disk.display());
            command.args(["-device", "virtio-blk-pci,drive=disk", "-drive", &drive]);
        }
        command.args(more).stdin(Stdio::null());
        let started = Instant::now();
        let qemu = command.spawn().unwrap();
        let machine = Machine { qemu, monitor, console, started };
        (machine, TestHost::over(listener.accept().unwrap().0))
    }
}

/// The agent as it is shipped.
fn agent() -> PathBuf {
    let target = std::env::current_exe().unwrap();
    let target = target.ancestors().nth(3).unwrap();
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "-p", "tine-agent", "--bin", "tine-agent"])
        .args(["--profile", "agent", "--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status();
    assert!(status.unwrap().success(), "the agent does not build");
    target.join("x86_64-unknown-linux-gnu/agent/tine-agent")
}

fn pack_initramfs(target: &Path) {
    let mut archive = Cpio::default();
    for folder in ["dev", "modules"] {
        archive.entry(folder, 0o040_755, (0, 0), b"");
    }
    archive.entry("dev/console", 0o020_600, (5, 1), b"");
    archive.entry("dev/null", 0o020_666, (1, 3), b"");
    archive.entry("init", 0o100_755, (0, 0), &fs::read(agent()).unwrap());
    let mut order = String::new();
    for module in modules() {
        let name = module.file_name().unwrap().to_str().unwrap().to_owned();
        archive.entry(&format!("modules/{name}"), 0o100_644, (0, 0), &fs::read(&module).unwrap());
        order.push_str(&format!("{name}\n"));
    }
    archive.entry("modules/order", 0o100_644, (0, 0), order.as_bytes());
    archive.entry("TRAILER!!!", 0, (0, 0), b"");
    fs::write(target, archive.0).unwrap();
}

/// The files of the modules and of those they need, each after what it needs.
fn modules() -> Vec<PathBuf> {
    let kernel = kernel().unwrap();
    let version = fs::read_dir(kernel.join("lib/modules")).unwrap().next().unwrap().unwrap().file_name();
    let mut command = Command::new("modprobe");
    command.arg("-d").arg(&kernel).arg("-S").arg(version).args(["-a", "--show-depends"]).args(MODULES);
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let mut found: Vec<PathBuf> = Vec::new();
    for file in said.lines().filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next()) {
        if !found.iter().any(|known| known == Path::new(file)) {
            found.push(file.into());
        }
    }
    assert!(found.len() > MODULES.len(), "{said}");
    found
}

/// An initramfs in the kernel's "newc" format (`Documentation/driver-api/early-userspace/buffer-format.rst`).
#[derive(Default)]
struct Cpio(Vec<u8>);

impl Cpio {
    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let (size, name) = (content.len() as u32, path.len() as u32 + 1);
        // inode, mode, owner, group, links, time, size, device it lies on, device it is, length of the name, sum
        let fields = [self.0.len() as u32, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0];
        let header: String = fields.iter().map(|field| format!("{field:08X}")).collect();
        self.0.extend(format!("070701{header}{path}\0").as_bytes());
        self.pad();
        self.0.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// A root of the host's own programs, as an ext4 image.
fn make_disk(root: &Path, image: &Path) {
    for folder in ["usr/bin", "usr/lib", "usr/lib64", "etc", "root", "tmp", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        symlink(target, root.join(link)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/tmp:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nann:x:1000:\n").unwrap();
    for name in ["hostname", "hosts", "machine-id"] {
        fs::write(root.join("etc").join(name), "from the disk\n").unwrap();
    }
    symlink("/run/elsewhere", root.join("etc/resolv.conf")).unwrap();
    let programs: Vec<PathBuf> = PROGRAMS.iter().map(|program| which(program).unwrap()).collect();
    for program in &programs {
        fs::copy(program, root.join("usr/bin").join(program.file_name().unwrap())).unwrap();
    }
    for library in libraries(&programs) {
        let name = library.file_name().unwrap().to_owned();
        let folder = if name.to_str().unwrap().starts_with("ld-linux") { "usr/lib64" } else { "usr/lib" };
        fs::copy(&library, root.join(folder).join(name)).unwrap();
    }
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(root).arg(image).arg("64M").status();
    assert!(made.unwrap().success());
}

fn which(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|p| p.exists())
}

/// The shared libraries that programs are linked with, the dynamic loader included.
fn libraries(programs: &[PathBuf]) -> BTreeSet<PathBuf> {
    let out = Command::new("ldd").args(programs).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.split_whitespace().filter(|w| w.starts_with('/') && !w.ends_with(':')).map(PathBuf::from).collect()
}
