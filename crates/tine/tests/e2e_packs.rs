//! Packs into a pool and out of it again, tags, disks that lie beside, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/packs.rs"]
mod packs;
mod support;

use packs::{BESIDE, DISK, V1, V2, contents, make, make_chain, make_promising, manifest, sample, text};
use rustix::process::{WaitId, WaitIdOptions};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};
use support::Fixture;
use tine_pack::Layout;

#[test]
fn a_pack_of_others_comes_out_as_it_came_in() {
    require!("btrfs");
    let f = Fixture::empty();
    let pack = sample(f.dir(), V1);
    let done = f.run(&["unpack", &pack]);
    assert_eq!((done.code, done.out.as_str()), (0, "v1-base\n"), "{done:?}");
    assert!(
        done.err.contains("verified and stored") && done.err.contains("tine image show v1-base"),
        "{done:?}"
    );
    let out = text(&f.dir().join("out.tar.zst"));
    let done = f.run(&["pack", "--tag", "v1-base", "-o", &out]);
    assert_eq!((done.code, done.out.as_str()), (0, format!("{out}\n").as_str()), "{done:?}");
    assert!(done.err.contains("layout v1") && done.err.contains(&format!("tine unpack {out}")), "{done:?}");
    assert_eq!(contents(&out), contents(&pack));
    for line in
        ["description = \"tiny v1 vector\"", "base_image = \"python:3.12-slim\"", "forkd_pack_version = 1"]
    {
        assert!(manifest(&out).contains(line), "{line}: {}", manifest(&out));
    }
    f.check();
}

/// Bytes that a command reads of files before it ends, wherever they come from; proc(5), `rchar`.
fn bytes_read(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(pid), ended).unwrap();
    let io = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).unwrap();
    assert!(child.wait().unwrap().success());
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
fn no_byte_is_read_a_second_time_to_be_verified() {
    require!("btrfs");
    let f = Fixture::empty();
    for layout in [Layout::V1, Layout::V3] {
        let pack = make(&f.dir().join(format!("{layout}.tar.zst")), layout, "image", 24, 1);
        let size = fs::metadata(&pack).unwrap().len();
        assert!(size > 24 << 20, "it is noise");
        // beside the pack, what a program reads when it starts; the 24 MiB that were written are not looked at again
        let read = bytes_read(f.command(&["unpack", &pack]));
        assert!((size..size + (2 << 20)).contains(&read), "{layout}: {read} of {size}");
        // nor when it is packed again, for the digest that a pack of the first layout declares
        let again = text(&f.dir().join("again.tar.zst"));
        let read = bytes_read(f.command(&["pack", "--tag", "image", "-o", &again]));
        assert!((24 << 20..26 << 20).contains(&read), "packing {layout}: {read}");
        fs::remove_file(again).unwrap();
        f.ok(&["image", "delete", "image", "--yes"]);
    }
}

#[test]
fn a_pack_goes_through_our_layout_and_back() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let first = sample(f.dir(), V1);
    f.ok(&["unpack", &first]);
    let ours = text(&f.dir().join("ours.tine.tar.zst"));
    assert_eq!(f.json(&["pack", "--tag", "v1-base", "--format", "v3", "-o", &ours])["layout"], "v3");
    let report = g.json(&["unpack", &ours]);
    assert_eq!((&report["layout"], &report["images"][0]["image"]["tag"]), (&"v3".into(), &"v1-base".into()));
    let back = text(&g.dir().join("back.tar.zst"));
    g.ok(&["pack", "--tag", "v1-base", "--format", "v1", "-o", &back]);
    assert_eq!(contents(&back), contents(&first));
    for fact in ["memory_digest", "vmstate_digest", "disk_digest", "description", "created_at"] {
        assert_eq!(f.fact("v1-base", fact), g.fact("v1-base", fact), "{fact}");
    }
    f.check();
    g.check();
}

