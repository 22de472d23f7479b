//! Unpacking and pulling stopped at random moments, politely and not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/packs.rs"]
mod packs;
mod support;
#[expect(dead_code, reason = "its servers are as good as they can be")]
#[path = "support/web.rs"]
mod web;

use packs::make_chain;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};
use support::Fixture;
use tine_pack::Layout;
use web::Web;

const TAGS: [&str; 3] = ["root", "mid", "leaf"];

/// How often each way of stopping is tried on each command; `TINE_TEST_KILLS` says so, 5 when unset.
fn kills() -> usize {
    std::env::var("TINE_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(5)
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Runs the command again and again, stopped at a moment of its time; after each the pool is as if nothing had been, or all.
fn stop_at_random(f: &Fixture, words: &[&str], signal: Signal) {
    let mut random = support::nanos() as u64 | 1;
    eprintln!("seed {random}");
    let begun = Instant::now();
    f.ok(words);
    // What ends before it is stopped shortens the time in which it is stopped, what is stopped lengthens it: a busy host and what an
    // earlier pull has left make it another each time.
    let mut within = begun.elapsed();
    delete_all(f);
    let (mut stopped, mut tries) = (0, 0);
    while stopped < kills() {
        tries += 1;
        assert!(tries < 20 + kills() * 20, "it ends before it is stopped");
        let begun = Instant::now();
        let after = Duration::from_micros(next(&mut random) % (within.as_micros() as u64 + 1));
        if stop_once(f, words, signal, after) {
            stopped += 1;
            within += within / 16;
        } else {
            within = (within + begun.elapsed()) / 2;
        }
        f.check();
        assert_whole(f, words);
        delete_all(f);
    }
    eprintln!("stopped {stopped} of {tries} times: {words:?}, {signal:?}");
    assert_nothing_left(f, words);
}

/// True when the command was stopped, and did not end before. Asked politely, it cleans up.
fn stop_once(f: &Fixture, words: &[&str], signal: Signal, after: Duration) -> bool {
    let mut command = f.command(words);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(after);
    let _ = kill_process(Pid::from_child(&child), signal);
    let asked = Instant::now();
    let ended = child.wait_with_output().unwrap();
    if signal == Signal::INT && !ended.status.success() {
        // no code: it had not come so far as to hear of it
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let polite = ended.status.code() == Some(130) && said.contains("stopped as asked");
        assert!(polite || ended.status.code().is_none(), "{ended:?}");
        assert!(asked.elapsed() < Duration::from_secs(20), "it stops soon: {:?}", asked.elapsed());
        assert_eq!(f.staging(), Vec::<String>::new(), "{ended:?}");
    }
    !ended.status.success()
}

/// What is there is whole: of several images those that the others are made of come first.
fn assert_whole(f: &Fixture, words: &[&str]) {
    let tags = f.tags();
    let mut expected: Vec<String> = TAGS[..tags.len()].iter().map(|tag| (*tag).to_owned()).collect();
    expected.sort();
    assert_eq!(tags, expected, "after {words:?}");
}

/// After all that the command works, and `gc` leaves nothing of what was stopped.
fn assert_nothing_left(f: &Fixture, words: &[&str]) {
    f.ok(&["gc"]);
    assert_eq!(f.staging(), Vec::<String>::new(), "gc empties tmp/");
    f.ok(words);
    assert_eq!(f.tags().len(), TAGS.len());
    f.ok(&["check", "--read-data"]);
    f.ok(&["gc"]);
    assert_eq!(f.downloads(), Vec::<String>::new());
}

fn delete_all(f: &Fixture) {
    for tag in TAGS.iter().rev() {
        if f.tags().iter().any(|there| there == tag) {
            f.ok(&["image", "delete", tag, "--yes"]);
        }
    }
}

fn unpacking(signal: Signal) {
    let f = Fixture::empty();
    let pack = make_chain(&f.dir().join("chain.tine.tar.zst"), Layout::V3, &TAGS, 24, 1);
    stop_at_random(&f, &["unpack", &pack], signal);
}

fn pulling(signal: Signal) {
    let f = Fixture::empty();
    let folder = f.dir().join("www");
    fs::create_dir(&folder).unwrap();
    make_chain(&folder.join("chain.tine.tar.zst"), Layout::V3, &TAGS, 24, 1);
    let web = Web::of(&folder);
    web.slow_down(1);
    stop_at_random(&f, &["pull", &web.url("chain.tine.tar.zst")], signal);
}

#[test]
fn unpack_is_killed() {
    require!("btrfs");
    unpacking(Signal::KILL);
}

#[test]
fn unpack_is_interrupted() {
    require!("btrfs");
    unpacking(Signal::INT);
}

#[test]
fn pull_is_killed() {
    require!("btrfs");
    pulling(Signal::KILL);
}

#[test]
fn pull_is_interrupted() {
    require!("btrfs");
    pulling(Signal::INT);
}
