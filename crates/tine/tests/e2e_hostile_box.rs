//! A box that fights back, a store that was tampered with, and a host that stays in charge of both.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs::File,
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use support::{Done, Fixture};

/// The words of a command that is killed when it hangs.
fn within_a_minute(f: &Fixture, args: &[&str]) -> Done {
    let begun = Instant::now();
    let done = f.run(args);
    assert!(begun.elapsed() < Duration::from_secs(60), "{done:?}");
    done
}

/// The first word of every line.
fn first_column(done: &Done) -> Vec<&str> {
    done.out.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

/// Copies a program of the host with its libraries into a box.
fn give(f: &Fixture, name: &str, program: &str) {
    let linked = Command::new("ldd").arg(program).output().unwrap().stdout;
    let linked = String::from_utf8(linked).unwrap();
    for path in linked.split_whitespace().filter(|word| word.starts_with('/')).chain([program]) {
        let target = f.root_of(name).join(path.trim_start_matches('/'));
        // /lib may be a link to usr/lib, on the host as in the box
        let real = std::fs::canonicalize(path).unwrap();
        if !target.exists() {
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(real, target).unwrap();
        }
    }
}

#[test]
fn a_box_makes_no_subvolumes_and_keeps_its_root_writable() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    give(&f, "b", "/usr/bin/btrfs");
    let before = f.subvolumes().len();
    assert_eq!(f.run(&["exec", "b", "--", "btrfs", "--version"]).code, 0);
    for script in [
        "btrfs subvolume create /own",
        "btrfs subvolume create /home/own",
        "btrfs subvolume snapshot / /copy",
        "btrfs subvolume snapshot / /home/copy",
        "btrfs property set -ts / ro true",
    ] {
        let done = f.run(&["exec", "b", "--", "sh", "-c", script]);
        assert!(done.code != 0, "{done:?}");
    }
    f.sh("b", "echo still > /writable");
    assert_eq!(f.subvolumes().len(), before);
}

#[test]
fn a_read_only_root_can_be_restored_and_deleted() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b"]);
    let root = f.root_of("b");
    let nested = root.join("nested");
    let btrfs = |args: &[&str], path: &Path| {
        assert!(Command::new("btrfs").args(args).arg(path).output().unwrap().status.success(), "{args:?}");
    };
    btrfs(&["subvolume", "create"], &nested);
    for path in [&nested, &root] {
        let path = path.to_str().unwrap();
        let set =
            Command::new("btrfs").args(["property", "set", "-ts", path, "ro", "true"]).output().unwrap();
        assert!(set.status.success(), "{set:?}");
    }
    f.ok(&["snapshot", "restore", "b", "v0"]);
    f.ok(&["snapshot", "undo", "b"]);
    f.ok(&["delete", "b", "--yes"]);
    assert_eq!((f.staging(), f.subvolumes().len()), (vec![], 1));
    f.check();
}

#[test]
fn a_program_that_leaves_a_flood_behind_holds_no_exec_up() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let flood = "(while :; do echo flood; done) & sleep 0.3; exit 3";
    // into a file the output is copied; a pipe would be passed into the box
    let out = File::create(f.dir().join("out")).unwrap();
    let mut exec = f.command(&["exec", "b", "--", "sh", "-c", flood]);
    let mut child = exec.stdout(out).spawn().unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(3));
}

#[test]
fn one_broken_document_hides_no_other_box_and_its_own_can_be_deleted() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["broken", "fine"]);
    f.ok(&["volume", "create", "v"]);
    f.ok(&["snapshot", "create", "broken"]);
    let meta = f.pool().join("boxes/default/broken/meta.json");
    let breaks: [&dyn Fn(); 7] = [
        &|| std::fs::write(&meta, "").unwrap(),
        &|| std::fs::write(&meta, vec![b' '; 2 << 20]).unwrap(),
        &|| std::fs::write(&meta, [0xff, 0, 0x1b]).unwrap(),
        &|| std::fs::write(&meta, "[".repeat(500_000)).unwrap(),
        &|| symlink("/etc/passwd", &meta).unwrap(),
        &|| assert!(Command::new("mkfifo").arg(&meta).status().unwrap().success()),
        &|| std::fs::create_dir(&meta).unwrap(),
    ];
    for (number, make) in breaks.iter().enumerate() {
        let _ = std::fs::remove_file(&meta);
        make();
        let listed = within_a_minute(&f, &["list"]);
        assert_eq!((listed.code, first_column(&listed)), (0, vec!["NAME", "fine"]), "{number}: {listed:?}");
        assert!(listed.err.contains("box broken is left out"), "{number}: {listed:?}");
        for args in [&["df"][..], &["gc"], &["volume", "list"], &["exec", "fine", "--", "true"]] {
            let done = within_a_minute(&f, args);
            assert!(done.code == 0 && !done.err.contains("panicked"), "{number}: {done:?}");
        }
        for args in
            [&["info", "broken"][..], &["start", "broken"], &["rename", "broken", "other"], &["check"]]
        {
            let done = within_a_minute(&f, args);
            assert!(done.code == 1 && !done.err.contains("panicked"), "{number}: {done:?}");
        }
        f.fails(1, &["volume", "delete", "v", "--yes"]);
    }
    f.ok(&["delete", "broken", "--yes"]);
    f.ok(&["volume", "delete", "v", "--yes"]);
    f.check();
}

#[test]
fn a_broken_base_volume_or_snapshot_hides_no_other() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    f.import_tiny("other");
    for name in ["one", "two"] {
        f.ok(&["volume", "create", name]);
        f.ok(&["snapshot", "create", "b", name]);
    }
    for broken in ["bases/other", "volumes/default/one", "boxes/default/b/snapshots/one"] {
        std::fs::write(f.pool().join(broken).join("meta.json"), "{}").unwrap();
    }
    for (args, left) in [
        (&["base", "list"][..], "box-base"),
        (&["volume", "list"], "two"),
        (&["snapshot", "list", "b"], "two"),
    ] {
        let done = f.run(args);
        assert_eq!((done.code, first_column(&done)), (0, vec!["NAME", left]), "{done:?}");
        assert!(done.err.contains("is left out"), "{done:?}");
    }
    f.ok(&["delete", "b", "--yes"]);
}

#[test]
fn a_petabyte_of_nothing_is_checked_at_once() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    File::create(f.root_of("b").join("sparse")).unwrap().set_len(1 << 50).unwrap();
    f.ok(&["base", "save", "large", "b"]);
    let begun = Instant::now();
    f.ok(&["check", "--read-data"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_pool_is_found_through_a_link_and_a_damaged_one_is_named() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    let link = f.dir().join("link");
    symlink(f.pool(), &link).unwrap();
    let listed = Command::new(support::TINE).arg("--root").arg(&link).args(["-q", "list"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "b\n", "{listed:?}");
    f.ok(&["--yes", "detach"]);
    let image = f.dir().join("pool.img");
    let kept = f.dir().join("kept.img");
    std::fs::rename(&image, &kept).unwrap();
    std::fs::write(&image, vec![0xa5; 1 << 20]).unwrap();
    let said = f.fails(1, &["list"]);
    assert!(said.contains("pool.img: is not a whole btrfs file system"), "{said}");
    std::fs::rename(&kept, &image).unwrap();
    assert_eq!(f.ok(&["-q", "list"]), "b\n");
}