#[test]
fn a_pack_is_named_after_its_image_in_the_working_directory() {
    require!("btrfs");
    let f = Fixture::empty();
    f.ok(&["unpack", &sample(f.dir(), V1)]);
    for (format, name) in [("v1", "v1-base.forkd-snapshot.tar.zst"), ("v3", "v1-base.tine.tar.zst")] {
        let folder = f.dir().join(format);
        fs::create_dir(&folder).unwrap();
        let mut command = f.command(&["pack", "--tag", "v1-base", "--format", format]);
        let output = command.current_dir(&folder).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{name}\n"));
        assert_eq!(support::names(&folder), [name]);
    }
}

#[test]
fn a_chain_becomes_an_image_for_each_link_and_a_chain_again() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let pack = sample(f.dir(), V2);
    assert_eq!(f.ok(&["unpack", &pack]), "py-base\npy-numpy\npy-pandas\n");
    assert_eq!(
        (f.fact("py-pandas", "parent"), f.fact("py-numpy", "parent")),
        ("py-numpy".into(), "py-base".into())
    );
    let again = text(&f.dir().join("again.tar.zst"));
    let report = f.json(&["pack", "--tag", "py-pandas", "-o", &again]);
    assert_eq!((&report["layout"], report["images"].as_array().unwrap().len()), (&"v2".into(), 3));
    assert_eq!(contents(&again), contents(&pack));
    let ours = text(&f.dir().join("ours.tar.zst"));
    f.ok(&["pack", "--tag", "py-pandas", "--format", "v3", "-o", &ours]);
    assert_eq!(g.ok(&["unpack", &ours]), "py-base\npy-numpy\npy-pandas\n");
    let last = text(&g.dir().join("last.tar.zst"));
    g.ok(&["pack", "--tag", "py-pandas", "--format", "v2", "-o", &last]);
    assert_eq!(contents(&last), contents(&pack));
    let middle = text(&g.dir().join("middle.tar.zst"));
    assert_eq!(g.json(&["pack", "--tag", "py-numpy", "-o", &middle])["images"].as_array().unwrap().len(), 2);
    f.check();
    g.check();
}

#[test]
fn a_head_alone_leaves_its_ancestors_behind_in_the_first_layout() {
    require!("btrfs");
    let f = Fixture::empty();
    let pack = sample(f.dir(), V2);
    f.ok(&["unpack", &pack]);
    let alone = text(&f.dir().join("alone.tar.zst"));
    f.ok(&["pack", "--tag", "py-pandas", "--format", "v1", "-o", &alone]);
    let (all, one) = (contents(&pack), contents(&alone));
    assert_eq!(
        (&one["memory.bin"], &one["vmstate"]),
        (&all["py-pandas/memory.bin"], &all["py-pandas/vmstate"])
    );
    let g = Fixture::empty();
    assert_eq!(g.ok(&["unpack", &alone]), "py-pandas\n");
    assert_eq!(g.fact("py-pandas", "memory_digest"), f.fact("py-pandas", "memory_digest"));
}

#[test]
fn a_disk_that_does_not_lie_beside_is_named_with_a_hint() {
    require!("btrfs");
    let f = Fixture::empty();
    let pack = sample(&f.dir().join("in"), BESIDE);
    let message = f.leaves_all("not_found", &["unpack", &pack]);
    assert!(message.contains(DISK) && message.contains("does not lie beside"), "{message}");
    let done = f.run(&["unpack", &pack]);
    assert!(done.err.contains("\nhint: fetch it"), "{done:?}");
    fs::write(f.dir().join("in").join(DISK), b"something else").unwrap();
    f.leaves_all("invalid_input", &["unpack", &pack]);
    fs::write(f.dir().join("in").join(DISK), zstd::encode_all(&[7u8; 262_144][..], 3).unwrap()).unwrap();
    f.leaves_all("corrupt", &["unpack", &pack]);
    sample(&f.dir().join("in"), DISK);
    assert_eq!(f.ok(&["unpack", &pack]), "v1-sidecar\n");
    assert_eq!(f.fact("v1-sidecar", "has_rootfs"), true);
    f.check();
}

