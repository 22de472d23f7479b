//! `diff status` on real btrfs: the send stream, the walk and a plain oracle agree.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets an error has failed")]

mod diff_support;
mod random_tree;

use diff_support::Btrfs;
use random_tree::{Random, everything_in, make, new_name, remove};
use rustix::fs::XattrFlags;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink},
    },
    path::Path,
};
use tine_model::RawPath;
use tine_store::diff::{Changes, HiddenPaths, status_by_send, status_by_walk};
use tine_sys::tree::Tree;

fn mutate(random: &mut Random, root: &Path) {
    let all = everything_in(root);
    let path = random.pick(&all).clone();
    let meta = fs::symlink_metadata(&path).unwrap();
    let top = path == root;
    match random.below(14) {
        0..=2 => make(random, root),
        3 if !top => remove(&path),
        4 if meta.is_file() => fs::write(&path, format!("{}", random.below(5))).unwrap(),
        5 if meta.is_file() => {
            // the same content again, and the time put back
            let content = fs::read(&path).unwrap();
            fs::write(&path, content).unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(meta.modified().unwrap())
                .unwrap();
        }
        6 if meta.is_file() && meta.len() > 0 => {
            // other content of the same length, and the time put back
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.write_at(b"!", meta.len() / 2).unwrap();
            file.set_modified(meta.modified().unwrap()).unwrap();
        }
        7 | 8 if !top => {
            if let Some(to) = new_name(random, root).filter(|to| !to.starts_with(&path)) {
                fs::rename(&path, to).unwrap();
            }
        }
        9 if !meta.is_symlink() => {
            let mode = *random.pick(&[0o755, 0o700, 0o4755, 0o644]);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        10 => std::os::unix::fs::lchown(&path, Some(random.below(3) as u32), None).unwrap(),
        11 if meta.is_file() || meta.is_dir() => {
            let value = [random.below(3) as u8];
            rustix::fs::lsetxattr(&path, "user.t", &value, XattrFlags::empty()).unwrap();
        }
        12 if !meta.is_dir() => {
            if let Some(to) = new_name(random, root) {
                fs::hard_link(&path, to).unwrap();
            }
        }
        13 if !top => {
            // another type under the same name
            remove(&path);
            match random.below(3) {
                0 => fs::create_dir(&path).unwrap(),
                1 => symlink("elsewhere", &path).unwrap(),
                _ => fs::write(&path, "now a file").unwrap(),
            }
        }
        _ => {
            // two objects swap their names
            let other = random.pick(&all).clone();
            if !top && other != root && !other.starts_with(&path) && !path.starts_with(&other) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &path, rustix::fs::CWD, &other, flags).unwrap();
            }
        }
    }
}

/// Everything a difference is made of, by path.
fn described(root: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    for path in everything_in(root) {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut xattr = vec![0; 16];
        let read = rustix::fs::lgetxattr(&path, "user.t", &mut xattr).unwrap_or(0);
        let mut text =
            format!("{:o} {} {} {} {:?} ", meta.mode(), meta.uid(), meta.gid(), meta.rdev(), &xattr[..read])
                .into_bytes();
        if meta.is_file() {
            text.extend(fs::read(&path).unwrap());
        } else if meta.is_symlink() {
            text.extend(fs::read_link(&path).unwrap().as_os_str().as_bytes());
        } else {
            assert!(meta.is_dir() || meta.file_type().is_fifo() || meta.file_type().is_char_device());
        }
        let name = path.strip_prefix(root).unwrap();
        all.insert([b"/", name.as_os_str().as_bytes()].concat(), text);
    }
    all
}

fn oracle(older: &Path, newer: &Path) -> Changes {
    let (older, newer) = (described(older), described(newer));
    let raw = |path: &Vec<u8>| RawPath::new(path.clone());
    Changes {
        added: newer.keys().filter(|p| !older.contains_key(*p)).map(raw).collect(),
        modified: newer
            .iter()
            .filter(|(p, d)| older.get(*p).is_some_and(|o| o != *d))
            .map(|(p, _)| raw(p))
            .collect(),
        deleted: older.keys().filter(|p| !newer.contains_key(*p)).map(raw).collect(),
    }
}

#[test]
fn send_and_walk_say_what_a_plain_comparison_says() {
    let Some(fs) = Btrfs::new() else { return };
    let start = std::time::Instant::now();
    let mut rounds = 0;
    for seed in 1..=120u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let live = fs.subvolume("live");
        (0..40).for_each(|_| make(&mut random, &live));
        let older = fs.snapshot(&live, "older");
        let changes = 1 + random.below(30);
        (0..changes).for_each(|_| mutate(&mut random, &live));
        let newer = fs.snapshot(&live, "newer");
        let expected = oracle(&fs.root().join("older"), &fs.root().join("newer"));
        let hidden = HiddenPaths::none();
        let sent = status_by_send(&older, &newer, &hidden).unwrap().expect("the stream can be used");
        assert_eq!(sent, expected, "send, seed {seed}");
        assert_eq!(status_by_walk(&older, &newer, &hidden).unwrap(), expected, "walk, seed {seed}");
        ["live", "older", "newer"].iter().for_each(|name| fs.delete(name));
        rounds += 1;
        if start.elapsed().as_secs() > 20 {
            break;
        }
    }
    assert!(rounds >= 10, "only {rounds} rounds");
    eprintln!("{rounds} rounds");
}

fn changes(fs: &Btrfs, live: &Path, hidden: &HiddenPaths, change: impl FnOnce(&Path)) -> String {
    let older = fs.snapshot(live, "older");
    change(live);
    let newer = fs.snapshot(live, "newer");
    let sent = status_by_send(&older, &newer, hidden).unwrap().expect("the stream can be used");
    assert_eq!(status_by_walk(&older, &newer, hidden).unwrap(), sent);
    fs.delete("older");
    fs.delete("newer");
    let line =
        |mark: &str, paths: &[RawPath]| paths.iter().map(|p| format!("{mark} {p}\n")).collect::<String>();
    line("+", &sent.added) + &line("~", &sent.modified) + &line("-", &sent.deleted)
}

