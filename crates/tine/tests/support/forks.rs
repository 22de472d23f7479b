//! Machines to be forked: a pool with a guest kernel and a small root, and programs that tell what a guest lives
//! through.

#![expect(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test uses its own part, and fails by panicking"
)]

use crate::{
    machine::{engines, furnish, within},
    support::{Done, Fixture, names, nanos},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Memory of the machines here.
pub const MEMORY: &str = "128MiB";

/// In the guest: waits until the machine has another id, and writes down at once who it is and what time it is. Each
/// time lies between two readings of the clock that nobody sets.
const WITNESS: &str = r#"#!/bin/bash
hex() {
    local c i
    for ((i = 0; i < 16; i++)); do
        LC_ALL=C IFS= read -r -d '' -n 1 c
        printf -v c %d "'$c"
        printf %02x $((c & 255))
    done
}
read -r was </run/tine/machine-id
echo up >/run/witness.up
while :; do
    read -r id </run/tine/machine-id
    [ "$id" != "$was" ] || continue
    read -r before rest </proc/uptime
    now=$EPOCHREALTIME
    read -r after rest </proc/uptime
    read -r uuid </proc/sys/kernel/random/uuid
    random=$(hex </dev/urandom)
    read -r host </proc/sys/kernel/hostname
    read -r etc </etc/machine-id
    read -r mac </sys/class/net/eth0/address
    read -r boot </proc/sys/kernel/random/boot_id
    echo "$id" >>/marker
    echo "now=$now before=$before after=$after uuid=$uuid random=$random host=$host id=$id etc=$etc mac=$mac" >/run/witness.new
    mv /run/witness.new /run/witness
    was=$id
    [ -e /run/witness.stays ] || exit
done
"#;

/// In the guest: counts, and writes down the longest time between two numbers, in microseconds.
const COUNTER: &str = r#"#!/bin/bash
n=0 worst=0 last=${EPOCHREALTIME/./}
while :; do
    read -r -t 0.05 <>/run/never
    now=${EPOCHREALTIME/./}
    if ((now - last > worst)); then worst=$((now - last)); fi
    last=$now n=$((n + 1))
    echo "$n $worst $$" >/run/count.new && mv /run/count.new /run/count
done
"#;

/// In the guest: writes generations, each to the disk first and to memory when the disk has it. What is on the disk,
/// read past every cache, is of the same generation as what is in memory.
const LEDGER: &str = r#"#!/bin/bash
n=0
blot=/dev/shm/ledger
while :; do
    n=$((n + 1))
    printf '%016384d\n' $n >/dev/shm/page
    dd if=/dev/shm/page of=/ledger bs=32k conv=fsync,notrunc 2>/dev/null
    mv /dev/shm/page $blot
    [ -e /run/tamper ] && printf '%016384d\n' 0 | dd of=/ledger conv=fsync,notrunc 2>/dev/null
    echo 1 >/proc/sys/vm/drop_caches
    disk=$(</ledger) memory=$(<$blot)
    printf -v wanted '%016384d' $n
    [ "$disk" = "$wanted" ] || echo "disk has ${disk: -9}, not $n" >>/run/mismatch
    [ "$memory" = "$wanted" ] || echo "memory has ${memory: -9}, not $n" >>/run/mismatch
    echo $n >/run/agreed.new && mv /run/agreed.new /run/agreed
done
"#;

/// A pool of that size with a guest kernel, and a base with the programs above.
pub fn pool(size: &str) -> Fixture {
    let f = Fixture::sized(size);
    furnish(&f, &[("witness", WITNESS), ("counter", COUNTER), ("ledger", LEDGER)]);
    f
}

/// Bakes an image in which these commands have run.
pub fn bake(f: &Fixture, tag: &str, run: &[&str]) {
    let mut words = vec!["image", "bake", tag, "--base", "box-base", "--memory", MEMORY, "--disk", "1GiB"];
    words.extend(["--net", "none"]);
    words.extend(run.iter().flat_map(|command| ["--run", command]));
    f.ok(&words);
}

/// Bakes an image with a waiting witness.
pub fn bake_witness(f: &Fixture, tag: &str) {
    bake(
        f,
        tag,
        &["/srv/witness </dev/null >/dev/null 2>&1 &", "until [ -e /run/witness.up ]; do sleep 0.1; done"],
    );
}

/// A running vm box made from the base.
pub fn machine(f: &Fixture, name: &str) {
    f.ok(&["create", name, "--vm", "--memory", MEMORY, "--disk", "1GiB", "--net", "none"]);
}

/// Starts a program in a box that outlives the command.
pub fn leave_running(f: &Fixture, name: &str, script: &str) {
    f.ok(&["exec", name, "--bg", "--", "sh", "-c", script]);
}

/// Starts a counter in a box, and waits until it counts.
pub fn count(f: &Fixture, name: &str) {
    leave_running(f, name, "mkfifo /run/never; exec /srv/counter");
    within(20, "the counter counts", || f.run(&["exec", name, "--", "cat", "/run/count"]).code == 0);
}

/// How far a counter has come, its longest pause in microseconds, and its process.
pub fn counted(f: &Fixture, name: &str) -> (u64, u64, u64) {
    let text = f.ok(&["exec", name, "--", "cat", "/run/count"]);
    let numbers: Vec<u64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [number, worst, pid] = numbers[..] else { panic!("not a counter's: {text}") };
    (number, worst, pid)
}

/// Boxes that are there, and how they stand.
pub fn boxes(f: &Fixture) -> Vec<(String, String)> {
    let list = f.json(&["list"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_else(|| panic!("odd: {list}")).to_owned();
    let entries = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    entries.iter().map(|entry| (text(&entry["box"]["name"]), text(&entry["status"]))).collect()
}

/// Names of boxes that run.
pub fn running(f: &Fixture) -> Vec<String> {
    boxes(f).into_iter().filter(|(_, status)| status == "running").map(|(name, _)| name).collect()
}

/// The digest of a file.
pub fn digest(path: &Path) -> String {
    let done = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8_lossy(&done.stdout).split(' ').next().unwrap().to_owned()
}

/// How many QEMUs have a file of the pool open.
pub fn machines(f: &Fixture) -> usize {
    engines(f).len()
}

/// A file in the pool that belongs to no box.
fn ballast(f: &Fixture) -> PathBuf {
    f.pool().join("ballast")
}

/// Leaves no space in the pool.
pub fn fill(f: &Fixture) {
    fill_to(f, 0);
}

/// Leaves so many bytes of space in the pool, or less.
pub fn fill_to(f: &Fixture, left: u64) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(ballast(f)).unwrap();
    let noise: Vec<u8> = (0..1_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let free = || f.json(&["df"])["free_bytes"].as_u64().unwrap();
    while left == 0 || free() > left {
        if file.write_all(&noise).and_then(|()| file.sync_data()).is_err() {
            return;
        }
    }
}

/// Takes the ballast away again.
pub fn make_room(f: &Fixture) {
    std::fs::remove_file(ballast(f)).unwrap();
    let _ = Command::new("btrfs").args(["filesystem", "sync"]).arg(f.pool()).output();
}

/// A host whose boxes may use so many bytes of memory together: a group of the memory controller (version 1) stands in
/// for the controller's own top.
pub struct ShortHost(PathBuf);

/// Where the memory controller (version 1) is.
const MEMORY_CONTROLLER: &str = "/sys/fs/cgroup/memory";

impl ShortHost {
    /// None where there is no such controller, or its groups do not nest.
    pub fn new(bytes: u64) -> Option<Self> {
        let top = Path::new(MEMORY_CONTROLLER);
        std::fs::read_to_string(top.join("memory.use_hierarchy")).ok().filter(|text| text.trim() == "1")?;
        let group = top.join(format!("tine-test-{}-{:x}", std::process::id(), nanos()));
        std::fs::create_dir(&group).unwrap();
        std::fs::write(group.join("memory.limit_in_bytes"), bytes.to_string()).unwrap();
        Some(Self(group))
    }

    /// Lets the boxes use so many bytes more.
    pub fn grow(&self, bytes: u64) {
        let file = self.0.join("memory.limit_in_bytes");
        let now: u64 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        std::fs::write(&file, (now + bytes).to_string()).unwrap();
    }

    /// Runs a command of tine on this host.
    pub fn run(&self, f: &Fixture, args: &[&str]) -> Done {
        let plain = f.command(args);
        let script = format!("mount --bind \"$0\" {MEMORY_CONTROLLER} && exec \"$@\"");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", &script])
            .arg(&self.0)
            .arg(plain.get_program())
            .args(plain.get_args());
        Done::new(args, command.stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for ShortHost {
    fn drop(&mut self) {
        // a group whose last process has just ended may be in use for a moment
        let end = Instant::now() + Duration::from_secs(5);
        while self.0.exists() && Instant::now() < end {
            remove_group(&self.0);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a group and those below as far as that is possible.
fn remove_group(group: &Path) {
    let below = names(group).into_iter().map(|name| group.join(name));
    below.filter(|path| path.is_dir()).for_each(|path| remove_group(&path));
    let everyone = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in everyone.lines() {
        let _ = std::fs::write(Path::new(MEMORY_CONTROLLER).join("cgroup.procs"), pid);
    }
    let _ = std::fs::remove_dir(group);
}

/// Bytes of guest memory that a running box's machine has written itself: pages of its mapping that are in no file.
pub fn own_bytes(f: &Fixture, name: &str) -> u64 {
    let disk = f.root_of(name).join("disk.img");
    let has_disk = |pid: &String| {
        let folder = Path::new("/proc").join(pid).join("fd");
        let is_qemu =
            std::fs::read(folder.with_file_name("cmdline")).is_ok_and(|line| line.starts_with(b"qemu"));
        is_qemu
            && names(&folder)
                .iter()
                .any(|fd| std::fs::read_link(folder.join(fd)).is_ok_and(|path| path == disk))
    };
    let everyone = names("/proc".as_ref());
    let pid =
        everyone.iter().find(|pid| has_disk(pid)).unwrap_or_else(|| panic!("no machine has {name}'s disk"));
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut of_memory, mut kilobytes) = (false, 0);
    for line in maps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(number) if of_memory => {
                kilobytes += number.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
            }
            Some(_) => {}
            None if line.contains("-") && line.contains(" rw") => of_memory = line.contains("memory.bin"),
            None => {}
        }
    }
    kilobytes << 10
}

/// Bytes of a file that no other file shares.
pub fn exclusive_bytes(path: &Path) -> u64 {
    use std::os::fd::AsFd as _;
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    let mut bytes = 0;
    let alone = |extent: tine_sys::extents::Extent| bytes += if extent.shared { 0 } else { extent.length };
    tine_sys::extents::each_extent(file.as_fd(), alone).unwrap();
    bytes
}
