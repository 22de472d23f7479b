//! A pool on a loop file of its own, taken down whatever happens to the test.
#![expect(dead_code, reason = "every test file uses a part of this")]

pub mod machine;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{
    BaseAlias, BaseVersionInfo, BoxRef, BoxSettings, BoxSource, ByteSize, CreateSnapshot, ProjectName,
    Provenance, ProvenanceKind, SnapshotName,
};
use tine_store::{LockedBox, Pool};

pub const WAIT: Duration = Duration::from_secs(10);

/// A pool in an image file in a temporary directory.
pub struct TestPool {
    dir: tempfile::TempDir,
    pub root: PathBuf,
}

impl TestPool {
    /// None, said loudly, where there is no root or btrfs; fails where `TINE_REQUIRE` names `btrfs`.
    pub fn new() -> Option<Self> {
        Self::sized(ByteSize::gib(2))
    }

    pub fn sized(size: ByteSize) -> Option<Self> {
        let pool = Self::empty()?;
        Pool::init(&pool.root, size).unwrap();
        Some(pool)
    }

    /// The place for a pool that is not made yet.
    pub fn empty() -> Option<Self> {
        if !btrfs_is_usable() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pool");
        Some(Self { dir, root })
    }

    pub fn open(&self) -> Pool {
        Pool::open(&self.root, WAIT).unwrap()
    }

    /// What a reboot does: everything is unmounted and only the image is left.
    pub fn reboot(&self) {
        tine_sys::mountpoint::unmount(&self.root).unwrap();
    }
}

impl Drop for TestPool {
    fn drop(&mut self) {
        while tine_sys::mountpoint::mounted_at(&self.root).unwrap().is_some() {
            if tine_sys::mountpoint::unmount_lazily(&self.root).is_err() {
                break;
            }
        }
    }
}

fn btrfs_is_usable() -> bool {
    let root = rustix::process::geteuid().is_root();
    let usable =
        root && Path::new("/dev/loop-control").exists() && Path::new("/usr/sbin/mkfs.btrfs").exists();
    let required = std::env::var("TINE_REQUIRE").is_ok_and(|v| v.split(',').any(|w| w == "btrfs"));
    assert!(usable || !required, "TINE_REQUIRE names btrfs, and it cannot be used here");
    if !usable {
        eprintln!("SKIPPED: needs root, loop devices and mkfs.btrfs");
    }
    usable
}

pub fn box_ref(name: &str) -> BoxRef {
    BoxRef::parse(name, &ProjectName::default_project()).unwrap()
}

pub fn alias(name: &str) -> BaseAlias {
    name.parse().unwrap()
}

pub fn snap(name: &str) -> SnapshotName {
    name.parse().unwrap()
}

pub fn imported() -> Provenance {
    Provenance { kind: ProvenanceKind::Import, build: None }
}

pub fn from_base(name: &str) -> BoxSource {
    BoxSource::Base(name.parse().unwrap())
}

/// A base with one file of every type and odd attributes.
pub fn make_base(pool: &Pool, name: &str) -> BaseVersionInfo {
    let stage = pool.stage_base(None).unwrap();
    fill_tree(&stage.root_path());
    stage.publish(&alias(name), imported()).unwrap()
}

pub fn make_box(pool: &Pool, name: &str, base: &str) -> BoxRef {
    let name = box_ref(name);
    pool.create_box(&name, &from_base(base), &BoxSettings::default()).unwrap();
    name
}

pub fn lock<'p>(pool: &'p Pool, name: &BoxRef) -> LockedBox<'p> {
    pool.lock_box(name, WAIT).unwrap()
}

pub fn take(pool: &Pool, name: &BoxRef, snapshot: &str) {
    let request = CreateSnapshot { name: Some(snap(snapshot)), ..CreateSnapshot::default() };
    lock(pool, name).create_snapshot(&request).unwrap();
}

pub fn fill_tree(root: &Path) {
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/motd"), "hello\n").unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/tool"), vec![7u8; 200_000]).unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    std::os::unix::fs::symlink("/run/resolv.conf", root.join("etc/resolv.conf")).unwrap();
    fs::hard_link(root.join("etc/motd"), root.join("etc/motd.link")).unwrap();
    std::os::unix::fs::chown(root.join("etc/motd"), Some(1000), Some(50)).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), null)
        .unwrap();
    rustix::fs::setxattr(root.join("etc/motd"), "user.note", b"x\0y", XattrFlags::empty()).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 9 << 20).unwrap();
}

/// Everything that makes a tree what it is, by path: type, mode, owner, device, links, content, attributes, blocks.
pub fn fingerprint(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    visit(root, root, &mut all);
    all
}

fn visit(top: &Path, path: &Path, all: &mut BTreeMap<PathBuf, String>) {
    let stat = fs::symlink_metadata(path).unwrap();
    let content = if stat.is_file() {
        fs::read(path).unwrap().iter().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b)))
    } else {
        0
    };
    let target = fs::read_link(path).ok();
    let links = if stat.is_dir() { 0 } else { stat.nlink() };
    let mut note = vec![0u8; 64];
    let note = rustix::fs::lgetxattr(path, "user.note", &mut note).map(|n| note[..n].to_vec()).ok();
    let text = format!(
        "{:o} {} {} {:x} {} {links} {content} {target:?} {note:?} {}.{}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.rdev(),
        stat.blocks(),
        stat.mtime(),
        stat.mtime_nsec(),
    );
    all.insert(path.strip_prefix(top).unwrap().to_owned(), text);
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(top, &entry.unwrap().path(), all);
        }
    }
}

/// Nothing in staging and no broken invariant.
pub fn assert_clean(pool: &Pool) {
    let left: Vec<_> = fs::read_dir(pool.root().join("tmp")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "left in staging");
    let request = tine_model::CheckRequest { read_data: true };
    let report = pool.check(&request, &tine_model::Silent).unwrap();
    assert_eq!(report.problems, [], "check");
}
