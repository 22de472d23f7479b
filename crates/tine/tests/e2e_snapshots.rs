//! Snapshots, restore and diff, as typed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};
use support::{Fixture, fingerprint::fingerprint};

#[test]
fn automatic_names_count_on_from_the_highest() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    let create = |args: &[&str]| f.ok(&[&["-q", "snapshot", "create", "b"], args].concat());
    assert_eq!((create(&[]), create(&[])), ("v0\n".into(), "v1\n".into()));
    assert_eq!(create(&["v7"]), "v7\n");
    assert_eq!(create(&["positional", "--name", "wins"]), "wins\n");
    for odd in ["v010", "v8x", "w9"] {
        create(&[odd]);
    }
    assert_eq!(create(&["-m", "a note"]), "v8\n");
    f.ok(&["snapshot", "delete", "b", "v1", "--yes"]);
    assert_eq!(create(&[]), "v9\n", "gaps are not filled");
    f.refuses("already_exists", &["snapshot", "create", "b", "v0"]);
    f.refuses("invalid_name", &["snapshot", "create", "b", "V0"]);
    let list = f.ok(&["snapshot", "list", "b"]);
    assert!(list.starts_with("NAME") && list.contains("a note"), "{list}");
    f.check();
}

#[test]
fn a_started_box_shows_no_changes() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b"]);
    f.ok(&["start", "b"]);
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n");
    f.sh("b", "true; ls / > /dev/null; cat /etc/hosts /etc/resolv.conf > /dev/null");
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n");
}

#[test]
fn status_lists_each_path_once_sorted_by_bytes() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.refuses("not_found", &["diff", "status", "b"]);
    f.sh("b", "mkdir /d; echo a > /d/a; echo k > /keep; mkfifo /fifo; echo x > /gone; mkdir /was-dir; echo c > /was-dir/c");
    f.ok(&["snapshot", "create", "b", "one"]);
    f.sh("b", "mv /d /e; echo changed > /keep; rm /gone; rm -r /was-dir; echo f > /was-dir; chmod 600 /etc/motd; touch /tmp; mknod /null c 1 3");
    let status = f.ok(&["diff", "status", "b"]);
    let expected =
        "- /d\n- /d/a\n+ /e\n+ /e/a\n~ /etc/motd\n- /gone\n~ /keep\n+ /null\n~ /was-dir\n- /was-dir/c\n";
    assert_eq!(status, expected);
    f.ok(&["snapshot", "create", "b", "two"]);
    assert_eq!(f.ok(&["diff", "status", "b", "--against", "one", "--to", "two"]), expected);
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n", "the most recent is the default");
    let json = f.json(&["diff", "status", "b", "--against", "one"]);
    assert_eq!(json["added"][0]["path"], "/e");
    f.refuses("not_found", &["diff", "status", "b", "--against", "three"]);
}

#[test]
fn odd_names_are_quoted_in_text_and_exact_in_json() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b"]);
    f.sh("b", "touch \"$(printf '/new\\nline')\" \"$(printf '/ff\\377')\"");
    let status = f.ok(&["diff", "status", "b"]);
    assert_eq!(status, "+ \"/ff\\377\"\n+ \"/new\\nline\"\n");
    let json = f.json(&["diff", "status", "b"]);
    assert_eq!(json["added"][0]["path_b64"], "L2Zm/w==");
}

#[test]
fn file_diffs_apply_with_patch() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.sh("b", "seq 100 > /numbers; printf 'no newline' > /bare; printf '\\0\\1' > /bin.dat");
    f.ok(&["snapshot", "create", "b"]);
    f.sh("b", "sed -i 's/^50$/fifty/; 3d' /numbers; printf 'now two\\nlines' > /bare; printf '\\0\\2' > /bin.dat; touch /new");
    for (path, old, new) in [("/numbers", None, None), ("/bare", Some("no newline"), Some("now two\nlines"))]
    {
        let diff = f.ok(&["diff", "file", "b", path]);
        assert!(diff.starts_with("--- a/"), "{diff}");
        let before = old.map_or_else(|| (1..=100).map(|n| format!("{n}\n")).collect(), str::to_owned);
        let target = f.file("patched", before.as_bytes());
        let patch = f.file("diff.patch", diff.as_bytes());
        let done = Command::new("patch").arg(&target).arg(&patch).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let expected = new
            .map_or_else(|| std::fs::read_to_string(f.root_of("b").join("numbers")).unwrap(), str::to_owned);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), expected);
    }
    assert!(f.ok(&["diff", "file", "b", "/bin.dat"]).contains("Binary files differ"));
    assert_eq!(f.ok(&["diff", "file", "b", "/new"]), "added\n");
    assert_eq!(f.ok(&["diff", "file", "b", "/etc/motd"]), "unchanged\n");
    f.refuses("not_found", &["diff", "file", "b", "/no/such"]);
}

