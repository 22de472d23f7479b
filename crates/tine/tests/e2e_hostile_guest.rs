//! Guests that want to do harm as root of their own machine: the host stays calm and says what happened.

mod support;

#[path = "support/forks.rs"]
mod forks;
#[path = "support/machine.rs"]
mod machine;

use forks::{boxes, leave_running, machine};
use machine::within;
use std::time::{Duration, Instant};
use support::Fixture;

/// The most that a box's logs may hold on the host, both generations of both together.
const MOST_LOGGED: u64 = 64 << 20;

/// Waits until the box has stopped and gives the reason that `info` tells; the next start works.
fn end_of(f: &Fixture, name: &str) -> String {
    within(60, "it is stopped", || boxes(f) == [(name.to_owned(), "stopped".to_owned())]);
    let why = f.json(&["info", name])["last_end"].as_str().unwrap_or_default().to_owned();
    assert!(f.ok(&["info", name]).contains(&why));
    f.ok(&["start", name]);
    assert_eq!(f.sh(name, "echo back"), "back\n");
    why
}

#[test]
fn a_guest_that_ends_itself_is_stopped_with_a_reason_and_starts_again() {
    require!("btrfs");
    require!("vm");
    let f = forks::pool("2GiB");
    machine(&f, "m");
    f.sh("m", "echo kept >/kept; dd if=/kept of=/kept2 conv=fsync 2>/dev/null");
    for (key, reason) in [("b", "rebooted"), ("c", "panicked"), ("o", "powered itself off")] {
        let done =
            f.run(&["exec", "m", "--", "sh", "-c", &format!("echo {key} >/proc/sysrq-trigger; sleep 100")]);
        assert_eq!(done.code, 137, "what ran in it is dead: {done:?}");
        let why = end_of(&f, "m");
        assert!(why.contains(reason), "after sysrq {key}: {why:?}");
        assert_eq!(f.sh("m", "cat /kept2"), "kept\n");
    }
    assert!(f.ok(&["logs", "m", "--console"]).contains("sysrq"), "the console has the kernel's words");
    // the first process ends the machine in order when it is asked to, and cannot be killed
    f.sh("m", "kill -9 1; kill -STOP 1; sleep 0.2; echo alive");
    assert_eq!(f.sh("m", "echo alive"), "alive\n");
    let _ = f.run(&["exec", "m", "--", "sh", "-c", "kill -TERM 1; sleep 100"]);
    assert!(end_of(&f, "m").contains("powered itself off"));
    f.check();
}

#[test]
fn floods_and_garbage_do_not_reach_the_host() {
    require!("btrfs");
    require!("vm");
    let f = forks::pool("3GiB");
    machine(&f, "m");
    // the agent holds the port, and nobody else gets it
    let port = f.run(&[
        "exec",
        "m",
        "--",
        "sh",
        "-c",
        "for p in /dev/vport*; do head -c 100000 /dev/urandom >$p && echo open; done",
    ]);
    assert!(!port.out.contains("open"), "{port:?}");
    assert_eq!(f.sh("m", "echo alive"), "alive\n");
    leave_running(&f, "m", "exec cat /dev/urandom >/dev/console");
    leave_running(&f, "m", "while :; do head -c 100000 /dev/urandom >/dev/kmsg; done");
    leave_running(&f, "m", "while :; do echo flood flood flood flood flood flood flood; done");
    leave_running(&f, "m", "while :; do head -c 60000 /dev/urandom | tr -d '\\0'; done");
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(f.sh("m", "echo alive"), "alive\n");
        assert!(begun.elapsed() < Duration::from_secs(20), "answers within {:?}", begun.elapsed());
    }
    let logs = f.run(&["logs", "m"]);
    assert!(logs.code == 0 && logs.out.contains("flood"), "{}", logs.code);
    let folder = f.root_of("m").parent().unwrap().to_owned();
    let of_logs = |name: &String| name.starts_with("log") || name.starts_with("console");
    let held = |name: &String| std::fs::metadata(folder.join(name)).map_or(0, |m| m.len());
    let bytes: u64 = support::names(&folder).iter().filter(|n| of_logs(n)).map(held).sum();
    assert!((1..MOST_LOGGED).contains(&bytes), "{bytes} bytes of logs in {:?}", support::names(&folder));
    f.ok(&["stop", "m", "--grace", "1"]);
    f.ok(&["start", "m"]);
    assert_eq!(f.sh("m", "echo alive"), "alive\n");
    f.check();
}

