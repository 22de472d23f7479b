//! A virtual machine whose root is made of this host's programs, and whose kernel is a distribution's.
//!
//! Its console is its only way to say something; it has no network and no disk.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and what goes into the machine is small"
)]

mod initramfs;

use crate::support;
use initramfs::Initramfs;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PROGRAMS: [&str; 31] = [
    "bash",
    "cat",
    "cp",
    "cut",
    "diff",
    "echo",
    "grep",
    "kmod",
    "ln",
    "ls",
    "mkdir",
    "mkfs.btrfs",
    "mount",
    "nft",
    "rm",
    "rmdir",
    "seq",
    "sh",
    "sleep",
    "switch_root",
    "sync",
    "tail",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "wc",
    "env",
    "head",
    "ps",
];
/// What a box needs of the kernel; the rules of the firewall included.
const MODULES: [&str; 16] = [
    "loop",
    "crc32c",
    "btrfs",
    "veth",
    "bridge",
    "br_netfilter",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_redir",
    "nft_meta_bridge",
];

/// A kernel with its modules: `$TINE_TEST_KERNEL/vmlinuz` and `$TINE_TEST_KERNEL/lib/modules/<version>`.
struct Kernel {
    root: PathBuf,
    version: String,
}

impl Kernel {
    fn find() -> Self {
        let root = PathBuf::from(std::env::var_os("TINE_TEST_KERNEL").unwrap());
        let versions = support::names(&root.join("lib/modules"));
        let [version] = &versions[..] else { panic!("not one kernel's modules: {versions:?}") };
        Self { version: version.clone(), root }
    }

    /// Files of these modules and of those they need, as paths below the kernel's folder.
    fn modules(&self, names: &[&str]) -> Vec<String> {
        let mut command = Command::new("modprobe");
        command.arg("-d").arg(&self.root).args(["-S", &self.version, "-a", "--show-depends"]).args(names);
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let files = said.lines().filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next());
        let mut files: Vec<String> = files
            .filter_map(|file| Path::new(file).strip_prefix(&self.root).ok())
            .map(|file| file.to_str().unwrap().to_owned())
            .collect();
        files.sort();
        files.dedup();
        files
    }

    /// The tables by which modprobe finds modules.
    fn tables(&self) -> Vec<String> {
        let folder = format!("lib/modules/{}", self.version);
        let names = support::names(&self.root.join(&folder));
        names.iter().filter(|n| n.starts_with("modules.")).map(|name| format!("{folder}/{name}")).collect()
    }
}

/// Makes the root of a machine: Tine, a tar of a tiny root, and what the steps call.
fn pack(kernel: &Kernel, target: &Path) {
    let mut root = Initramfs::create(target);
    root.add_programs(&PROGRAMS);
    root.add_program("usr/bin/tine", Path::new(support::TINE));
    root.link("usr/sbin/modprobe", "../bin/kmod");
    root.link("usr/sbin/nft", "../bin/nft");
    root.add("init", include_bytes!("init.sh"));
    root.add("steps.sh", include_bytes!("steps.sh"));
    root.add("tiny.tar", &support::root::tiny_root_tar());
    for path in kernel.modules(&MODULES).into_iter().chain(kernel.tables()) {
        root.add(&path.replacen("lib/", "usr/lib/", 1), &std::fs::read(kernel.root.join(&path)).unwrap());
    }
    root.finish();
}

/// What the machine's console has said when the machine went off, or at the latest after `patience`.
pub fn run(patience: Duration) -> String {
    let kernel = Kernel::find();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (root, console) = (folder.path().join("root.cpio"), folder.path().join("console"));
    pack(&kernel, &root);
    let mut machine = boot(&kernel, &root, &console);
    let begun = Instant::now();
    while machine.0.try_wait().unwrap().is_none() && begun.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(machine);
    String::from_utf8_lossy(&std::fs::read(&console).unwrap()).into_owned()
}

/// A machine, off when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn boot(kernel: &Kernel, root: &Path, console: &Path) -> Running {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1G"]);
    command.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    command.arg("-kernel").arg(kernel.root.join("vmlinuz")).arg("-initrd").arg(root);
    command.args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]);
    let console = File::create(console).unwrap();
    command.stdin(Stdio::null()).stderr(console.try_clone().unwrap()).stdout(console);
    Running(command.spawn().unwrap())
}