#[test]
fn file_diffs_refuse_what_is_mounted_over_the_root() {
    require!("container");
    let f = Fixture::new();
    f.ok(&["volume", "create", "vol"]);
    f.ok(&["create", "b", "--net", "none", "-d", "vol=/srv/vol"]);
    f.ok(&["snapshot", "create", "b"]);
    f.sh("b", "ln -s /home /tmp/h; ln -s ../home/x /tmp/x; ln -s loop /tmp/loop; ln -s /etc/shadow /tmp/shadow; mkdir /homework; echo w > /homework/f; mkfifo /tmp/fifo; mknod /tmp/disk b 7 0");
    for path in [
        "/home/x",
        "/home",
        "//home//x",
        "/etc/../home/x",
        "/tmp/h/x",
        "/tmp/x",
        "/box/bin/t",
        "/box/all/t",
        "/box/proj/t",
        "/srv/vol/t",
        "home/x",
        "/tmp/loop/x",
    ] {
        f.refuses("invalid_path", &["diff", "file", "b", path]);
    }
    assert_eq!(f.ok(&["diff", "file", "b", "/homework/f"]), "added\n");
    assert_eq!(f.ok(&["diff", "file", "b", "/tmp/fifo"]), "added\n", "a FIFO is not opened");
    assert_eq!(f.ok(&["diff", "file", "b", "/tmp/disk"]), "added\n", "a device is not opened");
    assert!(
        !f.run(&["--json", "diff", "file", "b", "/tmp/shadow"]).out.contains("root:"),
        "a link does not lead to the host"
    );
}

#[test]
fn file_diffs_stop_at_one_mebibyte() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.sh("b", "echo small > /f; echo small > /g");
    f.ok(&["snapshot", "create", "b"]);
    f.sh("b", "head -c 1048576 /dev/zero | tr '\\0' a > /f; head -c 1048577 /dev/zero | tr '\\0' a > /g");
    assert!(f.ok(&["diff", "file", "b", "/f"]).starts_with("--- a/"));
    f.refuses("too_large", &["diff", "file", "b", "/g"]);
}

#[test]
fn restore_goes_back_and_forward_to_identical_trees() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.sh("b", "mkdir -p /t/d; echo one > /t/f; ln /t/f /t/hard; ln -s f /t/soft; mkfifo /t/fifo; mknod /t/dev c 1 3; truncate -s 10M /t/sparse; echo x >> /t/sparse; chmod 4751 /t/f; chown 12:34 /t/d");
    set_xattr(&f.root_of("b").join("t/f"), "user.color", "blue");
    f.ok(&["snapshot", "create", "b", "before"]);
    let before = fingerprint(&f.root_of("b"));
    f.sh("b", "rm -rf /t/d /t/soft; echo two > /t/f; touch /t/new; chmod 600 /t/dev; rm /etc/motd");
    f.ok(&["snapshot", "create", "b", "after"]);
    let after = fingerprint(&f.root_of("b"));
    assert!(before.len() > 30 && before != after);
    f.ok(&["snapshot", "restore", "b", "before"]);
    assert_eq!(fingerprint(&f.root_of("b")), before);
    assert_eq!(f.ok(&["diff", "status", "b", "--against", "before"]), "No changes\n");
    f.ok(&["snapshot", "restore", "b", "after"]);
    assert_eq!(fingerprint(&f.root_of("b")), after);
    f.ok(&["snapshot", "undo", "b"]);
    assert_eq!(fingerprint(&f.root_of("b")), before);
    f.check();
}

