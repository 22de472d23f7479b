//! Stretches of real files.

use crate::support::{Random, noise};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};
use tine_pack::pages::{Stretch, Stretches, changed, stored};

const PAGE: usize = 4096;

/// Both files and their contents: random pages set, some to zero, of `pages` pages and a bit.
fn random_file(seed: u64, pages: u64, length: usize) -> (File, Vec<u8>) {
    let mut random = Random(seed * 2 + 1);
    let file = tempfile::tempfile().unwrap();
    let mut content = vec![0; length];
    while random.below(40) != 0 {
        let first = random.below(pages) as usize * PAGE;
        let end = (first + (1 + random.below(100)) as usize * PAGE).min(length);
        let byte = [0, 0, 7, 8][random.below(4) as usize];
        if first < end {
            content[first..end].fill(byte);
            // pages that begin with zeros, and end with something or not at all
            let zeros = [0, 0, 1, 64, PAGE - 1, PAGE][random.below(6) as usize];
            content[first..end].chunks_mut(PAGE).step_by(2).for_each(|page| {
                let zeros = zeros.min(page.len());
                page[..zeros].fill(0);
            });
            file.write_all_at(&content[first..end], first as u64).unwrap();
        }
    }
    file.set_len(length as u64).unwrap();
    (file, content)
}

/// The pages that `different` names, as stretches.
fn expected(length: usize, different: impl Fn(usize) -> bool) -> Stretches {
    let mut stretches: Stretches = Vec::new();
    for page in (0..length.div_ceil(PAGE)).filter(|page| different(*page)) {
        let (offset, end) = ((page * PAGE) as u64, ((page + 1) * PAGE).min(length) as u64);
        match stretches.last_mut() {
            Some(last) if last.offset + last.length == offset => last.length = end - last.offset,
            _ => stretches.push(Stretch { offset, length: end - offset }),
        }
    }
    stretches
}

fn page(content: &[u8], page: usize, length: usize) -> Vec<u8> {
    let end = ((page + 1) * PAGE).min(length);
    (page * PAGE..end).map(|at| content.get(at).copied().unwrap_or(0)).collect()
}

#[test]
fn what_is_not_zero_is_stored() {
    for seed in 0..60 {
        let length = [0, 1, PAGE, 300 * PAGE, 1000 * PAGE + 17, 1000 * PAGE - 1][seed as usize % 6];
        let (file, content) = random_file(seed, 1000, length);
        let found = stored(&file).unwrap();
        assert_eq!(found, expected(length, |n| page(&content, n, length).iter().any(|b| *b != 0)), "{seed}");
    }
}

#[test]
fn what_differs_from_the_parent_is_stored_whatever_their_lengths() {
    let lengths = [0, PAGE / 2, 500 * PAGE + 1, 500 * PAGE + 2, 1000 * PAGE, 700 * PAGE - 5];
    for seed in 0..72_usize {
        let (ours, theirs) = (lengths[seed % 6], lengths[seed / 6 % 6]);
        let (file, content) = random_file(seed as u64, 1000, ours);
        let (parent, had) = random_file(seed as u64 + 500, 1000, theirs);
        let differs = |n| page(&content, n, ours) != page(&had, n, ours);
        assert_eq!(changed(&file, &parent).unwrap(), expected(ours, differs), "{seed}");
    }
}

#[test]
fn a_file_does_not_differ_from_itself_and_is_all_new_to_an_empty_one() {
    let (file, _) = random_file(3, 1000, 1000 * PAGE + 1);
    let empty = tempfile::tempfile().unwrap();
    assert_eq!(changed(&file, &file).unwrap(), []);
    assert_eq!(changed(&file, &empty).unwrap(), stored(&file).unwrap());
}

#[test]
fn what_a_clone_shares_is_not_read_and_what_was_written_to_it_is_found() {
    let Some(pool) = Btrfs::new() else { return };
    let (parent, file) = (pool.dir.path().join("pool/parent"), pool.dir.path().join("pool/file"));
    fs::write(&parent, noise(600 * PAGE, 5)).unwrap();
    let parent = File::open(&parent).unwrap();
    let file = File::create_new(&file).unwrap();
    rustix::fs::ioctl_ficlone(&file, &parent).unwrap();
    let before = bytes_read();
    // so little is looked at by this thread alone
    assert_eq!(changed(&File::open(pool.dir.path().join("pool/file")).unwrap(), &parent).unwrap(), []);
    assert!(bytes_read() - before < 4 * PAGE as u64);
    let file = File::options().read(true).write(true).open(pool.dir.path().join("pool/file")).unwrap();
    file.write_all_at(&[0; PAGE], 20 * PAGE as u64).unwrap();
    file.write_all_at(b"x", 333 * PAGE as u64 + 5).unwrap();
    file.write_all_at(b"y", 5000 * PAGE as u64).unwrap();
    let stretch = |page: u64, length: u64| Stretch { offset: page * PAGE as u64, length };
    let whole = PAGE as u64;
    let expected = [stretch(20, whole), stretch(333, whole), stretch(5000, 1)];
    // before it is on the disk and after
    for _ in 0..2 {
        assert_eq!(changed(&file, &parent).unwrap(), expected);
        file.sync_all().unwrap();
    }
}

/// What this thread has read of files so far, in bytes.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// A btrfs in a file, mounted at `pool` in a temporary directory.
struct Btrfs {
    dir: tempfile::TempDir,
}

impl Btrfs {
    /// None, said loudly, where there is no root or btrfs; fails where `TINE_REQUIRE` names `btrfs`.
    fn new() -> Option<Self> {
        let usable = rustix::process::geteuid().is_root()
            && Path::new("/dev/loop-control").exists()
            && Path::new("/usr/sbin/mkfs.btrfs").exists();
        let required = std::env::var("TINE_REQUIRE").is_ok_and(|v| v.split(',').any(|w| w == "btrfs"));
        assert!(usable || !required, "TINE_REQUIRE names btrfs, and it cannot be used here");
        if !usable {
            eprintln!("SKIPPED: needs root, loop devices and mkfs.btrfs");
            return None;
        }
        let pool = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(pool.dir.path().join("pool")).unwrap();
        File::create(pool.dir.path().join("image")).unwrap().set_len(256 << 20).unwrap();
        pool.run("mkfs.btrfs", &["-q", "image"]);
        pool.run("mount", &["-o", "loop", "image", "pool"]);
        Some(pool)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).current_dir(&self.dir).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", "pool"]).current_dir(&self.dir).status();
    }
}
