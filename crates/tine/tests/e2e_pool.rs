//! The pool: init, reboot, full, detach, doctor, df, gc, check.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::Command;
use support::Fixture;

#[test]
fn init_can_be_repeated_and_every_verb_says_when_it_is_missing() {
    require!("btrfs");
    let f = Fixture::unmade();
    for args in [&["list"][..], &["create", "x"], &["base", "list"], &["df"], &["check"], &["gc"]] {
        assert!(f.refuses("no_pool", args).contains("pool"));
    }
    assert!(f.fails(1, &["list"]).contains("hint: tine"));
    assert_eq!(f.json(&["init", "--size", "1GiB"])["created"], true);
    assert_eq!(f.json(&["init", "--size", "1GiB"])["created"], false);
    f.check();
    assert_eq!(f.ok(&["list"]), "NAME  KIND  STATUS  BASE  CREATED\n");
}

#[test]
fn init_in_place_uses_a_btrfs_that_is_there() {
    require!("btrfs");
    let outer = Fixture::sized("2GiB");
    let inner = outer.pool().join("shared/all/inner");
    let inner = inner.to_str().unwrap();
    let tine =
        |args: &[&str]| Command::new(support::TINE).args(["--root", inner]).args(args).output().unwrap();
    assert!(tine(&["init"]).status.success());
    assert!(!std::path::Path::new(&format!("{inner}.img")).exists(), "no loop file is needed");
    assert!(tine(&["check"]).status.success());
    assert!(tine(&["--yes", "detach"]).status.success());
    assert!(tine(&["list"]).status.success(), "it stays where it is");
}

#[test]
fn init_refuses_a_folder_with_other_things_in_it() {
    require!("btrfs");
    let f = Fixture::unmade();
    std::fs::create_dir_all(f.pool()).unwrap();
    std::fs::write(f.pool().join("thesis.tex"), "mine").unwrap();
    let done = f.run(&["init", "--size", "1GiB"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(f.pool().join("thesis.tex").exists());
}

#[test]
fn after_a_reboot_every_verb_works() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["create", "gone", "--rm", "--net", "none"]);
    f.sh("b", "echo kept > /kept");
    f.ok(&["snapshot", "create", "b", "s"]);
    f.sh("b", "echo more > /more");
    reboot(&f);
    assert!(f.ok(&["list"]).contains("b     container  stopped"), "{}", f.ok(&["list"]));
    assert_eq!(f.ok(&["diff", "status", "b"]), "+ /more\n");
    assert_eq!(f.sh("b", "cat /kept"), "kept\n");
    reboot(&f);
    f.ok(&["snapshot", "restore", "b", "s"]);
    reboot(&f);
    f.ok(&["snapshot", "undo", "b"]);
    reboot(&f);
    f.ok(&["base", "save", "saved", "b"]);
    reboot(&f);
    f.ok(&["create", "c", "--base", "saved", "--net", "none"]);
    assert_eq!(f.sh("c", "cat /more"), "more\n");
    reboot(&f);
    f.ok(&["rename", "c", "d"]);
    f.ok(&["delete", "d", "--yes"]);
    reboot(&f);
    f.ok(&["gc"]);
    f.check();
}

/// What a power cut leaves: no process, no mount, nothing of the host's runtime folder.
fn reboot(f: &Fixture) {
    let pool = f.pool();
    let monitors =
        Command::new("pgrep").args(["-f", &format!("__monitor.*{}", f.dir().display())]).output().unwrap();
    for pid in String::from_utf8_lossy(&monitors.stdout).split_whitespace() {
        let _ = Command::new("kill").args(["-9", pid]).output();
    }
    support::eventually("the pool can be unmounted", || {
        let _ = f.run(&["list"]);
        Command::new("umount").arg(&pool).output().unwrap().status.success()
    });
}

#[test]
fn detach_stops_boxes_and_unmounts() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["exec", "b", "--bg", "--", "sleep", "1000"]);
    f.refuses("confirmation_required", &["detach"]);
    f.ok(&["--yes", "detach"]);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(f.pool().to_str().unwrap()));
    // another's new mount namespace may have had the pool in it for a moment
    support::eventually("the loop device is gone", || {
        let loops = Command::new("losetup").arg("-a").output().unwrap().stdout;
        !String::from_utf8(loops).unwrap().contains(f.dir().to_str().unwrap())
    });
    assert!(f.ok(&["list"]).contains("stopped"), "any later command mounts it again");
}

