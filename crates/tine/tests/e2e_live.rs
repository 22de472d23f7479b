//! Live snapshots: memory, devices and disk of one instant of a machine that never stops.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "support/forks.rs"]
mod forks;
#[path = "support/machine.rs"]
mod machine;

use forks::{bake, boxes, count, counted, machine};
use machine::{Going, within};
use std::{
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};
use support::Fixture;

const MIB: u64 = 1 << 20;

/// Where the files of a live snapshot lie.
fn state(f: &Fixture, name: &str, snapshot: &str) -> PathBuf {
    f.pool().join("boxes/default").join(name).join("snapshots").join(snapshot).join("state")
}

/// What has been seen to disagree, and how many times agreement was looked at.
fn verdict(f: &Fixture, name: &str) -> (String, u64) {
    let mismatches = f.sh(name, "cat /run/mismatch 2>/dev/null || true");
    let rounds = f.sh(name, "cat /run/agreed 2>/dev/null || echo 0");
    (mismatches, rounds.trim().parse().unwrap())
}

#[test]
fn a_live_snapshot_of_a_guest_that_writes_all_the_time_is_of_one_instant() {
    require!("btrfs");
    require!("vm");
    let rounds = std::env::var("TINE_TEST_LIVE_ROUNDS").map_or(8, |n| n.parse().unwrap());
    let f = forks::pool("6GiB");
    machine(&f, "busy");
    forks::leave_running(&f, "busy", "exec /srv/ledger");
    forks::leave_running(&f, "busy", "while :; do dd if=/dev/urandom of=/dev/shm/noise bs=1M count=8; done");
    forks::leave_running(&f, "busy", "while :; do dd if=/dev/zero of=/noise bs=1M count=16; done");
    within(60, "the ledger is kept", || verdict(&f, "busy").1 > 3);
    for round in 0..rounds {
        let name = format!("r{round}");
        let taken = f.json(&["snapshot", "create", "busy", &name, "--live"]);
        let pause = taken["pause_us"].as_u64().unwrap_or_else(|| panic!("no pause: {taken}"));
        assert!((1..5_000_000).contains(&pause), "{taken}");
        let restored = f.json(&["snapshot", "restore", "busy", &name]);
        assert_eq!(restored["resumed"], true, "{restored}");
        let (_, before) = verdict(&f, "busy");
        within(60, "agreement is looked at after the restore", || verdict(&f, "busy").1 > before + 3);
        assert_eq!(verdict(&f, "busy").0, "", "round {round}");
        f.ok(&["snapshot", "delete", "busy", &name, "--yes"]);
    }
    // the ledger itself can tell: one whose disk is of another instant is found out
    f.sh("busy", "echo false >/run/tamper");
    within(60, "the disagreement is seen", || verdict(&f, "busy").0.contains("disk"));
    f.ok(&["delete", "busy", "--yes"]);
    f.check();
}

#[test]
fn a_restored_machine_goes_on_with_its_programs_and_their_counters() {
    require!("btrfs");
    require!("vm");
    let f = forks::pool("3GiB");
    machine(&f, "m");
    count(&f, "m");
    // somebody is in the middle of a conversation when the state is taken
    let talk =
        Going::start(&f, &["exec", "m", "--", "sh", "-c", "while :; do echo talking; sleep 0.02; done"]);
    let taken = f.json(&["snapshot", "create", "m", "warm", "--live"]);
    assert!(taken["pause_us"].as_u64().unwrap() > 0, "{taken}");
    let at = counted(&f, "m");
    within(20, "it goes on", || counted(&f, "m").0 > at.0 + 20);
    f.sh("m", "echo later >/later; echo later >/dev/shm/later");
    let later = counted(&f, "m");
    for _ in 0..2 {
        f.ok(&["snapshot", "restore", "m", "warm"]);
        let now = counted(&f, "m");
        assert!(now.2 == at.2 && now.0 < later.0, "{now:?} is not of that instant: {at:?} {later:?}");
        within(20, "it goes on from there", || counted(&f, "m").0 > now.0);
        assert_eq!(f.run(&["exec", "m", "--", "cat", "/later", "/dev/shm/later"]).code, 1);
        // whole answers, and nothing of the old conversation in them
        assert_eq!(f.sh("m", "seq 3000"), (1..=3000).map(|n| format!("{n}\n")).collect::<String>());
        assert_eq!(f.feed(&["exec", "m", "-i", "--", "cat"], b"fed").out, "fed");
        assert!(f.ok(&["ps", "m"]).contains("counter"));
    }
    let talked = talk.end();
    assert!(talked.code != 0 && talked.out.lines().all(|line| line == "talking"), "{talked:?}");
    // the machine is stopped, and its instant is still there
    f.ok(&["stop", "m", "--grace", "1"]);
    f.ok(&["snapshot", "restore", "m", "warm"]);
    assert_eq!(counted(&f, "m").2, at.2);
    f.check();
}

