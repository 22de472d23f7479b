//! Images: baking them, what is left of a bake that does not end well, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/machine.rs"]
mod machine;
mod support;

use machine::{Going, MEMORY, baking, cgroups, making, pool, processes, staged_ids, status, within};
use rustix::process::{Pid, Signal, kill_process};
use std::{path::Path, process::Command, time::Duration};
use support::Fixture;

/// Rows of `image list`, without the age.
fn images(f: &Fixture) -> Vec<Vec<String>> {
    let list = f.ok(&["image", "list"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    list.lines().map(words).collect()
}

fn tags(f: &Fixture) -> String {
    f.ok(&["-q", "images"])
}

/// Neither an image nor anything else of a bake is there; boxes that run may be.
fn assert_nothing_left(f: &Fixture, ids: &[String]) {
    assert_eq!((tags(f), f.staging()), (String::new(), vec![]));
    within(10, "no cgroup is left", || ids.iter().all(|id| cgroups(id).is_empty()));
    within(10, "no process is left", || processes(f).is_empty());
    f.check();
}

#[test]
fn an_image_is_baked_of_a_base_shown_renamed_used_and_deleted() {
    require!("vm");
    let f = pool();
    let warm = "echo warming; echo memory > /run/warm; echo disk > /srv/warm; while sleep 0.1; do date +%s > /run/tick; done &";
    let ready = "test -e /run/tick";
    let words = baking(
        "first",
        &["--run", warm, "--run", "echo $STEP", "-e", "STEP=two", "--ready", ready, "-m", "one line"],
    );
    let done = f.run(&words);
    assert_eq!((done.code, done.out.as_str()), (0, "first\n"), "{done:?}");
    assert!(done.err.contains("\nwarming\n") && done.err.contains("\ntwo\n"), "steps are shown: {done:?}");
    let rows = images(&f);
    assert_eq!(rows[0], ["TAG", "SIZE", "MEMORY", "CREATED", "ROOTFS"]);
    assert_eq!(
        (rows[1][0].as_str(), &rows[1][3..5], rows[1].last().unwrap().as_str()),
        ("first", &["96.0".to_owned(), "MiB".to_owned()][..], "yes")
    );
    assert_eq!(f.ok(&["images"]), f.ok(&["image", "list"]));
    let shown = f.ok(&["image", "show", "first"]);
    for line in [
        "tag: first",
        "description: one line",
        "rootfs: yes",
        "source: base box-base",
        "base: box-base",
        "parent: -",
        "cpus: 1",
        "memory: 96.0 MiB",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line}: {shown}");
    }
    assert!(f.refuses("already_exists", &baking("first", &[])).contains("first"));
    let before = f.json(&["image", "show", "first"]);
    f.ok(&["image", "rename", "first", "second"]);
    assert_eq!(f.json(&["image", "show", "second"])["id"], before["id"]);
    f.refuses("not_found", &["image", "show", "first"]);
    f.ok(&["create", "a", "--image", "second", "--net", "none"]);
    assert_eq!(f.sh("a", "cat /run/warm /srv/warm; hostname"), "memory\ndisk\na\n");
    let tick = || f.sh("a", "cat /run/tick").trim().parse::<f64>().unwrap_or(0.0);
    let now = machine::wall_clock();
    within(10, "what ran in the image goes on, in the present", || tick() >= now.floor());
    assert!(tick() <= machine::wall_clock() + 1.0);
    assert_eq!(f.json(&["info", "a"])["status"], "running");
    // its disk, booted
    f.ok(&["create", "cold", "--image", "second", "--cold", "--net", "none", "--memory", "128MiB"]);
    assert_eq!(f.sh("cold", "test -e /run/warm || cat /srv/warm"), "disk\n");
    f.ok(&["create", "later", "--image", "second", "--no-start", "--net", "none", "--memory", MEMORY]);
    assert_eq!(status(&f, "later"), "stopped");
    for (option, value, reason) in
        [("--memory", "128MiB", "128.0 MiB of memory"), ("--cpus", "2", "2 processors")]
    {
        let said = f.run(&["create", "x", "--image", "second", option, value]);
        assert!(said.code == 1 && said.err.contains(reason) && said.err.contains("--cold"), "{said:?}");
    }
    assert_eq!(f.ok(&["-q", "list"]), "a\ncold\nlater\n");
    let asked = f.run(&["image", "delete", "second"]);
    assert!(asked.code != 0 && asked.err.contains("--yes"), "{asked:?}");
    assert_eq!(f.run(&["image", "delete", "second", "--dry-run"]).code, 0);
    assert_eq!(tags(&f), "second\n");
    f.ok(&["image", "delete", "second", "--yes"]);
    assert_eq!(tags(&f), "");
    assert_eq!(f.sh("a", "cat /run/warm"), "memory\n", "boxes made of it go on");
    f.ok(&["stop", "a"]);
    assert_eq!(f.sh("a", "cat /srv/warm"), "disk\n");
    f.check();
}

#[test]
fn an_image_is_baked_of_a_box_that_runs_or_does_not() {
    require!("vm");
    let f = pool();
    f.ok(&making("b", &[]));
    f.sh("b", "echo disk > /srv/mark; echo memory > /run/mark");
    f.ok(&["exec", "b", "--bg", "--", "sh", "-c", "while sleep 0.1; do echo x >> /run/ticks; done"]);
    let boot = f.sh("b", "cat /proc/sys/kernel/random/boot_id");
    let refused = f.run(&["image", "bake", "as-is", "--box", "b", "--memory", "128MiB"]);
    assert!(refused.code == 2 && refused.err.contains("tine stop b"), "{refused:?}");
    let done = f.run(&["image", "bake", "as-is", "--box", "b"]);
    assert!(done.code == 0 && done.err.contains("stood still for"), "{done:?}");
    f.ok(&[
        "image",
        "bake",
        "further",
        "--box",
        "b",
        "--net",
        "none",
        "--run",
        "cat /run/mark > /srv/further",
        "--ready",
        "test -s /srv/further",
    ]);
    assert_eq!(f.sh("b", "cat /run/mark; ls /srv"), "memory\nmark\n", "warmed further in a clone, not here");
    assert_eq!(f.sh("b", "cat /proc/sys/kernel/random/boot_id"), boot, "and it went on");
    f.ok(&["pause", "b"]);
    let paused = f.run(&["image", "bake", "no", "--box", "b"]);
    assert!(paused.code == 1 && paused.err.contains("tine resume b"), "{paused:?}");
    f.ok(&["stop", "b"]);
    f.ok(&[
        "image",
        "bake",
        "boxed",
        "--box",
        "b",
        "--memory",
        MEMORY,
        "--net",
        "none",
        "--run",
        "echo two > /run/mark",
    ]);
    assert_eq!(status(&f, "b"), "stopped");
    assert_eq!(tags(&f), "as-is\nboxed\nfurther\n");
    for (tag, said) in
        [("as-is", "memory\nmark\n"), ("further", "memory\nfurther\nmark\n"), ("boxed", "two\nmark\n")]
    {
        f.ok(&["create", "x", "--image", tag, "--net", "none"]);
        assert_eq!(f.sh("x", "cat /run/mark; ls /srv"), said, "{tag}");
        f.ok(&["delete", "x", "--yes"]);
    }
    f.ok(&["check", "--read-data"]);
    assert_eq!(f.staging(), Vec::<String>::new());
}

#[test]
fn a_bake_that_fails_leaves_nothing() {
    require!("vm");
    let f = pool();
    let failed = |args: &[&str], reason: &str| {
        let done = f.run(&baking("t", args));
        assert!(done.code == 1 && done.err.contains(reason), "{done:?}");
        assert_nothing_left(&f, &[]);
    };
    failed(&["--run", "true", "--run", "echo trouble >&2; exit 3"], "exit code 3");
    failed(&["--ready", "false", "--timeout", "2"], "false did not succeed within 2 s");
    failed(&["--run", "sleep 1000", "--timeout", "1"], "not done within 1 s");
    failed(&["--run", "echo o > /proc/sysrq-trigger; sleep 100"], "error: ");
    let unknown = f.run(&["image", "bake", "t", "--base", "none-such"]);
    assert!(unknown.code == 1 && unknown.err.contains("none-such"), "{unknown:?}");
    f.ok(&["gc"]);
    assert_nothing_left(&f, &[]);
}

/// Waits until a bake has come so far that `said` has been reached in the guest, or that a machine is being made.
fn machine_of(f: &Fixture) -> Vec<String> {
    within(60, "a machine is being made", || !staged_ids(f).is_empty());
    staged_ids(f)
}

#[test]
fn a_bake_that_is_interrupted_leaves_nothing() {
    require!("vm");
    let f = pool();
    // while it boots, while it runs a command, and while it waits for the end of one that ignores signals
    for (run, delay) in
        [("true", 300), ("touch /run/x; sleep 1000", 8000), ("trap '' TERM; while :; do sleep 1; done", 8000)]
    {
        let bake = Going::start(&f, &baking("t", &["--run", run]));
        let ids = machine_of(&f);
        std::thread::sleep(Duration::from_millis(delay));
        bake.signal(Signal::INT);
        let begun = std::time::Instant::now();
        let done = bake.end();
        assert!(begun.elapsed() < Duration::from_secs(60), "{run}: {:?}", begun.elapsed());
        assert!(done.code == 130 && done.err.contains("error: stopped as asked"), "{run}: {done:?}");
        assert_nothing_left(&f, &ids);
    }
}

#[test]
fn a_bake_that_is_killed_leaves_nothing_that_gc_does_not_remove() {
    require!("vm");
    let f = pool();
    let run = "echo warm > /run/warm; head -c 20000000 /dev/urandom > /run/much";
    for delay in [0, 20, 100, 400, 1500, 4000, 5000, 6000, 7000] {
        let bake = Going::start(&f, &baking("t", &["--run", run]));
        std::thread::sleep(Duration::from_millis(delay));
        let ids = staged_ids(&f);
        bake.signal(Signal::KILL);
        let done = bake.end();
        // the machine ends with its maker
        within(20, "its processes end", || processes(&f).is_empty());
        assert_eq!(f.ok(&["-q", "list"]), "", "after {delay} ms");
        f.ok(&["gc"]);
        assert_eq!(f.staging(), Vec::<String>::new(), "after {delay} ms");
        within(10, "no cgroup is left", || ids.iter().all(|id| cgroups(id).is_empty()));
        // an image is there whole or not at all
        match done.code {
            0 => assert_eq!(tags(&f), "t\n"),
            _ if tags(&f).is_empty() => {}
            _ => _ = f.ok(&["check", "--read-data"]),
        }
        f.run(&["image", "delete", "t", "--yes"]);
    }
    f.ok(&baking("t", &["--run", run]));
    f.ok(&["create", "b", "--image", "t", "--net", "none"]);
    assert_eq!(f.sh("b", "cat /run/warm; wc -c < /run/much"), "warm\n20000000\n");
    f.ok(&["check", "--read-data"]);
}

#[test]
fn a_bake_whose_machine_is_killed_says_so_and_leaves_nothing() {
    require!("vm");
    let f = pool();
    // QEMU; the monitor; and everything at once
    for wanted in [" qemu ", " tine __monitor ", ""] {
        let bake = Going::start(&f, &baking("t", &["--run", "echo up; sleep 1000"]));
        let ids = machine_of(&f);
        let victims = || -> Vec<i32> {
            let all = processes(&f);
            let pid = |line: &String| line.contains(wanted).then(|| line.split(' ').next()?.parse().ok())?;
            all.iter().filter_map(pid).collect()
        };
        within(60, "its machine runs", || !victims().is_empty() && !machine::engines(&f).is_empty());
        std::thread::sleep(Duration::from_secs(5));
        for pid in victims() {
            // one may have ended with the other
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        let done = bake.end();
        let told = done.code == 1 && done.err.contains("error: ");
        assert!(told || (wanted.is_empty() && done.code == 137), "{wanted}: {done:?}");
        // what is still dying holds what it used
        within(10, "all of it can be removed", || {
            f.ok(&["gc"]);
            f.staging().is_empty()
        });
        assert_nothing_left(&f, &ids);
    }
}

/// Changes the document of an image.
fn edit(f: &Fixture, tag: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let path = f.pool().join("images").join(tag).join("meta.json");
    let mut meta: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut meta["saved"]["contract"]);
    std::fs::write(&path, serde_json::to_vec(&meta).unwrap()).unwrap();
}

#[test]
fn an_image_that_cannot_go_on_here_is_refused_and_its_disk_boots() {
    require!("vm");
    let f = pool();
    f.ok(&baking("t", &["--run", "echo disk > /srv/mark"]));
    let meta = f.pool().join("images/t/meta.json");
    let own = std::fs::read(&meta).unwrap();
    let changes: [(&str, serde_json::Value, &str); 6] = [
        ("machine", "pc-q35-99.0".into(), "machine type pc-q35-99.0"),
        ("cpu_model", "EPYC-Rome".into(), "cpu model EPYC-Rome"),
        ("engine_version", "99.1.0".into(), "qemu 99.1.0 or later"),
        ("engine", "other".into(), "engine other"),
        ("cpu_features", serde_json::json!(["avx-none-such"]), "avx-none-such"),
        ("devices", serde_json::json!(["floppy"]), "devices"),
    ];
    for (field, value, reason) in changes {
        edit(&f, "t", |contract| contract[field] = value);
        let said = f.run(&["create", "x", "--image", "t", "--net", "none"]);
        assert!(
            said.code == 1 && said.err.contains("cannot go on here") && said.err.contains(reason),
            "{said:?}"
        );
        assert!(said.err.contains("hint: tine create x --image t --cold"), "{said:?}");
        assert!(f.refuses("incompatible", &["fork", "t", "-n", "2", "--net", "none"]).contains(reason));
        assert!((f.ok(&["-q", "list"]), f.staging()) == (String::new(), vec![]) && processes(&f).is_empty());
        std::fs::write(&meta, &own).unwrap();
    }
    edit(&f, "t", |contract| contract["machine"] = "pc-q35-99.0".into());
    f.ok(&["create", "x", "--image", "t", "--cold", "--net", "none", "--memory", MEMORY]);
    assert_eq!(f.sh("x", "cat /srv/mark"), "disk\n");
    std::fs::write(&meta, &own).unwrap();
    f.ok(&["create", "y", "--image", "t", "--net", "none"]);
    assert_eq!(f.sh("y", "cat /srv/mark"), "disk\n");
}

/// Changes one byte of a file of a read-only subvolume.
fn damage(subvolume: &Path, file: &str, at: u64) {
    use std::os::unix::fs::FileExt as _;
    let set = |value: &str| {
        let done =
            Command::new("btrfs").args(["property", "set", "-f"]).arg(subvolume).args(["ro", value]).status();
        assert!(done.unwrap().success());
    };
    set("false");
    let open = std::fs::File::options().read(true).write(true).open(subvolume.join(file)).unwrap();
    let mut byte = [0];
    open.read_exact_at(&mut byte, at).unwrap();
    open.write_all_at(&[byte[0] ^ 1], at).unwrap();
    open.sync_all().unwrap();
    set("true");
}

#[test]
fn a_damaged_image_is_refused_before_anything_runs() {
    require!("vm");
    let f = pool();
    f.ok(&baking("t", &[]));
    f.ok(&["create", "source", "--image", "t", "--net", "none"]);
    for (part, file, at) in
        [("state", "memory.bin", 40 << 20), ("state", "vmstate", 5000), ("root", "disk.img", 1024)]
    {
        let tag = format!("of-{part}-{at}");
        f.ok(&["image", "bake", &tag, "--box", "source"]);
        f.ok(&["create", "fine", "--image", &tag, "--net", "none"]);
        f.ok(&["delete", "fine", "--yes"]);
        damage(&f.pool().join("images").join(&tag).join(part), file, at);
        let before = processes(&f);
        for args in [
            &["create", "x", "--image", &tag, "--net", "none"][..],
            &["fork", &tag, "-n", "2", "--net", "none"],
        ] {
            let said = f.refuses("corrupt", args);
            assert!(said.contains(file) && said.contains(&tag), "{said}");
        }
        assert_eq!((f.ok(&["-q", "list"]), f.staging(), processes(&f)), ("source\n".into(), vec![], before));
        let check = f.run(&["check", "--read-data"]);
        assert!(check.code == 1 && format!("{check:?}").contains(&tag), "{check:?}");
        f.ok(&["image", "delete", &tag, "--yes"]);
    }
    f.ok(&["check", "--read-data"]);
}

/// Bytes of a file that no other file has.
fn own_bytes(path: &Path) -> u64 {
    let out = Command::new("btrfs").args(["filesystem", "du", "--raw"]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn images_of_images_stay_flat() {
    require!("vm");
    let f = pool();
    f.ok(&baking("g0", &["--run", "echo 0 > /run/generation"]));
    let size = |tag: &str| f.json(&["image", "show", tag])["size_bytes"].as_u64().unwrap();
    for n in 1..=10 {
        let (from, tag, name) = (format!("g{}", n - 1), format!("g{n}"), format!("b{n}"));
        f.ok(&["create", &name, "--image", &from, "--net", "none"]);
        assert_eq!(
            f.sh(&name, &format!("cat /run/generation; echo {n} > /run/generation")),
            format!("{}\n", n - 1)
        );
        f.sh(&name, &format!("head -c 1048576 /dev/urandom > /run/data-{n}"));
        f.ok(&["image", "bake", &tag, "--box", &name]);
        assert_eq!(f.json(&["image", "show", &tag])["parent"], from);
        f.ok(&["delete", &name, "--yes"]);
    }
    // each holds what the one before held, and what was written: not a copy, and not a chain
    let own: Vec<u64> =
        (1..=9).map(|n| own_bytes(&f.pool().join(format!("images/g{n}/state/memory.bin")))).collect();
    assert!(own.iter().all(|bytes| *bytes < 24 << 20), "{own:?}");
    assert!(size("g3") < size("g1") + (24 << 20), "{} and {}", size("g3"), size("g1"));
    // none of its ancestors is needed
    for n in 0..10 {
        f.ok(&["image", "delete", &format!("g{n}"), "--yes"]);
    }
    f.ok(&["gc"]);
    f.ok(&["create", "last", "--image", "g10", "--net", "none"]);
    let sizes =
        f.sh("last", "cat /run/generation; for n in $(seq 10); do wc -c < /run/data-$n; done | sort -u");
    assert_eq!(sizes, "10\n1048576\n");
    f.ok(&["check", "--read-data"]);
}