#[test]
fn times_alone_and_the_same_content_again_are_no_change() {
    let Some(fs) = Btrfs::new() else { return };
    let live = fs.subvolume("live");
    fs::write(live.join("f"), vec![1; 100_000]).unwrap();
    let found = changes(&fs, &live, &HiddenPaths::none(), |live| {
        fs::write(live.join("f"), vec![1; 100_000]).unwrap();
        fs::File::open(live.join("f")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::write(live.join("t"), "").unwrap();
        fs::remove_file(live.join("t")).unwrap();
    });
    assert_eq!(found, "");
}

#[test]
fn every_name_of_a_changed_file_shows() {
    let Some(fs) = Btrfs::new() else { return };
    let live = fs.subvolume("live");
    fs::create_dir(live.join("d")).unwrap();
    fs::write(live.join("d/one"), "1").unwrap();
    (0..400).for_each(|i| {
        fs::hard_link(live.join("d/one"), live.join(format!("link-with-a-long-name-{i:03}"))).unwrap()
    });
    fs::write(live.join("two"), "1").unwrap();
    fs::hard_link(live.join("two"), live.join("d/two")).unwrap();
    let few = changes(&fs, &live, &HiddenPaths::none(), |live| fs::write(live.join("two"), "2").unwrap());
    assert_eq!(few, "~ /d/two\n~ /two\n");
    // more names than the kernel tells at once: only a walk finds them
    let older = fs.snapshot(&live, "older");
    fs::write(live.join("d/one"), "2").unwrap();
    let newer = fs.snapshot(&live, "newer");
    assert_eq!(status_by_send(&older, &newer, &HiddenPaths::none()).unwrap(), None);
    let all = tine_store::diff::status(&older, &newer, &HiddenPaths::none()).unwrap();
    assert_eq!((all.modified.len(), all.added.len(), all.deleted.len()), (401, 0, 0));
}

#[test]
fn a_nested_subvolume_shows_as_the_directory_it_is_in_a_snapshot() {
    let Some(fs) = Btrfs::new() else { return };
    let live = fs.subvolume("live");
    fs::create_dir(live.join("d")).unwrap();
    let found = changes(&fs, &live, &HiddenPaths::none(), |_| drop(fs.subvolume("live/d/nested")));
    assert_eq!(found, "+ /d/nested\n");
    let found = changes(&fs, &live, &HiddenPaths::none(), |_| fs.delete("live/d/nested"));
    assert_eq!(found, "- /d/nested\n");
}

#[test]
fn mount_points_and_what_was_made_for_them_never_show() {
    let Some(fs) = Btrfs::new() else { return };
    let live = fs.subvolume("live");
    fs::create_dir(live.join("srv")).unwrap();
    symlink("srv/data", live.join("link")).unwrap();
    let hidden = HiddenPaths::of_container(&["v=/a/b/data".parse().unwrap(), "w=/link".parse().unwrap()]);
    let found = changes(&fs, &live, &hidden, |live| {
        for dir in ["home/u", "homework", "box/proj", "box/bin", "box/all", "a/b/data/x", "srv/data/y"] {
            fs::create_dir_all(live.join(dir)).unwrap();
        }
    });
    assert_eq!(found, "+ /homework\n");
    let found = changes(&fs, &live, &hidden, |live| fs::write(live.join("a/own"), "").unwrap());
    assert_eq!(found, "+ /a/own\n");
    let found = changes(&fs, &live, &hidden, |live| {
        fs::remove_dir_all(live.join("a")).unwrap();
        fs::remove_dir_all(live.join("box")).unwrap();
    });
    assert_eq!(found, "- /a\n- /a/own\n");
}

#[test]
fn sparse_giants_take_no_time() {
    let Some(fs) = Btrfs::new() else { return };
    let live = fs.subvolume("live");
    let giant = fs::File::create(live.join("giant")).unwrap();
    giant.set_len(1 << 60).unwrap();
    giant.write_at(b"here", 1 << 50).unwrap();
    let found = changes(&fs, &live, &HiddenPaths::none(), |live| {
        let giant = fs::File::options().write(true).open(live.join("giant")).unwrap();
        giant.write_at(b"here", 1 << 50).unwrap();
    });
    assert_eq!(found, "");
    let found = changes(&fs, &live, &HiddenPaths::none(), |live| {
        let giant = fs::File::options().write(true).open(live.join("giant")).unwrap();
        giant.write_at(b"x", 1 << 55).unwrap();
    });
    assert_eq!(found, "~ /giant\n");
}

#[test]
fn trees_that_are_no_relatives_and_no_subvolumes_are_walked() {
    let Some(fs) = Btrfs::new() else { return };
    let (a, b) = (fs.subvolume("a"), fs.subvolume("b"));
    fs::write(a.join("f"), "1").unwrap();
    fs::write(b.join("f"), "2").unwrap();
    chown(&b, Some(1), None).unwrap();
    for (older, newer) in
        [(fs.snapshot(&a, "x"), fs.snapshot(&b, "y")), (Tree::open(&a).unwrap(), Tree::open(&b).unwrap())]
    {
        let found = tine_store::diff::status(&older, &newer, &HiddenPaths::none()).unwrap();
        let modified: Vec<String> = found.modified.iter().map(ToString::to_string).collect();
        assert_eq!((modified, found.added.len(), found.deleted.len()), (vec!["/".into(), "/f".into()], 0, 0));
    }
}