#[test]
fn live_snapshots_of_forks_of_live_snapshots_stay_flat_and_small() {
    require!("btrfs");
    require!("vm");
    let f = forks::pool("4GiB");
    bake(&f, "first", &["echo first >/generation"]);
    let mut image = "first".to_owned();
    for generation in 1..=3_u64 {
        let name = format!("g{generation}");
        f.ok(&["create", &name, "--image", &image, "--net", "none"]);
        assert_eq!(
            f.sh(&name, "cat /dev/shm/generation 2>/dev/null || echo 0"),
            format!("{}\n", generation - 1)
        );
        f.sh(&name, &format!("echo {generation} >/dev/shm/generation"));
        // a known number of pages that no ancestor has
        f.sh(&name, "dd if=/dev/urandom of=/dev/shm/known bs=1M count=12 2>/dev/null");
        f.ok(&["snapshot", "create", &name, "live", "--live"]);
        let folder = state(&f, &name, "live");
        let private = forks::own_bytes(&f, &name);
        let held = forks::exclusive_bytes(&folder.join("memory.bin"));
        assert!(private >= 12 * MIB, "{private}");
        let excess = held.abs_diff(private);
        assert!(excess <= private / 10, "{name}: {held} bytes on disk for {private} written");
        f.ok(&["stop", &name, "--grace", "1"]);
        f.ok(&["snapshot", "restore", &name, "live"]);
        assert_eq!(f.sh(&name, "cat /dev/shm/generation"), format!("{generation}\n"));
        image = format!("image-{generation}");
        f.ok(&["image", "bake", &image, "--box", &name]);
    }
    f.ok(&["check", "--read-data"]);
}

#[test]
fn a_damaged_live_state_is_refused_before_the_machine_is_stopped() {
    require!("btrfs");
    require!("vm");
    let f = forks::pool("3GiB");
    machine(&f, "m");
    count(&f, "m");
    f.ok(&["snapshot", "create", "m", "good", "--live"]);
    f.ok(&["snapshot", "create", "m", "bad-memory", "--live"]);
    f.ok(&["snapshot", "create", "m", "bad-devices", "--live"]);
    let before = counted(&f, "m");
    for (snapshot, file) in [("bad-memory", "memory.bin"), ("bad-devices", "vmstate")] {
        damage(&state(&f, "m", snapshot).join(file));
        f.refuses("corrupt", &["snapshot", "restore", "m", snapshot]);
        let after = counted(&f, "m");
        assert!(after.2 == before.2 && after.0 >= before.0, "the box has been stopped");
    }
    assert!(!f.json(&["info", "m"])["can_undo"].as_bool().unwrap());
    assert_eq!(f.run(&["check", "--read-data"]).code, 1);
    f.ok(&["snapshot", "restore", "m", "good"]);
    f.ok(&["snapshot", "delete", "m", "bad-memory", "bad-devices", "--yes"]);
    f.ok(&["check", "--read-data"]);
    assert_eq!(boxes(&f), [("m".to_owned(), "running".to_owned())]);
}

/// Changes bytes in the middle of a file, sealed or not.
fn damage(path: &Path) {
    let folder = path.parent().unwrap();
    let _ = std::process::Command::new("btrfs")
        .args(["property", "set", "-ts"])
        .arg(folder)
        .args(["ro", "false"])
        .output();
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    file.write_all_at(b"not what was saved", middle).unwrap();
}
