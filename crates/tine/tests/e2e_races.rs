//! Two terminals at once, and processes killed at random moments.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{process::Stdio, time::Duration};
use support::{Fixture, eventually};

#[test]
fn one_of_two_creators_wins() {
    require!("btrfs");
    let f = Fixture::new();
    for round in 0..5 {
        let name = format!("b{round}");
        let mut children: Vec<_> = (0..4)
            .map(|_| {
                f.command(&["create", &name, "--no-start"])
                    .stderr(Stdio::null())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let won = children.iter_mut().filter_map(|c| c.wait().ok()).filter(|s| s.success()).count();
        assert_eq!(won, 1);
    }
    assert_eq!((f.ok(&["-q", "list"]).lines().count(), f.staging()), (5, vec![]));
    f.check();
}

#[test]
fn snapshots_at_once_get_different_numbers() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    let children: Vec<_> = (0..6)
        .map(|_| f.command(&["snapshot", "create", "b"]).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(f.ok(&["-q", "snapshot", "list", "b"]), "v0\nv1\nv2\nv3\nv4\nv5\n");
    f.check();
}

#[test]
fn a_held_box_is_busy_and_others_are_not() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["a", "b"]);
    let lock = std::fs::File::open(f.pool().join("boxes/default/a/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let began = std::time::Instant::now();
    assert!(f.refuses("busy", &["--wait", "1", "snapshot", "create", "a"]).contains('a'));
    assert!(began.elapsed() >= Duration::from_secs(1));
    f.ok(&["--wait", "1", "snapshot", "create", "b"]);
    drop(lock);
    f.ok(&["snapshot", "create", "a"]);
}

#[test]
fn execs_at_once_all_answer() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let children: Vec<_> = (0..12)
        .map(|n| {
            let script = format!("sleep 0.1; echo {n}; exit {n}");
            f.command(&["exec", "b", "--", "sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        let done = child.wait_with_output().unwrap();
        assert_eq!(
            (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned()),
            (Some(n as i32), format!("{n}\n"))
        );
    }
}

#[test]
fn a_killed_client_takes_its_program_with_it() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["start", "b"]);
    let mut client = f.command(&["exec", "b", "--", "sleep", "4321"]).spawn().unwrap();
    eventually("the program runs", || f.ok(&["ps", "b"]).contains("sleep 4321"));
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the program is gone", || !f.ok(&["ps", "b"]).contains("sleep 4321"));
    assert!(f.ok(&["list"]).contains("running"));
}

#[test]
fn a_killed_monitor_takes_its_box_with_it() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["exec", "b", "--bg", "--", "sleep", "9876"]);
    kill_monitors(&f);
    eventually("the box is stopped", || f.ok(&["list"]).contains("stopped"));
    eventually("its programs are gone", || !running("sleep 9876"));
    assert_eq!(f.sh("b", "echo back"), "back\n");
    f.ok(&["stop", "b"]);
    f.ok(&["gc"]);
    f.check();
}

fn running(command: &str) -> bool {
    std::process::Command::new("pgrep").args(["-fx", command]).output().unwrap().status.success()
}

fn kill_monitors(f: &Fixture) {
    let pattern = format!("__monitor.*{}", f.dir().display());
    let found = std::process::Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
    for pid in String::from_utf8_lossy(&found.stdout).split_whitespace() {
        let _ = std::process::Command::new("kill").args(["-9", pid]).output();
    }
}

/// Verbs in an order in which each has something to do; every one may be cut short.
fn verbs(tar: &str) -> Vec<Vec<String>> {
    let lines = [
        "create k --net none",
        "exec k -- sh -c date>/x",
        "snapshot create k",
        "snapshot create k one",
        "exec k -- rm -rf /etc/motd",
        "diff status k",
        "snapshot restore k one",
        "snapshot undo k",
        "snapshot rename k one two",
        "pause k",
        "resume k",
        "update k --memory 256MiB -t a=b",
        "stop k",
        "rename k l",
        "start l",
        "create m --fork l --net none",
        "base save saved l",
        "volume create v",
        "create n -d v=/v --net nat",
        "cp TAR n:/tmp/in.tar",
        "delete n --yes",
        "volume delete v --yes",
        "snapshot prune l --keep-last 1 --yes",
        "base import imported --file TAR",
        "base delete --alias imported --yes",
        "delete l --yes",
        "delete m --yes",
        "delete k --yes",
        "gc",
    ];
    let word = |w: &str| if w == "TAR" { tar.to_owned() } else { w.to_owned() };
    lines.iter().map(|line| line.split(' ').map(word).collect()).collect()
}

/// Kills the command or the monitor at random moments. `TINE_TEST_KILLS` says how many times, 20 when unset.
#[test]
fn alone_kills_at_random_moments_leave_a_clean_store() {
    require!("container");
    let kills: usize = std::env::var("TINE_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let f = Fixture::new();
    let tar = f.dir().join("tiny.tar");
    let verbs = verbs(tar.to_str().unwrap());
    let mut random = support::nanos() as u64 | 1;
    eprintln!("seed {random}");
    let (mut killed, mut step) = (0, 0usize);
    while killed < kills {
        let words: Vec<&str> = verbs[step % verbs.len()].iter().map(String::as_str).collect();
        step += 1;
        let mut child = f.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let micros = next(&mut random) % if words[0] == "base" { 120_000 } else { 45_000 };
        std::thread::sleep(Duration::from_micros(micros));
        if next(&mut random).is_multiple_of(4) {
            kill_monitors(&f);
        }
        if child.try_wait().unwrap().is_none() {
            let _ = child.kill();
            killed += 1;
        }
        let _ = child.wait();
        after_a_kill(&f, &words);
    }
    f.ok(&["gc"]);
    assert_eq!(f.staging(), Vec::<String>::new(), "gc empties tmp/");
    f.import_tiny("last");
    f.ok(&["create", "last", "--base", "last", "--net", "none"]);
    assert_eq!(f.sh("last", "echo works"), "works\n");
    f.check();
}

/// The next command works, and nothing half-made is visible.
fn after_a_kill(f: &Fixture, words: &[&str]) {
    let list = f.run(&["list"]);
    assert_eq!(list.code, 0, "after {words:?}: {list:?}");
    let check = f.run(&["check"]);
    assert_eq!(check.code, 0, "after {words:?}: {check:?}");
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
