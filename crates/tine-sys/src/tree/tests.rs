//! Confinement, resolving and hostile objects, on real directories.

use super::*;
use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// A directory of its own, deleted at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tine-tree-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("root/etc")).unwrap();
        fs::create_dir(path.join("root/usr")).unwrap();
        fs::write(path.join("secret"), "outside").unwrap();
        fs::write(path.join("root/etc/passwd"), "inside").unwrap();
        Self(path)
    }
    fn tree(&self) -> Tree {
        Tree::open(&self.0.join("root")).unwrap()
    }
    fn link(&self, target: &str, name: &str) {
        symlink(target, self.0.join("root").join(name)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn no_path_leads_out() {
    let scratch = Scratch::new();
    scratch.link("/etc/passwd", "absolute");
    scratch.link("../../../secret", "up");
    scratch.link("/proc/self/root/etc/passwd", "magic");
    let tree = scratch.tree();
    let read =
        |path: &str| tree.read_file(Path::new(path), 100).map(|c| c.map(|c| String::from_utf8(c).unwrap()));
    assert_eq!(read("absolute").unwrap().as_deref(), Some("inside"));
    assert_eq!(read("/../../etc/passwd").unwrap().as_deref(), Some("inside"));
    for path in ["up", "../secret", "/../secret", "magic", "etc/../../secret"] {
        assert_eq!(read(path).unwrap_err().errno(), libc::ENOENT, "{path}");
    }
    assert_eq!(tree.read_file(Path::new("absolute"), 5).unwrap(), None);
    for path in ["../secret", "usr/../../secret"] {
        assert_eq!(tree.exact(Path::new(path)).unwrap_err().errno(), libc::EXDEV, "{path}");
    }
}

#[test]
fn exact_refuses_links_but_for_the_last() {
    let scratch = Scratch::new();
    scratch.link("etc", "conf");
    let tree = scratch.tree();
    assert_eq!(tree.exact(Path::new("conf/passwd")).unwrap_err().errno(), libc::ELOOP);
    assert_eq!(tree.exact_dir(Path::new("conf")).unwrap_err().errno(), libc::ELOOP);
    let link = tree.exact(Path::new("conf")).unwrap();
    assert_eq!((link.meta().kind, link.read_link().unwrap().as_os_str()), (Kind::Symlink, OsStr::new("etc")));
    assert_eq!(link.open_file().unwrap_err().errno(), libc::EINVAL);
}

#[test]
fn a_fifo_is_not_opened() {
    let scratch = Scratch::new();
    let root = scratch.tree().root_dir().unwrap();
    root.create_special(OsStr::new("fifo"), Kind::Fifo, 0o644, (0, 0)).unwrap();
    let fifo = scratch.tree().node(Path::new("fifo")).unwrap();
    assert_eq!((fifo.meta().kind, fifo.read(10).unwrap_err().errno()), (Kind::Fifo, libc::EINVAL));
}

#[test]
fn a_directory_takes_single_names_only() {
    let scratch = Scratch::new();
    let root = scratch.tree().root_dir().unwrap();
    for name in ["", ".", "..", "../secret", "/etc", "etc/passwd"] {
        let name = OsStr::new(name);
        assert_eq!(root.stat(name).unwrap_err().errno(), libc::EINVAL);
        assert_eq!(root.remove(name).unwrap_err().errno(), libc::EINVAL);
        assert_eq!(root.create_hard_link(&root, name, OsStr::new("x")).unwrap_err().errno(), libc::EINVAL);
    }
    assert_eq!(root.create_file(OsStr::new("etc"), 0o644).unwrap_err().errno(), libc::EEXIST);
}

#[test]
fn resolve_says_where_a_path_leads() {
    let scratch = Scratch::new();
    scratch.link("/etc/../etc", "a");
    scratch.link("a", "b");
    scratch.link("loop", "loop");
    scratch.link("/nowhere/x", "broken");
    let tree = scratch.tree();
    let at = |path: &str, last| {
        let found = tree.resolve(Path::new(path), last).unwrap();
        (found.path.to_string_lossy().into_owned(), found.exists)
    };
    for (path, leads_to, exists) in [
        ("/", "/", true),
        ("../..", "/", true),
        ("b/passwd", "/etc/passwd", true),
        ("b//./../usr", "/usr", true),
        ("etc/passwd/x", "/etc/passwd/x", false),
        ("no/such/../../b/passwd", "/etc/passwd", true),
        ("broken/y", "/nowhere/x/y", false),
    ] {
        assert_eq!(at(path, LastLink::Follow), (leads_to.to_owned(), exists), "{path}");
    }
    assert_eq!(at("b", LastLink::Keep), ("/b".to_owned(), true));
    assert_eq!(tree.resolve(Path::new("loop/x"), LastLink::Keep).unwrap_err().errno(), libc::ELOOP);
    assert_eq!(
        tree.resolve_with(Path::new("b"), LastLink::Follow, &|_| false).unwrap_err().errno(),
        libc::EACCES
    );
}

#[test]
fn attributes_are_of_the_object_itself() {
    let scratch = Scratch::new();
    scratch.link("etc/passwd", "link");
    let (file, link) =
        (scratch.tree().follow(Path::new("link")).unwrap(), scratch.tree().node(Path::new("link")).unwrap());
    let xattr = Xattr { name: "user.k".into(), value: b"v\0".to_vec() };
    file.set_xattr(&xattr).unwrap();
    file.set_mode(0o600).unwrap();
    link.set_mtime(Time { seconds: -2, nanoseconds: 5 }).unwrap();
    assert_eq!(link.set_mode(0o600).unwrap_err().errno(), libc::EOPNOTSUPP);
    assert_eq!(file.xattrs().unwrap(), [xattr]);
    assert_eq!(link.xattrs().unwrap(), []);
    let again = |path: &str| *scratch.tree().node(Path::new(path)).unwrap().meta();
    assert_eq!(
        (again("etc/passwd").mode, again("link").mtime),
        (0o600, Time { seconds: -2, nanoseconds: 5 })
    );
    assert_ne!(again("etc/passwd").mtime.seconds, -2);
}
