//! Disks of machines that were killed: what their journal holds is seen, as their own kernel would see it.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod disk_support;

use disk_support::{
    Fingerprint, IDENTITY, Mounted, assert_same, commit, image_fingerprint, open, run, tree_fingerprint,
    usable,
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};
use tine_model::ByteSize;
use tine_store::disk::{self, Image};

struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A disk as `make` makes it.
    fn ours() -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.path("tree")).unwrap();
        disk::make(&disk.path("tree"), &disk.path("disk"), ByteSize::mib(128), IDENTITY).unwrap();
        disk
    }

    /// One with the smallest journal, so that it soon begins again at its begin.
    fn with(features: &str, journal: &str) -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        File::create(disk.path("disk")).unwrap().set_len(128 << 20).unwrap();
        let options = ["-q", "-F", "-b", "4096", "-J", journal, "-O", features];
        run("mkfs.ext4", &[&options[..], &[disk.path("disk").to_str().unwrap()]].concat());
        disk
    }

    fn mount(&self, options: &str) -> Mounted {
        Mounted::new(&self.path("disk"), &self.path("mount"), options)
    }

    /// The disk as it is at this moment, with all that was synced and nothing that was not.
    fn killed(&self) -> PathBuf {
        let (from, to) = (self.path("disk"), self.path("killed"));
        let _ = fs::remove_file(&to);
        run("cp", &["--sparse=always", from.to_str().unwrap(), to.to_str().unwrap()]);
        to
    }

    /// A line of what `dumpe2fs` says of the killed disk.
    fn header(&self, name: &str) -> String {
        let header = run("dumpe2fs", &["-h", self.path("killed").to_str().unwrap()]);
        header.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    }

    /// What is seen with the journal, after fsck has replayed it, and without it; notes where the journal begins.
    fn seen(&self, begins: &mut Vec<u32>) -> (Fingerprint, Fingerprint, Option<Fingerprint>) {
        let killed = self.killed();
        begins.push(self.header("Journal start:").parse().unwrap());
        assert!(self.header("Filesystem features:").contains("needs_recovery"), "there is nothing to replay");
        let ours = image_fingerprint(&open(&killed));
        let copy = self.path("copy");
        fs::copy(&killed, &copy).unwrap();
        run("debugfs", &["-w", "-R", "feature -needs_recovery", copy.to_str().unwrap()]);
        let without = std::panic::catch_unwind(|| image_fingerprint(&open(&copy))).ok();
        let fsck = std::process::Command::new("e2fsck").arg("-fp").arg(&killed).output().unwrap();
        assert!(fsck.status.code().is_some_and(|code| code <= 1), "{fsck:?}");
        (ours, image_fingerprint(&open(&killed)), without)
    }
}

/// Makes, moves and removes directories and files, so that blocks of directories become blocks of files.
fn churn(root: &Path, round: usize) {
    let dir = |n: usize| root.join(format!("d{}", n % 7));
    let _ = fs::remove_dir_all(dir(round));
    fs::create_dir(dir(round)).unwrap();
    for n in 0..60 {
        let below = dir(round).join(format!("{n}-{}", "n".repeat(n)));
        fs::create_dir(&below).unwrap();
        if n % 6 == 0 {
            fs::write(below.join("f"), format!("{round} {n}").repeat(n + round)).unwrap();
        }
    }
    let _ = fs::remove_dir_all(dir(round + 3));
    fs::write(root.join(format!("file{}", round % 5)), vec![round as u8; 200_000]).unwrap();
}

/// Looks at the disk now and then while it changes; gives where its journal began each time.
fn follows_the_journal(disk: &Disk, options: &str, rounds: usize) -> Vec<u32> {
    let (mount, mut differs, mut begins) = (disk.mount(options), 0, Vec::new());
    for round in 0..rounds {
        churn(mount.path(), round);
        commit(mount.path());
        if round % 4 == 3 {
            let (ours, fsck, without) = disk.seen(&mut begins);
            assert_same(&ours, &tree_fingerprint(mount.path()));
            assert_same(&fsck, &ours);
            differs += usize::from(without.is_none_or(|without| without != ours));
        }
    }
    assert!(differs > 0, "the journal made no difference");
    begins
}

#[test]
fn a_disk_of_ours_is_seen_as_after_recovery() {
    if usable() {
        follows_the_journal(&Disk::ours(), "rw", 8);
    }
}

#[test]
fn a_journal_that_went_round_is_read_across_its_end() {
    if usable() {
        let begins = follows_the_journal(&Disk::with("metadata_csum", "size=4"), "rw", 32);
        assert!(!begins.is_sorted(), "{begins:?}");
    }
}

#[test]
fn journals_without_checksums_and_with_narrow_numbers_are_read() {
    if usable() {
        follows_the_journal(&Disk::with("^metadata_csum,^64bit", "size=4"), "rw", 24);
    }
}

#[test]
fn content_in_the_journal_is_seen_even_where_it_looks_like_a_journal() {
    if !usable() {
        return;
    }
    let disk = Disk::ours();
    let mount = disk.mount("rw,data=journal");
    let mut block = vec![7; 4096];
    block[..4].copy_from_slice(&0xc03b_3998u32.to_be_bytes());
    fs::write(mount.path().join("escaped"), block.repeat(5)).unwrap();
    commit(mount.path());
    let (ours, fsck, without) = disk.seen(&mut Vec::new());
    assert_same(&ours, &tree_fingerprint(mount.path()));
    assert_same(&fsck, &ours);
    assert!(without.is_none_or(|without| without != ours));
}

#[test]
fn what_was_not_committed_is_not_seen() {
    if !usable() {
        return;
    }
    let disk = Disk::ours();
    let mount = disk.mount("rw,commit=300");
    fs::write(mount.path().join("synced"), "1").unwrap();
    commit(mount.path());
    let before = tree_fingerprint(mount.path());
    fs::write(mount.path().join("not-synced"), "2").unwrap();
    assert_same(&disk.seen(&mut Vec::new()).0, &before);
}

#[test]
fn a_damaged_journal_gives_an_answer_or_an_error() {
    if !usable() {
        return;
    }
    let disk = Disk::with("metadata_csum", "size=4");
    let stat = run("debugfs", &["-R", "blocks <8>", disk.path("disk").to_str().unwrap()]);
    let first: u64 = stat.split_whitespace().next().unwrap().parse().unwrap();
    let mount = disk.mount("rw");
    churn(mount.path(), 0);
    commit(mount.path());
    let killed = disk.killed();
    let file = File::options().read(true).write(true).open(&killed).unwrap();
    let mut journal = vec![0; 1 << 20];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut journal, first * 4096).unwrap();
    // the superblock, then the heads of the blocks of the log
    let places = (0..256).chain((1..50).flat_map(|block| [3, 7, 11, 17, 40].map(|n| block * 4096 + n)));
    let (mut refused, mut answered) = (0, 0);
    for at in places {
        let write = |byte| std::os::unix::fs::FileExt::write_all_at(&file, &[byte], first * 4096 + at as u64);
        write(!journal[at]).unwrap();
        match Image::open(file.try_clone().unwrap().into()) {
            Ok(image) => answered += usize::from(image.root().and_then(|root| image.names(&root)).is_ok()),
            Err(_) => refused += 1,
        }
        write(journal[at]).unwrap();
    }
    assert!(refused > 10 && answered > 10, "{refused} refused, {answered} answered");
}
