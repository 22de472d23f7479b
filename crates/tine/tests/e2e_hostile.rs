//! Bad input: names, tars.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Stdio};
use support::Fixture;

#[test]
fn bad_names_are_wrong_usage_everywhere() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["b"]);
    f.ok(&["snapshot", "create", "b"]);
    let long = "a".repeat(64);
    for bad in ["", &long, "Web", "a--b", "web\n", ".", "..", "ünï", "a_b", "-"] {
        for args in [
            &["create", bad, "--no-start"][..],
            &["info", bad],
            &["start", bad],
            &["rename", "b", bad],
            &["delete", bad, "--yes"],
            &["snapshot", "create", "b", "--name", bad],
            &["snapshot", "restore", "b", bad],
            &["diff", "status", "b", "--against", bad],
            &["base", "info", bad],
            &["base", "save", bad, "b"],
            &["volume", "create", bad],
            &["--project", bad, "list"],
        ] {
            let done = f.run(args);
            assert_eq!(done.code, 2, "{done:?}");
            assert!(!done.err.contains("panicked"), "{done:?}");
        }
    }
    assert_eq!(f.ok(&["-q", "list", "-a"]), "default:b\n");
}

#[test]
fn taken_and_unknown_names_change_nothing() {
    require!("btrfs");
    let f = Fixture::with_boxes(&["a", "b"]);
    f.refuses("already_exists", &["create", "a", "--no-start"]);
    f.refuses("already_exists", &["rename", "a", "b"]);
    f.refuses("not_found", &["create", "c", "--base", "no-such-base", "--no-start"]);
    f.refuses("not_found", &["create", "c", "--fork", "no-such-box", "--no-start"]);
    f.refuses("not_found", &["create", "c", "--from", "a/no-such-snapshot", "--no-start"]);
    f.refuses("not_found", &["create", "c", "-d", "no-such-volume=/data", "--no-start"]);
    for args in [
        &["start", "x"][..],
        &["stop", "x"],
        &["pause", "x"],
        &["ps", "x"],
        &["logs", "x"],
        &["info", "x"],
        &["snapshot", "list", "x"],
        &["diff", "status", "x"],
        &["delete", "x", "--yes"],
    ] {
        f.refuses("not_found", args);
    }
    assert_eq!((f.ok(&["-q", "list"]), f.staging()), ("a\nb\n".into(), vec![]));
    f.check();
}

/// A tar written entry by entry, without any of the safety a library would add.
struct RawTar(Vec<u8>);

impl RawTar {
    fn entry(mut self, kind: u8, path: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let raw = header.as_old_mut();
        raw.name[..path.len()].copy_from_slice(path);
        raw.linkname[..link.len()].copy_from_slice(link);
        raw.linkflag[0] = kind;
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        if kind == b'3' || kind == b'4' {
            let _ = header.set_device_major(7);
            let _ = header.set_device_minor(0);
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

#[test]
fn hostile_tars_leave_nothing() {
    require!("btrfs");
    let f = Fixture::empty();
    let tar =
        || RawTar(support::root::tiny_root_tar()[..support::root::tiny_root_tar().len() - 1024].to_vec());
    let hostile = [
        ("absolute path", tar().entry(b'0', b"/etc/evil", b"", b"x").end()),
        ("parent folder", tar().entry(b'0', b"etc/../../evil", b"", b"x").end()),
        ("hard link out", tar().entry(b'1', b"evil", b"../../../../etc/passwd", b"").end()),
        ("absolute hard link", tar().entry(b'1', b"evil", b"/etc/passwd", b"").end()),
        (
            "write through a link",
            tar().entry(b'2', b"esc", b"/var/tmp", b"").entry(b'0', b"esc/evil", b"", b"x").end(),
        ),
        (
            "write through a relative link",
            tar().entry(b'2', b"esc", b"../../..", b"").entry(b'0', b"esc/evil", b"", b"x").end(),
        ),
        ("block device", tar().entry(b'4', b"disk", b"", b"").end()),
        ("character device", tar().entry(b'3', b"mem", b"", b"").end()),
        ("truncated", tar().0[..100_000].to_vec()),
    ];
    for (what, bytes) in hostile {
        let file = f.file("hostile.tar", &bytes);
        let done = f.run(&["--json", "base", "import", "evil", "--file", file.to_str().unwrap()]);
        assert_eq!(done.code, 1, "{what}: {done:?}");
        assert!(done.out.contains("invalid_input"), "{what}: {done:?}");
        assert_eq!((f.staging(), f.subvolumes()), (vec![], vec![]), "{what}");
    }
    assert!(!std::path::Path::new("/var/tmp/evil").exists());
    f.check();
}

#[test]
fn a_truncated_gzip_is_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let tar = f.file("root.tar", &support::root::tiny_root_tar());
    let gz = Command::new("gzip").args(["-1", "-c"]).arg(&tar).output().unwrap().stdout;
    let cut = f.file("cut.tar.gz", &gz[..gz.len() / 2]);
    f.refuses("invalid_input", &["base", "import", "cut", "--file", cut.to_str().unwrap()]);
    let done = f.feed(
        &["--json", "base", "import", "cut", "--file", "-"],
        b"\x1f\x8b\x08garbage that is no gzip at all",
    );
    assert!(done.code == 1 && done.out.contains("invalid_input"), "{done:?}");
    assert_eq!((f.staging(), f.subvolumes()), (vec![], vec![]));
}

#[test]
fn a_setuid_program_keeps_its_bit() {
    require!("btrfs");
    use std::os::unix::fs::PermissionsExt as _;
    let f = Fixture::empty();
    let bytes =
        RawTar(support::root::tiny_root_tar()[..support::root::tiny_root_tar().len() - 1024].to_vec());
    let file = f.file("suid.tar", &bytes.entry(b'0', b"usr/bin/suid", b"", b"#!/bin/sh\n").end());
    f.ok(&["base", "import", "suid", "--file", file.to_str().unwrap()]);
    let meta = std::fs::metadata(f.pool().join("bases/suid/root/usr/bin/suid")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o4755);
}

/// Feeds what `script` (Python) writes to an import that must be refused, and returns its message.
fn refused_stream(f: &Fixture, script: &str) -> String {
    let mut source = Command::new("python3")
        .args(["-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut import = f.command(&["--json", "base", "import", "bomb", "--file", "-"]);
    let done = import.stdin(source.stdout.take().unwrap()).output().unwrap();
    let _ = source.kill();
    let _ = source.wait();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!((f.staging(), f.subvolumes()), (vec![], vec![]));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_terabyte_of_zeros_is_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let script = "import sys,tarfile\nt=tarfile.TarInfo('zeros'); t.size=1<<40\no=sys.stdout.buffer\n\
        o.write(t.tobuf(tarfile.GNU_FORMAT))\nfor _ in range(1<<20): o.write(bytes(1<<20))\n";
    let said = refused_stream(&f, script);
    assert!(said.contains("too_large") || said.contains("pool_full"), "{said}");
    f.import_tiny("fine");
}

#[test]
fn ten_million_entries_are_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let script = "import sys,tarfile\no=sys.stdout.buffer\nb=tarfile.TarInfo('d/'); b.type=tarfile.DIRTYPE; h=b.tobuf(tarfile.GNU_FORMAT)\n\
        while True: o.write(h*4096)\n";
    let said = refused_stream(&f, script);
    assert!(said.contains("too_large"), "{said}");
}
