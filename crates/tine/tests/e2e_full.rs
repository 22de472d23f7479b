//! Full disks: wherever a pack is going, the error says what is full and what mends it, and nothing half-made stays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/packs.rs"]
mod packs;
mod support;

use packs::{make, make_beside, text};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};
use support::{Fixture, names};
use tine_pack::Layout;

/// A file system of so many MiB in a folder, until it is dropped.
struct Small(PathBuf);

impl Small {
    fn new(folder: PathBuf, mib: u64) -> Self {
        fs::create_dir(&folder).unwrap();
        let options = format!("size={mib}m");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tine-test"]).arg(&folder).output();
        assert!(done.unwrap().status.success());
        Self(folder)
    }

    fn names(&self) -> Vec<String> {
        names(&self.0)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

/// The document of an error: its code, what it says, and its hint.
fn refusal(f: &Fixture, args: &[&str]) -> (String, String, String) {
    let words = [&["--json"], args].concat();
    let done = f.run(&words);
    assert_eq!(done.code, 1, "{done:?}");
    let document: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    eprintln!("{args:?}: {document}");
    let word = |key: &str| document["error"][key].as_str().unwrap_or_default().to_owned();
    (word("code"), word("message"), word("hint"))
}

/// A pool with an image of so many MiB.
fn pool_with(mib: usize) -> Fixture {
    let f = Fixture::empty();
    f.ok(&["unpack", &make(&f.dir().join("image.tine.tar.zst"), Layout::V3, "image", mib, 1)]);
    f
}

/// Takes the room of a pool but for so many MiB; gives it back when the file is removed.
fn fill(f: &Fixture, left: u64) -> PathBuf {
    let folder = f.pool().join("downloads");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("filler");
    let file = File::create(&path).unwrap();
    let room = rustix::fs::statvfs(f.pool()).unwrap();
    let bytes = (room.f_bavail * room.f_frsize).saturating_sub(left << 20);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    file.sync_all().unwrap();
    path
}

#[test]
fn where_a_pack_is_written_to() {
    require!("btrfs");
    let f = pool_with(8);
    let small = Small::new(f.dir().join("small"), 4);
    for layout in ["v1", "v2", "v3"] {
        let out = text(&small.0.join("out.tar.zst"));
        let before = f.seen();
        let (code, message, hint) = refusal(&f, &["pack", "--tag", "image", "--format", layout, "-o", &out]);
        assert_ne!(code, "pool_full", "it is not the pool that is full");
        assert!(message.contains("write the pack") && message.contains("space"), "{message}");
        assert!(hint.contains("make room there"), "{hint}");
        f.assert_unchanged(&before);
        assert_eq!(small.names(), Vec::<String>::new());
    }
}

#[test]
fn where_a_pack_is_pushed_to() {
    require!("btrfs");
    let f = pool_with(8);
    let small = Small::new(f.dir().join("small"), 4);
    let before = f.seen();
    for target in [format!("file://{}/", small.0.display()), format!("file://{}/out", small.0.display())] {
        let (code, message, hint) = refusal(&f, &["push", "--tag", "image", &target]);
        assert_ne!(code, "pool_full");
        assert!(message.contains("space") && !hint.is_empty(), "{message} {hint}");
        f.assert_unchanged(&before);
        assert_eq!(small.names(), Vec::<String>::new());
    }
}

/// A hub on a small file system with a package in one version.
struct Hub {
    small: Small,
    path: PathBuf,
    name: String,
}

/// All that can be seen of a hub.
type HubSeen = (serde_json::Value, Vec<u8>, Vec<String>);

impl Hub {
    fn of(f: &Fixture) -> Self {
        let small = Small::new(f.dir().join("small"), 4);
        let path = small.0.join("hub");
        let name = text(&path);
        f.ok(&["hub", "init", &name]);
        let little = make(&f.dir().join("little.tine.tar.zst"), Layout::V3, "little", 1, 2);
        f.ok(&["hub", "add", &little, "o/little", "--hub", &name]);
        Self { small, path, name }
    }

    fn seen(&self, f: &Fixture) -> HubSeen {
        let report = f.json(&["hub", "verify", "--hub", &self.name]);
        let none = serde_json::json!([]);
        assert_eq!((&report["problems"], &report["unreferenced"]), (&none, &none));
        let registry = fs::read(self.path.join("registry.json")).unwrap();
        (f.json(&["hub", "list", "--hub", &self.name]), registry, names(&self.path))
    }
}

#[test]
fn a_hub_keeps_what_it_had() {
    require!("btrfs");
    let f = pool_with(8);
    let hub = Hub::of(&f);
    let (before, kept) = (f.seen(), hub.seen(&f));
    let large = text(&f.dir().join("image.tine.tar.zst"));
    let commands: [&[&str]; 3] = [
        &["hub", "add", &large, "o/large", "--hub", &hub.name],
        &["hub", "add", &large, "o/little@v2", "--hub", &hub.name],
        &["push", "--tag", "image", "o/little", "--hub", &hub.name],
    ];
    for command in commands {
        let (code, message, hint) = refusal(&f, command);
        assert_ne!(code, "pool_full");
        assert!(message.contains("space") && message.contains(&hub.name), "{message}");
        assert!(hint.contains("make room"), "{hint}");
        f.assert_unchanged(&before);
        assert_eq!(hub.seen(&f), kept);
    }
}

#[test]
fn a_hub_that_fills_up_at_any_step_of_adding_keeps_what_it_had() {
    require!("btrfs");
    let f = Fixture::empty();
    let hub = Hub::of(&f);
    let kept = hub.seen(&f);
    let less = make(&f.dir().join("less.tine.tar.zst"), Layout::V3, "less", 1, 3);
    let filler = hub.small.0.join("filler");
    // room for the pack, and for one page more each time: the note of what is put, the registry
    let needed = fs::metadata(&less).unwrap().len().div_ceil(4096);
    let fits = (0..20).position(|more| {
        let _ = fs::write(&filler, vec![1; 4 << 20]);
        let file = File::options().write(true).open(&filler).unwrap();
        file.set_len(file.metadata().unwrap().len() - (needed + more) * 4096).unwrap();
        let done = f.run(&["hub", "add", &less, "o/little", "--hub", &hub.name]);
        fs::remove_file(&filler).unwrap();
        if done.code != 0 {
            assert!(done.err.contains("space") && done.err.contains("hint: "), "{done:?}");
            assert_eq!(hub.seen(&f), kept, "{more}");
        }
        done.code == 0
    });
    assert!(fits.is_some_and(|more| more > 0), "{fits:?}");
    assert_eq!(hub.seen(&f).0[0]["version"], "v2");
}

#[test]
fn a_hub_is_not_half_made() {
    require!("btrfs");
    let f = Fixture::empty();
    let small = Small::new(f.dir().join("small"), 1);
    let filler = small.0.join("filler");
    let whole = fs::write(&filler, vec![1; 2 << 20]);
    assert!(whole.is_err());
    let hub = text(&small.0.join("hub"));
    let (_, message, hint) = refusal(&f, &["hub", "init", &hub]);
    assert!(message.contains("space") && !hint.is_empty(), "{message} {hint}");
    fs::remove_file(filler).unwrap();
    assert_eq!(f.ok(&["hub", "init", &hub]), format!("{hub}\n"));
}

#[test]
fn a_pool_in_which_a_pack_waits_to_be_pushed() {
    require!("btrfs");
    let f = pool_with(40);
    let out = f.dir().join("out");
    fs::create_dir(&out).unwrap();
    let filler = fill(&f, 20);
    let before = f.seen();
    let (code, message, hint) =
        refusal(&f, &["push", "--tag", "image", &format!("file://{}/", out.display())]);
    assert_eq!((code.as_str(), hint.as_str()), ("pool_full", "tine gc"), "{message}");
    f.assert_unchanged(&before);
    assert_eq!(names(&out), Vec::<String>::new());
    fs::remove_file(filler).unwrap();
    f.ok(&["push", "--tag", "image", &format!("file://{}/", out.display())]);
}

#[test]
fn a_disk_that_lies_beside_a_pack() {
    require!("btrfs");
    let f = Fixture::empty();
    let folder = f.dir().join("www");
    fs::create_dir(&folder).unwrap();
    let pack = make_beside(&folder.join("image.tine.tar.zst"), 60);
    let filler = fill(&f, 30);
    let before = f.seen();
    let url = format!("file://{pack}");
    for args in [["unpack", &pack], ["pull", &url]] {
        let (code, message, hint) = refusal(&f, &args);
        assert_eq!((code.as_str(), hint.as_str()), ("pool_full", "tine gc"), "{message}");
        f.assert_unchanged(&before);
    }
    fs::remove_file(filler).unwrap();
    f.ok(&["gc"]);
    support::eventually("there is room again", || f.run(&["unpack", &pack]).code == 0);
    f.check();
}
