//! MicroVM boxes: a pool with a guest kernel and a small base, and what they leave on the host.

#![expect(dead_code, clippy::unwrap_used, reason = "each test uses its own part, and fails by panicking")]

use crate::support::{Done, Fixture, names, root};
use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

/// Memory of the machines here.
pub const MEMORY: &str = "96MiB";

/// A pool of 6 GiB (sparse) with a guest kernel and a `box-base` that machines can boot.
pub fn pool() -> Fixture {
    let f = Fixture::sized("6GiB");
    furnish(&f, &[]);
    f
}

/// Brings a guest kernel and a `box-base` that machines can boot into a pool that has neither. The base has these
/// programs in `/srv`.
pub fn furnish(f: &Fixture, programs: &[(&str, &str)]) {
    let kernel = PathBuf::from(std::env::var_os("TINE_TEST_KERNEL").unwrap());
    let modules = kernel.join("lib/modules");
    let modules = modules.join(names(&modules).first().unwrap());
    let vmlinuz = kernel.join("vmlinuz");
    f.ok(&["kernel", "import", "--vmlinuz", word(&vmlinuz), "--modules", word(&modules)]);
    let tar = f.file("guest.tar", &guest_root(programs));
    f.ok(&["base", "import", "box-base", "--file", word(&tar)]);
}

/// The tiny root with the places over which every machine mounts, and `perl`, which can be a server.
fn guest_root(programs: &[(&str, &str)]) -> Vec<u8> {
    let mut tiny = root::tiny_root_tar();
    // two empty blocks end an archive
    tiny.truncate(tiny.len() - 1024);
    let mut more = tar::Builder::new(Vec::new());
    for folder in ["proc/", "sys/", "dev/", "run/", "srv/"] {
        add(&mut more, folder, tar::EntryType::Directory, b"");
    }
    for (path, content) in [("etc/machine-id", ""), ("etc/hostname", "base\n"), ("etc/hosts", "")] {
        add(&mut more, path, tar::EntryType::Regular, content.as_bytes());
    }
    let perl = root::which("perl").unwrap();
    for (name, program) in programs {
        add(&mut more, &format!("srv/{name}"), tar::EntryType::Regular, program.as_bytes());
    }
    add(&mut more, "usr/bin/perl", tar::EntryType::Regular, &std::fs::read(&perl).unwrap());
    for library in root::libraries(&[perl]).iter().filter(|l| !l.starts_with("/lib64")) {
        let name = library.file_name().unwrap().to_str().unwrap();
        let content = std::fs::read(library).unwrap();
        add(&mut more, &format!("usr/lib/{name}"), tar::EntryType::Regular, &content);
    }
    tiny.extend(more.into_inner().unwrap());
    tiny
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    header.set_mtime(1_700_000_000);
    tar.append_data(&mut header, path, content).unwrap();
}

/// A path as a word of a command.
pub fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The words that make a machine of the base: small, and without a network.
pub fn making<'w>(name: &'w str, more: &[&'w str]) -> Vec<&'w str> {
    let mut words = vec!["create", name, "--vm", "--memory", MEMORY, "--disk", "1GiB", "--net", "none"];
    words.extend(more);
    words
}

/// A pool with a running machine.
pub fn with_machine(name: &str) -> Fixture {
    let f = pool();
    f.ok(&making(name, &[]));
    f
}

/// The words that bake an image of the base: small, and without a network.
pub fn baking<'w>(tag: &'w str, more: &[&'w str]) -> Vec<&'w str> {
    let mut words = vec!["image", "bake", tag, "--base", "box-base", "--memory", MEMORY, "--disk", "1GiB"];
    words.extend(["--net", "none"]);
    words.extend(more);
    words
}

/// What `list` says of a box.
pub fn status(f: &Fixture, name: &str) -> String {
    f.json(&["info", name])["status"].as_str().unwrap().to_owned()
}

/// Processes that are tine's for this pool or have a file of it open, and do not go away: a monitor whose box has ended
/// gives its network back before it ends itself.
pub fn leftovers(f: &Fixture) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let found = processes(f);
        if found.is_empty() || Instant::now() > end {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Processes that are tine's for this pool, or have a file of it open. That of the test is none.
pub fn processes(f: &Fixture) -> Vec<String> {
    let own = std::process::id();
    let numbers = names(Path::new("/proc")).into_iter().filter_map(|n| n.parse().ok());
    let of_pool = |pid: &u32| *pid != own && is_of(*pid, &f.pool());
    let told = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
    };
    numbers.filter(of_pool).map(told).collect()
}

/// Processes of this pool that run a machine's instructions.
pub fn engines(f: &Fixture) -> Vec<u32> {
    let engine =
        |line: &String| line.contains(" qemu ").then(|| line.split(' ').next().unwrap().parse().unwrap());
    processes(f).iter().filter_map(engine).collect()
}

fn is_of(pid: u32, pool: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let wanted = pool.to_str().unwrap();
    // a command with its pool, not one that merely contains its name
    if String::from_utf8_lossy(&line).split('\0').any(|w| w == wanted) {
        return true;
    }
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.any(|link| link.starts_with(pool))
}

/// Ids of machines that are being made and belong to no box yet.
pub fn staged_ids(f: &Fixture) -> Vec<String> {
    let tmp = f.pool().join("tmp");
    let id = |name: String| {
        let meta = std::fs::read(tmp.join(name).join("meta.json")).ok()?;
        let meta: serde_json::Value = serde_json::from_slice(&meta).ok()?;
        Some(meta["id"].as_str()?.to_owned())
    };
    names(&tmp).into_iter().filter_map(id).collect()
}

/// Cgroups of a machine.
pub fn cgroups(id: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let of = |mount: PathBuf| [mount.join("tine").join(id), mount.join("tine/monitors").join(id)];
    let mounts = names(top).into_iter().map(|name| top.join(name)).chain([top.to_owned()]);
    mounts.flat_map(of).filter(|path| path.exists()).collect()
}

/// Waits until a condition holds, at most five times the seconds that are plenty on a host that keeps up: how slowly
/// guests run says nothing of the program.
pub fn within(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let seconds = 5 * seconds;
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Seconds of this host's wall clock.
pub fn wall_clock() -> f64 {
    crate::support::nanos() as f64 / 1e9
}

/// A command that goes on while the test does; killed when the test fails half-way.
pub struct Going {
    child: Option<Child>,
    args: Vec<String>,
}

impl Going {
    pub fn start(f: &Fixture, args: &[&str]) -> Self {
        let mut command = f.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let args = args.iter().map(|a| (*a).to_owned()).collect();
        Self { child: Some(command.spawn().unwrap()), args }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn is_over(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    pub fn end(mut self) -> Done {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        Done::new(&args, output)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
