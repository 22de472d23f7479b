//! `diff` between disk images: the same answer as between the trees they were made from, or that the kernel shows.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[expect(dead_code, reason = "images need no subvolumes")]
mod diff_support;
mod disk_support;
mod random_tree;

use diff_support::Btrfs;
use disk_support::{Mounted, commit, image_of, open, run, usable};
use random_tree::{Random, everything_in, make, new_name, remove};
use rustix::fs::XattrFlags;
use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::Path,
};
use tine_model::{DiffFile, Error, ErrorCode, FileStatus, RawPath};
use tine_store::diff::{Changes, HiddenPaths, disk_file, disk_status, file, status_by_walk};
use tine_sys::tree::Tree;

fn mutate(random: &mut Random, root: &Path) {
    let all = everything_in(root);
    let path = random.pick(&all).clone();
    let meta = fs::symlink_metadata(&path).unwrap();
    let top = path == root;
    match random.below(13) {
        0 | 1 => make(random, root),
        2 if !top => remove(&path),
        3 if meta.is_file() => fs::write(&path, format!("{}", random.below(5))).unwrap(),
        4 if meta.is_file() && meta.len() > 0 => {
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_at(b"!", meta.len() / 2).unwrap();
        }
        5 if meta.is_file() && meta.len() > 0 => {
            // zeros where there was a hole, or a hole where there were zeros
            let content = fs::read(&path).unwrap();
            remove(&path);
            let file = fs::File::create(&path).unwrap();
            file.set_len(meta.len()).unwrap();
            let dense = random.below(2) == 0;
            for (n, piece) in
                content.chunks(4096).enumerate().filter(|(_, p)| dense || p.iter().any(|b| *b != 0))
            {
                file.write_at(piece, n as u64 * 4096).unwrap();
            }
        }
        6 if !top => {
            if let Some(to) = new_name(random, root).filter(|to| !to.starts_with(&path)) {
                fs::rename(&path, to).unwrap();
            }
        }
        7 if !meta.is_symlink() => {
            let mode = *random.pick(&[0o755, 0o700, 0o4755, 0o644]);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        8 => std::os::unix::fs::lchown(&path, Some(random.below(3) as u32), None).unwrap(),
        9 if meta.is_file() || meta.is_dir() => {
            let value = vec![random.below(3) as u8; *random.pick(&[1, 300])];
            rustix::fs::lsetxattr(&path, "user.t", &value, XattrFlags::empty()).unwrap();
        }
        10 if meta.is_file() => {
            if let Some(to) = new_name(random, root) {
                fs::hard_link(&path, to).unwrap();
            }
        }
        11 if !top => {
            // another type under the same name
            remove(&path);
            match random.below(3) {
                0 => fs::create_dir(&path).unwrap(),
                1 => symlink("elsewhere", &path).unwrap(),
                _ => fs::write(&path, "now a file").unwrap(),
            }
        }
        _ => {
            // preallocated beyond the end, which nobody sees
            if meta.is_file() {
                let file = fs::File::options().write(true).open(&path).unwrap();
                let _ = rustix::fs::fallocate(
                    &file,
                    rustix::fs::FallocateFlags::KEEP_SIZE,
                    0,
                    meta.len() + 50_000,
                );
            }
        }
    }
}

fn by_trees(older: &Path, newer: &Path) -> Changes {
    let (older, newer) = (Tree::open(older).unwrap(), Tree::open(newer).unwrap());
    status_by_walk(&older, &newer, &HiddenPaths::none()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    run("cp", &["-a", "--sparse=auto", from.to_str().unwrap(), to.to_str().unwrap()]);
}

#[test]
fn images_of_random_trees_differ_as_the_trees_do() {
    if !usable() {
        return;
    }
    let (start, mut rounds, mut changes) = (std::time::Instant::now(), 0, 0);
    for seed in 1..=60u64 {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        fs::create_dir(path("old")).unwrap();
        (0..25).for_each(|_| make(&mut random, &path("old")));
        copy(&path("old"), &path("new"));
        (0..12).for_each(|_| mutate(&mut random, &path("new")));
        let (older, newer) = (image_of(&path("old"), &path("1")), image_of(&path("new"), &path("2")));
        let expected = by_trees(&path("old"), &path("new"));
        assert_eq!(disk_status(&older, &newer).unwrap(), expected, "seed {seed}");
        assert_eq!(disk_status(&older, &open(&path("1"))).unwrap(), Changes::default());
        files_too(&expected, &dir);
        (rounds, changes) = (rounds + 1, changes + expected.modified.len());
        if start.elapsed().as_secs() > 20 {
            break;
        }
    }
    assert!(rounds >= 5 && changes >= rounds, "{changes} changes in {rounds} rounds");
    eprintln!("{rounds} rounds, {changes} changes");
}

/// `diff file` gives the same answer, or the same refusal, for each path.
fn files_too(changes: &Changes, dir: &tempfile::TempDir) {
    let path = |name: &str| dir.path().join(name);
    let trees = (Tree::open(&path("old")).unwrap(), Tree::open(&path("new")).unwrap());
    let images = (open(&path("1")), open(&path("2")));
    let odd = ["/", "", "a/../b", "nowhere", "a/b", "./a", "/lost", "c/..", "dir/../../a"].map(RawPath::new);
    let code = |answer: Result<DiffFile, tine_store::StoreError>| answer.map_err(|e| Error::from(e).code);
    for path in changes.added.iter().chain(&changes.modified).chain(&changes.deleted).chain(&odd) {
        let expected = code(file(&trees.0, &trees.1, path, &HiddenPaths::none()));
        assert_eq!(code(disk_file(&images.0, &images.1, path)), expected, "{path}");
    }
}

#[test]
fn clones_of_one_image_that_a_kernel_changed_differ_as_the_kernel_shows_them() {
    let Some(fs) = Btrfs::new().filter(|_| usable()) else { return };
    let (tree, mut random) = (fs.root().join("tree"), Random(7));
    fs::create_dir(&tree).unwrap();
    (0..40).for_each(|_| make(&mut random, &tree));
    fs::write(tree.join("large"), (0..3_000_000u32).map(|n| (n / 7) as u8).collect::<Vec<u8>>()).unwrap();
    let path = |name: &str| fs.root().join(name);
    let clone = |from: &str, to: &str| {
        run("cp", &["--reflink=always", path(from).to_str().unwrap(), path(to).to_str().unwrap()]);
    };
    image_of(&tree, &path("1"));
    let mut changes = 0;
    for round in 0..6 {
        clone("1", "2");
        let changed = Mounted::new(&path("2"), &path("changed"), "rw");
        (0..15).for_each(|_| mutate(&mut random, changed.path()));
        commit(changed.path());
        // as the machine is killed: the journal is full, and the disk older than it
        clone("2", "killed");
        clone("1", "before");
        let unchanged = Mounted::new(&path("before"), &path("unchanged"), "ro");
        // where a file lies says nothing about files of different mounts
        copy(unchanged.path(), &path("old"));
        copy(changed.path(), &path("new"));
        drop((changed, unchanged));
        let expected = by_trees(&path("old"), &path("new"));
        changes += expected.modified.len() + expected.added.len() + expected.deleted.len();
        for (name, newer) in [("unmounted", "2"), ("killed", "killed")] {
            let found = disk_status(&open(&path("1")), &open(&path(newer))).unwrap();
            assert_eq!(found, expected, "{name} in round {round}");
        }
        assert_eq!(disk_status(&open(&path("2")), &open(&path("killed"))).unwrap(), Changes::default());
        ["old", "new"].iter().for_each(|name| fs::remove_dir_all(path(name)).unwrap());
        ["1", "killed", "before"].iter().for_each(|name| fs::remove_file(path(name)).unwrap());
        fs::rename(path("2"), path("1")).unwrap();
    }
    assert!(changes > 30, "{changes}");
}

#[test]
fn a_file_of_an_image_is_shown_as_one_of_a_tree_is() {
    if !usable() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, text) in [("old", "a\nb\n"), ("new", "a\nc\n")] {
        fs::create_dir_all(path(name).join("home/d")).unwrap();
        fs::write(path(name).join("home/d/f"), text).unwrap();
        fs::write(path(name).join("big"), vec![b'x'; (1 << 20) + 1]).unwrap();
        symlink("/home/d", path(name).join("link")).unwrap();
        symlink("loop", path(name).join("loop")).unwrap();
    }
    let (older, newer) = (image_of(&path("old"), &path("1")), image_of(&path("new"), &path("2")));
    let file = |asked: &str| disk_file(&older, &newer, &RawPath::new(asked)).map_err(|e| Error::from(e).code);
    let found = file("link/../d/./f").unwrap();
    assert_eq!((found.path.to_string().as_str(), found.status), ("/home/d/f", FileStatus::Modified));
    assert_eq!(found.diff.unwrap(), "--- a/home/d/f\n+++ b/home/d/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
    assert_eq!(file("/loop").unwrap().status, FileStatus::Unchanged);
    assert_eq!(file("/loop/x"), Err(ErrorCode::InvalidPath));
    assert_eq!(file("/home/d"), Err(ErrorCode::InvalidPath));
    assert_eq!(file("/link/nothing"), Err(ErrorCode::NotFound));
    assert_eq!(file("/big"), Err(ErrorCode::TooLarge));
}
