//! `diff file` on hostile trees: nothing is followed out, nothing hangs, limits hold, and `patch` applies what it says.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use rustix::fs::{CWD, FileType, Mode};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};
use tine_model::{DiffFile, Error, ErrorCode, FileStatus, RawPath};
use tine_store::diff::{HiddenPaths, file};
use tine_sys::tree::Tree;

struct Trees {
    dir: tempfile::TempDir,
}

impl Trees {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("old")).unwrap();
        fs::create_dir(dir.path().join("new")).unwrap();
        Self { dir }
    }
    fn old(&self, path: &str) -> PathBuf {
        self.dir.path().join("old").join(path)
    }
    fn new_(&self, path: &str) -> PathBuf {
        self.dir.path().join("new").join(path)
    }
    fn both(&self, make: impl Fn(&Path)) {
        make(&self.old(""));
        make(&self.new_(""));
    }
    fn diff(&self, path: impl Into<Vec<u8>>) -> Result<DiffFile, Error> {
        let (old, new) = (Tree::open(&self.old("")).unwrap(), Tree::open(&self.new_("")).unwrap());
        let hidden = HiddenPaths::of_container(&["v=/data".parse().unwrap()]);
        Ok(file(&old, &new, &RawPath::new(path), &hidden)?)
    }
    fn code(&self, path: &str) -> ErrorCode {
        self.diff(path).unwrap_err().code
    }
    fn line(&self, path: &str) -> String {
        let found = self.diff(path).unwrap();
        assert_eq!(found.status, FileStatus::Modified);
        found.diff.unwrap()
    }
}

fn special(path: &Path, kind: FileType, minor: u32) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), rustix::fs::makedev(1, minor)).unwrap();
}

#[test]
fn each_status_has_its_contents() {
    let t = Trees::new();
    fs::write(t.new_("added"), "a\n").unwrap();
    fs::write(t.old("deleted"), "d\n").unwrap();
    t.both(|root| fs::write(root.join("same"), "s\n").unwrap());
    let added = t.diff("/added").unwrap();
    assert_eq!(
        (added.status, added.current.as_deref(), added.previous),
        (FileStatus::Added, Some("a\n"), None)
    );
    let deleted = t.diff("deleted").unwrap();
    assert_eq!(
        (deleted.status, deleted.current, deleted.previous.as_deref()),
        (FileStatus::Deleted, None, Some("d\n"))
    );
    let same = t.diff("/./x/..//same").unwrap();
    assert_eq!(
        (same.status, same.diff, same.path.to_string().as_str()),
        (FileStatus::Unchanged, None, "/same")
    );
    assert_eq!(t.code("/missing"), ErrorCode::NotFound);
    assert_eq!(t.code("/same/below"), ErrorCode::NotFound);
}

#[test]
fn hidden_paths_are_refused_however_they_are_reached() {
    let t = Trees::new();
    t.both(|root| {
        for dir in ["home/u", "homework", "data", "etc", "box/bin"] {
            fs::create_dir_all(root.join(dir)).unwrap();
            fs::write(root.join(dir).join("f"), "1").unwrap();
        }
        symlink("/home", root.join("etc/link")).unwrap();
        symlink("../../../../home/u/f", root.join("etc/file")).unwrap();
        symlink("f", root.join("homework/fine")).unwrap();
    });
    // a link that only one side has leads there on that side
    symlink("data", t.old("once")).unwrap();
    for path in [
        "/home",
        "/home/",
        "/home/u/f",
        "home/u/f",
        "//home//u/f",
        "/etc/../home/u/f",
        "/../../home/u/f",
        "/etc/link/u/f",
        "/etc/link/not-there",
        "/etc/file",
        "/data/f",
        "/box/bin/tine",
        "/box/all/x",
        "/box/proj",
        "/once/f",
        "/once",
    ] {
        assert_eq!(t.code(path), ErrorCode::InvalidPath, "{path}");
    }
    assert_eq!(t.diff("/homework/f").unwrap().status, FileStatus::Unchanged);
    assert_eq!(t.diff("/homework/fine").unwrap().status, FileStatus::Unchanged);
}

#[test]
fn directories_nothing_and_nul_are_no_files() {
    let t = Trees::new();
    t.both(|root| fs::create_dir(root.join("dir")).unwrap());
    for path in ["/", "", ".", "/dir", "dir/..", "/dir/../dir", "/a\0b"] {
        assert_eq!(t.code(path), ErrorCode::InvalidPath, "{path:?}");
    }
}