fn set_xattr(path: &Path, name: &str, value: &str) {
    rustix::fs::setxattr(path, name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn restore_keeps_what_was_there() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b", "good"]);
    f.refuses("wrong_state", &["snapshot", "undo", "b"]);
    f.sh("b", "echo precious > /precious");
    f.ok(&["snapshot", "restore", "b", "good", "--keep-as", "kept"]);
    assert_ne!(f.run(&["exec", "b", "--", "cat", "/precious"]).code, 0);
    assert_eq!(f.ok(&["-q", "snapshot", "list", "b"]), "good\nkept\n");
    f.ok(&["snapshot", "undo", "b"]);
    assert_eq!(f.sh("b", "cat /precious"), "precious\n");
    f.refuses("already_exists", &["snapshot", "restore", "b", "good", "--keep-as", "kept"]);
    assert_eq!(f.sh("b", "cat /precious"), "precious\n", "a conflict changes nothing");
    f.ok(&["snapshot", "restore", "b", "kept"]);
    assert_eq!(f.sh("b", "cat /precious"), "precious\n");
    f.refuses("not_found", &["snapshot", "restore", "b", "nope"]);
}

#[test]
fn restore_of_a_running_box_starts_it_again() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b", "good"]);
    f.ok(&["exec", "b", "--bg", "--", "sh", "-c", "while :; do echo x >> /log; sleep 0.01; done"]);
    let mut shell = f.command(&["exec", "-i", "b", "--", "sh"]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shell.stdin.as_mut().unwrap().write_all(b"echo open\n").unwrap();
    let mut said = [0; 5];
    shell.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    f.ok(&["snapshot", "restore", "b", "good"]);
    assert!(f.ok(&["list"]).contains("running"));
    assert_eq!(f.ok(&["diff", "status", "b"]), "No changes\n");
    assert_ne!(shell.wait().unwrap().code(), Some(0), "the open shell ended with its box");
    assert_eq!(f.sh("b", "echo fresh"), "fresh\n");
}

#[test]
fn snapshots_are_renamed_shown_deleted_and_pruned() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    for _ in 0..5 {
        f.ok(&["snapshot", "create", "b"]);
    }
    f.ok(&["snapshot", "rename", "b", "v4", "best"]);
    f.refuses("already_exists", &["snapshot", "rename", "b", "v3", "best"]);
    f.refuses("not_found", &["snapshot", "rename", "b", "v4", "x"]);
    assert!(f.ok(&["snapshot", "show", "b", "best"]).contains("best"));
    f.refuses("not_found", &["snapshot", "delete", "b", "v0", "nope", "--yes"]);
    assert_eq!(f.ok(&["-q", "snapshot", "list", "b"]).lines().count(), 5, "all or none");
    f.refuses("usage", &["snapshot", "prune", "b", "--yes"]);
    f.ok(&["snapshot", "prune", "b", "--keep-last", "2", "--dry-run"]);
    assert_eq!(f.ok(&["-q", "snapshot", "list", "b"]).lines().count(), 5);
    f.ok(&["snapshot", "prune", "b", "--keep-last", "2", "--yes"]);
    assert_eq!(f.ok(&["-q", "snapshot", "list", "b"]), "v3\nbest\n");
    f.ok(&["snapshot", "delete", "b", "v3", "best", "--yes"]);
    assert_eq!(f.ok(&["-q", "snapshot", "list", "b"]), "");
    f.check();
}

#[test]
fn a_nested_subvolume_is_told_of_and_goes_with_its_box() {
    require!("container");
    let f = Fixture::with_boxes(&["b"]);
    let nested = f.root_of("b").join("tmp/nested");
    let made = Command::new("btrfs").args(["subvolume", "create"]).arg(&nested).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::write(nested.join("file"), "inside").unwrap();
    let done = f.run(&["snapshot", "create", "b"]);
    assert!(done.code == 0 && done.err.contains("/tmp/nested"), "{done:?}");
    f.ok(&["diff", "status", "b"]);
    f.ok(&["snapshot", "restore", "b", "v0"]);
    f.ok(&["delete", "b", "--yes"]);
    assert!(
        f.subvolumes().iter().all(|s| !s.contains("boxes/") && !s.contains("tmp/")),
        "{:?}",
        f.subvolumes()
    );
    f.check();
}