#[test]
fn a_full_pool_says_so_and_can_be_emptied() {
    require!("container");
    let f = Fixture::sized("512MiB");
    f.import_tiny("box-base");
    f.ok(&["create", "b", "--net", "none"]);
    f.ok(&["snapshot", "create", "b", "s"]);
    let done = f.run(&["exec", "b", "--", "sh", "-c", "dd if=/dev/urandom of=/fill bs=1M count=2000"]);
    assert!(done.code != 0 && done.err.contains("No space left"), "{done:?}");
    let big = f.dir().join("big.tar");
    let make = "mkdir -p big && cd big && tar xf ../tiny.tar && head -c 300M /dev/urandom > fill && tar cf ../big.tar . && rm -r ../big";
    assert!(Command::new("sh").args(["-c", make]).current_dir(f.dir()).status().unwrap().success());
    let import = f.run(&["--json", "base", "import", "big", "--file", big.to_str().unwrap()]);
    assert!(
        import.code == 1 && (import.out.contains("pool_full") || import.out.contains("too_large")),
        "{import:?}"
    );
    assert_eq!(f.staging(), Vec::<String>::new());
    let _ = f.run(&["snapshot", "create", "b", "full"]);
    f.check();
    f.ok(&["snapshot", "delete", "b", "s", "--yes"]);
    f.ok(&["delete", "b", "--yes"]);
    support::eventually("space is free again", || {
        let df = f.json(&["df"]);
        df["free_bytes"].as_u64().unwrap() > 200 << 20
    });
    f.ok(&["create", "c", "--net", "none"]);
    assert_eq!(f.sh("c", "echo works"), "works\n");
    f.check();
}

#[test]
fn df_tells_what_a_box_alone_holds() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.sh("b", "head -c 8000000 /dev/urandom > /mine");
    f.ok(&["stop", "b"]);
    let df = f.json(&["df"]);
    let usage = &df["boxes"][0];
    let (logical, exclusive) =
        (usage["logical_bytes"].as_u64().unwrap(), usage["exclusive_bytes"].as_u64().unwrap());
    assert!((8_000_000..12_000_000).contains(&exclusive) && logical > exclusive, "{df}");
    assert!(f.ok(&["df"]).contains("GiB"));
}

#[test]
fn gc_removes_staging_and_says_what_it_would() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    let leftover = f.pool().join("tmp/0123");
    std::fs::create_dir_all(&leftover).unwrap();
    assert!(
        Command::new("btrfs")
            .args(["subvolume", "snapshot", "-r"])
            .arg(f.root_of("b"))
            .arg(leftover.join("root"))
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(f.ok(&["gc", "--dry-run"]).contains("0123"));
    assert!(leftover.exists());
    assert!(f.ok(&["gc"]).contains("0123"));
    assert_eq!(f.staging(), Vec::<String>::new());
    f.check();
}

#[test]
fn check_finds_what_is_broken() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["check", "--read-data"]);
    std::fs::write(f.pool().join("aliases/dangling"), "no-such-version\n").unwrap();
    std::fs::write(f.pool().join("boxes/default/b/meta.json"), "{").unwrap();
    let done = f.run(&["check"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("dangling") && done.out.contains('b'), "{done:?}");
    f.refuses("corrupt", &["info", "b"]);
    assert!(f.run(&["list"]).code <= 1, "a broken box does not break the others");
}

#[test]
fn doctor_knows_a_healthy_host() {
    require!("container");
    let f = Fixture::new();
    let report = f.json(&["doctor"]);
    assert_eq!(report["healthy"], true, "{report:#}");
    let unmade = Fixture::unmade();
    assert_eq!(unmade.run(&["doctor"]).code, 1, "without a pool something needed is missing");
}

#[test]
fn a_store_from_the_future_is_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let path = f.pool().join("store.json");
    let mut store: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    store["features"]["incompat"] = serde_json::json!(["holograms"]);
    store["incompat"] = serde_json::json!(["holograms"]);
    std::fs::write(&path, store.to_string()).unwrap();
    assert!(f.refuses("incompatible", &["list"]).contains("holograms"));
}
