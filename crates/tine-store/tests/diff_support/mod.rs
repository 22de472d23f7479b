//! A btrfs of its own for a test, unmounted and deleted whatever happens.

use rustix::fs::{CWD, FileType, Mode};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tine_sys::tree::Tree;

pub struct Btrfs {
    dir: tempfile::TempDir,
    mounted: bool,
}

impl Btrfs {
    /// None, said loudly, where there is no root or btrfs; fails where `TINE_REQUIRE` names `btrfs`.
    pub fn new() -> Option<Self> {
        let usable = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
        let required = std::env::var("TINE_REQUIRE").is_ok_and(|v| v.split(',').any(|w| w == "btrfs"));
        assert!(usable || !required, "TINE_REQUIRE names btrfs, and it cannot be used here");
        if !usable {
            eprintln!("SKIPPED: needs root and loop devices");
            return None;
        }
        let mut made = Self { dir: tempfile::tempdir().unwrap(), mounted: false };
        let (image, mount) = (made.dir.path().join("image"), made.root());
        fs::create_dir(&mount).unwrap();
        fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        run("mkfs.btrfs", &["-q", image.to_str().unwrap()]);
        run("mount", &["-o", "loop,noatime", image.to_str().unwrap(), mount.to_str().unwrap()]);
        made.mounted = true;
        Some(made)
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// An empty writable subvolume.
    pub fn subvolume(&self, name: &str) -> PathBuf {
        let path = self.root().join(name);
        run("btrfs", &["-q", "subvolume", "create", path.to_str().unwrap()]);
        path
    }

    /// A read-only snapshot.
    pub fn snapshot(&self, of: &Path, name: &str) -> Tree {
        let path = self.root().join(name);
        run("btrfs", &["-q", "subvolume", "snapshot", "-r", of.to_str().unwrap(), path.to_str().unwrap()]);
        Tree::open(&path).unwrap()
    }

    pub fn delete(&self, name: &str) {
        run("btrfs", &["-q", "subvolume", "delete", self.root().join(name).to_str().unwrap()]);
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        if self.mounted {
            // lazily, as a failed test may still have files open
            let _ = Command::new("umount").arg("-l").arg(self.root()).status();
        }
    }
}

pub fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

pub fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

pub fn device(path: &Path, minor: u32) {
    let number = rustix::fs::makedev(1, minor);
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o644), number).unwrap();
}