#[test]
fn a_disk_beside_goes_beside_again_and_into_our_layout() {
    require!("btrfs");
    let (f, g) = (Fixture::empty(), Fixture::empty());
    let pack = sample(f.dir(), BESIDE);
    let disk = sample(f.dir(), DISK);
    f.ok(&["unpack", &pack]);
    let out = f.dir().join("out");
    fs::create_dir(&out).unwrap();
    let (again, ours) = (text(&out.join("again.tar.zst")), text(&out.join("ours.tar.zst")));
    let done = f.run(&["pack", "--tag", "v1-sidecar", "-o", &again]);
    assert!(done.code == 0 && done.err.contains(DISK), "{done:?}");
    assert_eq!(support::names(&out), [DISK, "again.tar.zst"]);
    let plain = |path: &Path| zstd::decode_all(fs::File::open(path).unwrap()).unwrap();
    assert_eq!((contents(&again), plain(&out.join(DISK))), (contents(&pack), plain(Path::new(&disk))));
    f.ok(&["pack", "--tag", "v1-sidecar", "--format", "v3", "-o", &ours]);
    assert_eq!(contents(&ours)["rootfs.ext4"], plain(Path::new(&disk)));
    assert_eq!(g.ok(&["unpack", &ours]), "v1-sidecar\n");
    assert_eq!(f.fact("v1-sidecar", "disk_digest"), g.fact("v1-sidecar", "disk_digest"));
}

/// Where the extents of a file lie on the disk.
fn extents(path: &Path) -> Vec<String> {
    let out = std::process::Command::new("filefrag").args(["-v", "-s"]).arg(path).output().unwrap();
    let lines = String::from_utf8_lossy(&out.stdout).into_owned();
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(':').map(str::trim).collect();
        (fields.len() > 3 && fields[0].parse::<u32>().is_ok()).then(|| fields[2].to_owned())
    };
    lines.lines().filter_map(row).collect()
}

fn disks(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(disks(&entry.path()));
        } else if entry.metadata().unwrap().len() == 262_144 {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_disk_that_another_image_has_is_shared_and_not_asked_for() {
    require!("btrfs");
    let f = Fixture::empty();
    let pack = sample(&f.dir().join("in"), BESIDE);
    let disk = sample(&f.dir().join("in"), DISK);
    f.ok(&["unpack", &pack]);
    fs::remove_file(disk).unwrap();
    assert_eq!(f.ok(&["unpack", &pack, "--tag", "second"]), "second\n");
    assert_eq!(f.fact("second", "disk_digest"), f.fact("v1-sidecar", "disk_digest"));
    let disks = disks(&f.pool().join("images"));
    assert_eq!(disks.len(), 2, "{disks:?}");
    let places: Vec<_> = disks.iter().map(|disk| extents(disk)).collect();
    assert!(!places[0].is_empty() && places[0] == places[1], "{places:?}");
    f.ok(&["image", "delete", "v1-sidecar", "--yes"]);
    f.ok(&["pack", "--tag", "second", "--format", "v3", "-o", &text(&f.dir().join("second.tar.zst"))]);
    f.check();
}

#[test]
fn a_taken_tag_is_refused_and_replaced_only_by_force() {
    require!("btrfs");
    let f = Fixture::empty();
    let one = make(&f.dir().join("one.tar.zst"), Layout::V3, "t", 1, 1);
    let two = make(&f.dir().join("two.tar.zst"), Layout::V3, "t", 1, 2);
    f.ok(&["unpack", &one]);
    let first = f.fact("t", "memory_digest");
    let message = f.leaves_all("already_exists", &["unpack", &two]);
    assert!(message.contains('t'), "{message}");
    assert!(f.fails(1, &["unpack", &two]).contains("--force"));
    assert_eq!(f.fact("t", "memory_digest"), first);
    assert_eq!(f.ok(&["unpack", &two, "--tag", "u"]), "u\n");
    assert_eq!(f.ok(&["unpack", &two, "--force"]), "t\n");
    assert_eq!(
        (f.fact("t", "memory_digest"), f.tags()),
        (f.fact("u", "memory_digest"), vec!["t".into(), "u".into()])
    );
    f.ok(&["unpack", &two, "--force"]);
    assert_eq!(f.staging(), Vec::<String>::new());
    f.check();
}

#[test]
fn one_tag_for_several_images_is_ambiguous() {
    require!("btrfs");
    let f = Fixture::empty();
    let message = f.leaves_all("usage", &["unpack", &sample(f.dir(), V2), "--tag", "mine"]);
    assert!(message.contains("3 images") && message.contains("ambiguous"), "{message}");
}

#[test]
fn parents_that_are_here_are_used_and_others_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    for layout in [Layout::V2, Layout::V3] {
        let name = |what: &str| f.dir().join(format!("{what}-{layout:?}.tar.zst"));
        let base = make_chain(&name("base"), layout, &["root", "mid"], 4, 1);
        let long = make_chain(&name("long"), layout, &["root", "mid", "leaf"], 4, 1);
        f.ok(&["unpack", &base]);
        let ids = (f.fact("root", "id"), f.fact("mid", "id"));
        let report = f.json(&["unpack", &long]);
        let reused: Vec<_> =
            report["images"].as_array().unwrap().iter().map(|i| i["reused"].clone()).collect();
        assert_eq!(reused, [true, true, false], "{layout:?}");
        assert_eq!((f.fact("root", "id"), f.fact("mid", "id")), ids);
        // the same ancestor's name for another image
        f.ok(&["image", "delete", "leaf", "--yes"]);
        let other = make_chain(&name("other"), layout, &["root", "mid", "leaf"], 4, 7);
        let message = f.leaves_all("already_exists", &["unpack", &other]);
        assert!(message.contains("root"), "{message}");
        f.ok(&["image", "delete", "mid", "--yes"]);
        f.ok(&["image", "delete", "root", "--yes"]);
        f.check();
    }
}