#[test]
fn a_guest_that_wastes_its_own_machine_wastes_nothing_else() {
    require!("btrfs");
    require!("vm");
    let f = forks::pool("3GiB");
    f.ok(&["create", "m", "--vm", "--memory", "128MiB", "--disk", "256MiB", "--net", "none"]);
    let full = f.run(&["exec", "m", "--", "sh", "-c", "dd if=/dev/zero of=/fill bs=1M count=400; rm /fill"]);
    assert!(full.err.contains("No space left"), "{full:?}");
    f.sh("m", "mkdir -p '/a b/\"quoted\"' && mount -t tmpfs \"$(printf 'odd\\nname')\" '/a b/\"quoted\"'");
    f.sh("m", "mount -t tmpfs over /etc && mount -t tmpfs over /tmp && hostname intruder");
    assert_eq!(f.sh("m", "hostname"), "intruder\n");
    assert!(f.ok(&["list"]).contains("m ") && !f.ok(&["list"]).contains("intruder"));
    assert!(f.ok(&["ps", "m"]).contains("COMMAND"));
    f.ok(&["snapshot", "create", "m", "odd"]);
    // a bomb: the machine may be beyond help, and its host is not
    leave_running(&f, "m", "bomb() { bomb | bomb & }; bomb");
    std::thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    f.ok(&["info", "m"]);
    f.ok(&["list"]);
    f.ok(&["stop", "m", "--grace", "1"]);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    f.ok(&["start", "m"]);
    assert_eq!(f.sh("m", "hostname; [ -e /a\\ b ] && echo there"), "m\nthere\n");
    f.ok(&["snapshot", "restore", "m", "odd"]);
    assert_eq!(f.sh("m", "[ -e /fill ] || echo gone"), "gone\n");
    f.ok(&["delete", "m", "--yes"]);
    assert_eq!((f.staging(), machine::leftovers(&f)), Default::default());
}

#[test]
fn a_guest_that_never_answers_is_killed_by_stop_and_snapshotted_as_after_a_power_cut() {
    require!("btrfs");
    require!("vm");
    let f = forks::pool("2GiB");
    machine(&f, "m");
    f.sh("m", "dd if=/etc/motd of=/kept conv=fsync 2>/dev/null");
    // processors that nothing gets: the kernel stands still in a panic that never ends
    f.sh("m", "echo 0 >/proc/sys/kernel/panic");
    let done = Silenced::new(&f);
    let begun = Instant::now();
    let taken = f.run(&["snapshot", "create", "m", "cut"]);
    assert_eq!(taken.code, 0, "{taken:?}");
    assert!(taken.err.contains("as after a power cut"), "{taken:?}");
    f.fails(1, &["snapshot", "create", "m", "cut"]);
    let begun_stop = Instant::now();
    f.ok(&["stop", "m", "--grace", "1"]);
    assert!(begun_stop.elapsed() < Duration::from_secs(25), "{:?}", begun_stop.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60));
    drop(done);
    f.ok(&["start", "m"]);
    assert_eq!(f.sh("m", "cat /kept"), "welcome\n");
    f.ok(&["snapshot", "restore", "m", "cut"]);
    assert_eq!(f.sh("m", "cat /kept"), "welcome\n");
    f.check();
}

/// A guest whose kernel has stopped for good, and the client that asked for it.
struct Silenced {
    _client: machine::Going,
}

impl Silenced {
    fn new(f: &Fixture) -> Self {
        let client = machine::Going::start(
            f,
            &["exec", "m", "--", "sh", "-c", "echo c >/proc/sysrq-trigger; sleep 1000"],
        );
        within(30, "the kernel has panicked", || {
            f.ok(&["logs", "m", "--console"]).contains("end Kernel panic")
        });
        assert_eq!(boxes(f), [("m".to_owned(), "running".to_owned())]);
        Self { _client: client }
    }
}