#[test]
fn one_mebibyte_is_shown_and_one_byte_more_is_not() {
    let t = Trees::new();
    fs::write(t.old("f"), vec![b'x'; 1 << 20]).unwrap();
    fs::write(t.new_("f"), vec![b'y'; 1 << 20]).unwrap();
    assert_eq!(t.diff("/f").unwrap().status, FileStatus::Modified);
    for name in ["old", "new"] {
        fs::write(t.dir.path().join(name).join("g"), vec![b'x'; (1 << 20) + usize::from(name == "old")])
            .unwrap();
    }
    assert_eq!(t.code("/g"), ErrorCode::TooLarge);
    fs::File::create(t.new_("giant")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(t.code("/giant"), ErrorCode::TooLarge);
}

#[test]
fn what_is_not_text_only_differs() {
    let t = Trees::new();
    for (name, bytes) in [("nul", &b"a\0b"[..]), ("latin", b"\xe4\n")] {
        fs::write(t.old(name), b"text\n").unwrap();
        fs::write(t.new_(name), bytes).unwrap();
        let found = t.diff(name).unwrap();
        assert_eq!(found.diff.as_deref(), Some("Binary files differ\n"));
        assert_eq!((found.current, found.previous.as_deref()), (None, Some("text\n")));
    }
}

#[test]
fn links_are_compared_and_not_followed() {
    let t = Trees::new();
    symlink("/etc/shadow", t.old("l")).unwrap();
    symlink("/etc/passwd", t.new_("l")).unwrap();
    t.both(|root| symlink("loop", root.join("loop")).unwrap());
    let found = t.diff("/l").unwrap();
    assert_eq!(found.diff.as_deref(), Some("link target changed: /etc/shadow to /etc/passwd\n"));
    assert_eq!((found.current, found.previous), (None, None));
    assert_eq!(t.diff("/loop").unwrap().status, FileStatus::Unchanged);
    assert_eq!(t.code("/loop/x"), ErrorCode::InvalidPath);
    // below a link to /etc there is the box's own /etc, which it has not
    t.both(|root| symlink("/etc", root.join("out")).unwrap());
    assert_eq!(t.code("/out/passwd"), ErrorCode::NotFound);
}

#[test]
fn fifos_devices_and_sockets_are_never_opened() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let t = Trees::new();
    special(&t.old("fifo"), FileType::Fifo, 0);
    fs::write(t.new_("fifo"), "now a file\n").unwrap();
    assert_eq!(t.line("/fifo"), "type changed: fifo to file\n");
    t.both(|root| special(&root.join("same"), FileType::Fifo, 0));
    assert_eq!(t.diff("/same").unwrap().status, FileStatus::Unchanged);
    special(&t.old("dev"), FileType::CharacterDevice, 3);
    special(&t.new_("dev"), FileType::CharacterDevice, 5);
    assert_eq!(t.line("/dev"), "device number changed: 1, 3 to 1, 5\n");
    let _socket = std::os::unix::net::UnixListener::bind(t.new_("s")).unwrap();
    assert_eq!(t.diff("/s").unwrap().status, FileStatus::Added);
}

#[test]
fn mode_alone_is_said_in_words() {
    let t = Trees::new();
    t.both(|root| fs::write(root.join("f"), "x\n").unwrap());
    fs::set_permissions(t.new_("f"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(t.line("/f"), "mode changed: 0644 to 0600\n");
}

fn patched(name: &str, older: &str, newer: &str) {
    let t = Trees::new();
    fs::write(t.old(name), older).unwrap();
    fs::write(t.new_(name), newer).unwrap();
    let diff = t.diff(name).unwrap().diff.unwrap();
    let patch = t.dir.path().join("the.patch");
    fs::write(&patch, &diff).unwrap();
    let done = Command::new("patch")
        .args(["-p1", "--binary", "--no-backup-if-mismatch", "-d"])
        .arg(t.old(""))
        .arg("-i")
        .arg(&patch)
        .output()
        .unwrap();
    assert!(done.status.success(), "{name:?}: {}{diff}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(fs::read_to_string(t.old(name)).unwrap_or_default(), newer, "{name:?}\n{diff}");
}

#[test]
fn patch_applies_every_diff() {
    if Command::new("patch").arg("--version").output().is_err() {
        eprintln!("SKIPPED: needs patch");
        return;
    }
    let long: String = (0..200).map(|i| format!("line {i}\n")).collect();
    let edited = long.replace("line 3\n", "").replace("line 100\n", "line hundred\nand more\n");
    for (older, newer) in [
        ("a\nb\n", "a\nc\n"),
        ("a", "a\n"),
        ("a\n", "a"),
        ("a\nb", "a\nc"),
        ("", "new\n"),
        ("a\rb\r\nc\r", "a\rB\r\nc\r\n"),
        (&long, &edited),
        ("--- a/x\n+++ b/x\n", "--- a/x\n+++ b/y\n"),
    ] {
        patched("f", older, newer);
    }
    for name in ["with space", "new\nline", "tab\there", "quo\"te", "hällo"] {
        patched(name, "a\n", "b\n");
    }
}

#[test]
fn two_files_without_a_common_line_take_bounded_time() {
    let t = Trees::new();
    fs::write(t.old("f"), (0..140_000).map(|i| format!("{i}\n")).collect::<String>()).unwrap();
    fs::write(t.new_("f"), (0..140_000).map(|i| format!("{}\n", i ^ 0x55)).collect::<String>()).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(t.diff("/f").map_err(|e| e.code).map(|d| d.status), Ok(FileStatus::Modified));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