#[test]
fn a_contract_for_another_memory_is_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let pack = f.dir().join("p.tine.tar.zst");
    for promised in [0, 2, 1 << 20] {
        let message = f.leaves_all("invalid_input", &["unpack", &make_promising(&pack, promised)]);
        assert!(message.contains("1.0 MiB") && message.contains("contract"), "{message}");
    }
    assert_eq!(f.ok(&["unpack", &make_promising(&pack, 1)]), "image\n");
    assert_eq!(f.fact("image", "contract")["memory_bytes"], 1 << 20);
}

#[test]
fn what_is_no_pack_is_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let (missing, folder) = (text(&f.dir().join("no-such.tar.zst")), text(f.dir()));
    assert!(f.leaves_all("not_found", &["unpack", &missing]).contains(&missing));
    let message = f.refuses("invalid_input", &["unpack", &folder]);
    assert!(message.contains("is a directory"), "{message}");
    for (name, content) in [("empty", &b""[..]), ("text", b"hello\n"), ("zeros", &[0; 5000])] {
        let file = f.file(name, content);
        let message = f.leaves_all("invalid_input", &["unpack", &text(&file)]);
        assert!(!message.is_empty());
    }
    assert_eq!(f.tags(), Vec::<String>::new());
}

#[test]
fn a_pack_that_is_cut_off_anywhere_leaves_nothing() {
    require!("btrfs");
    let f = Fixture::empty();
    let ours = make(&f.dir().join("ours.tar.zst"), Layout::V3, "ours", 2, 1);
    for pack in [sample(f.dir(), V1), sample(f.dir(), V2), ours] {
        let whole = fs::read(&pack).unwrap();
        for length in [1, whole.len() / 3, whole.len() / 2, whole.len() - 10, whole.len() - 1] {
            let cut = f.file("cut", &whole[..length]);
            f.leaves_all("invalid_input", &["unpack", &text(&cut)]);
        }
        let more = f.file("more", &[&whole[..], b"more"].concat());
        f.leaves_all("invalid_input", &["unpack", &text(&more)]);
    }
    assert_eq!(f.tags(), Vec::<String>::new());
}

#[test]
fn hostile_samples_are_refused() {
    require!("btrfs");
    let f = Fixture::empty();
    let samples = [
        ("b06-tag-traversal-v1.tar.zst", "invalid_input"),
        ("b16-sha-mismatch.tar.zst", "corrupt"),
        ("b28-symlink-entry.tar.zst", "invalid_input"),
    ];
    for (name, code) in samples {
        let message = f.leaves_all(code, &["unpack", &sample(f.dir(), name)]);
        assert!(!message.contains('\u{1b}'), "{message}");
    }
    assert_eq!(f.ok(&["unpack", &sample(f.dir(), "b00-control-ok.tar.zst")]), "victim\n");
    f.check();
}

#[test]
fn damage_anywhere_is_found() {
    require!("btrfs");
    let f = Fixture::empty();
    let pack = make(&f.dir().join("ours.tar.zst"), Layout::V3, "ours", 1, 1);
    let whole = fs::read(&pack).unwrap();
    for n in 0..12 {
        let mut bad = whole.clone();
        let at = whole.len() * n / 12 + 7;
        bad[at] ^= 0x10;
        let before = f.seen();
        let done = f.run(&["unpack", &text(&f.file("bad", &bad))]);
        assert_eq!(done.code, 1, "a changed byte at {at}: {done:?}");
        f.assert_unchanged(&before);
    }
    f.ok(&["unpack", &pack]);
}

#[test]
fn a_pool_that_fills_up_stays_usable() {
    require!("btrfs");
    let f = Fixture::sized("256MiB");
    let small = make(&f.dir().join("small.tar.zst"), Layout::V3, "small", 4, 1);
    f.ok(&["unpack", &small]);
    for layout in [Layout::V1, Layout::V3] {
        let large = make(&f.dir().join("large.tar.zst"), layout, "large", 300, 2);
        let before = f.seen();
        let done = f.run(&["--json", "unpack", &large]);
        assert!(
            done.code == 1 && (done.out.contains("pool_full") || done.out.contains("too_large")),
            "{done:?}"
        );
        f.assert_unchanged(&before);
        // the file system gives room back in the background
        let again = || f.run(&["unpack", &small, "--tag", "again"]).code == 0;
        support::eventually("there is room again", again);
        f.ok(&["image", "delete", "again", "--yes"]);
    }
    // one that would fit an empty pool, and not this one
    let most = make(&f.dir().join("most.tar.zst"), Layout::V3, "one", 60, 3);
    let mut taken = 0;
    while f.run(&["unpack", &most, "--tag", &format!("copy{taken}")]).code == 0 {
        taken += 1;
        assert!(taken < 5);
    }
    assert!(taken > 0);
    assert_eq!(f.staging(), Vec::<String>::new());
    f.check();
    f.ok(&["image", "delete", "copy0", "--yes"]);
    support::eventually("there is room again", || f.run(&["unpack", &most, "--tag", "back"]).code == 0);
    f.check();
}

#[test]
fn what_cannot_be_packed_is_refused_and_leaves_no_file() {
    require!("btrfs");
    let f = Fixture::empty();
    f.ok(&["unpack", &sample(f.dir(), V1)]);
    let folder = f.dir().join("out");
    fs::create_dir(&folder).unwrap();
    let out = text(&folder.join("x.tar.zst"));
    assert!(f.leaves_all("not_found", &["pack", "--tag", "nobody", "-o", &out]).contains("nobody"));
    let message =
        f.leaves_all("usage", &["pack", "--tag", "v1-base", "--format", "v1", "--sign", "k", "-o", &out]);
    assert!(message.contains("signature"), "{message}");
    f.leaves_all("not_found", &["pack", "--tag", "v1-base", "--format", "v3", "--sign", "k", "-o", &out]);
    f.refuses("usage", &["pack", "--tag", "v1-base", "--format", "v9", "-o", &out]);
    f.refuses("not_found", &["pack", "--tag", "v1-base", "-o", "/var/tmp/no/such/folder/x"]);
    assert_eq!(support::names(&folder), Vec::<String>::new());
    fs::write(&out, b"mine").unwrap();
    f.ok(&["pack", "--tag", "v1-base", "-o", &out]);
    assert_eq!(support::names(&folder), ["x.tar.zst"]);
}
