//! Images made from trees, read back and extracted: what goes in comes out.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod disk_support;

use disk_support::{
    IDENTITY, assert_same, image_fingerprint, image_of, open, portable, rich_tree, run, sparse,
    tree_fingerprint, usable,
};
use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};
use tine_model::{ByteSize, Error, ErrorCode, RawPath};
use tine_store::disk;
use tine_sys::tree::LastLink;

#[test]
fn a_tree_survives_making_reading_and_extracting() {
    if !usable() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, file, back) = (dir.path().join("tree"), dir.path().join("img"), dir.path().join("back"));
    fs::create_dir(&tree).unwrap();
    rich_tree(&tree, 5000);
    let original = tree_fingerprint(&tree);
    let image = image_of(&tree, &file);
    assert_same(&image_fingerprint(&image), &original);

    fs::create_dir(&back).unwrap();
    disk::extract(&image, File::open(&back).unwrap().as_fd()).unwrap();
    assert_same(&tree_fingerprint(&back), &portable(original));
    let blocks = |root: &Path| fs::metadata(root.join("sparse")).unwrap().blocks();
    assert!(blocks(&back) <= blocks(&tree), "{} {}", blocks(&back), blocks(&tree));
    assert!(!back.join("lost+found").exists());
}

#[test]
fn the_same_tree_gives_the_same_bytes_and_takes_its_own_space_only() {
    if !usable() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    rich_tree(&tree, 600);
    // reading the tree may set its access times, which go into the image: once more makes no difference
    run("tar", &["-cf", "/dev/null", "-C", tree.to_str().unwrap(), "."]);
    tree_fingerprint(&tree);
    let make = |name: &str| {
        let file = dir.path().join(name);
        disk::make(&tree, &file, ByteSize::gib(1), IDENTITY).unwrap();
        file
    };
    let (one, other) = (make("one"), make("other"));
    run("cmp", &[one.to_str().unwrap(), other.to_str().unwrap()]);
    let meta = fs::metadata(&one).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() * 512 < 32 << 20, "{} KiB", meta.blocks() / 2);
}

#[test]
fn what_mkfs_makes_without_our_settings_is_read_as_well() {
    if !usable() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("img"));
    fs::create_dir(&tree).unwrap();
    rich_tree(&tree, 600);
    let cases = [
        ("4096", "256", "^extent,^64bit,^metadata_csum,^flex_bg"),
        ("2048", "512", "^64bit,metadata_csum,metadata_csum_seed"),
        ("1024", "128", "^metadata_csum,uninit_bg,sparse_super2,large_dir"),
    ];
    for (block, inode, features) in cases {
        shorten(&tree, block);
        File::create(&file).unwrap().set_len(256 << 20).unwrap();
        let (tree, file) = (tree.to_str().unwrap(), file.to_str().unwrap());
        run("mkfs.ext4", &["-q", "-F", "-b", block, "-I", inode, "-O", features, "-d", tree, file]);
        let without_root = |mut all: disk_support::Fingerprint| {
            // mkfs leaves the root its own owner and mode
            all.remove(Path::new("")).unwrap();
            all
        };
        let expected = without_root(tree_fingerprint(Path::new(tree)));
        assert_same(&without_root(image_fingerprint(&open(Path::new(file)))), &expected);
    }
}

/// A link and an attribute have to be shorter than a block.
fn shorten(tree: &Path, block: &str) {
    let over = match block {
        "2048" => "link-4095",
        "1024" => "link-2000",
        _ => return,
    };
    fs::remove_file(tree.join(over)).unwrap();
    let _ = rustix::fs::removexattr(tree.join("empty"), "user.large");
}

#[test]
fn paths_lead_where_the_box_sees_them() {
    if !usable() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("img"));
    fs::create_dir_all(tree.join("usr/lib/x")).unwrap();
    fs::write(tree.join("usr/lib/f"), "1").unwrap();
    for (target, name) in [
        ("usr/lib", "lib"),
        ("/usr/../lib/./x", "usr/back"),
        ("../../../../lib/f", "usr/lib/x/up"),
        ("loop", "loop"),
        ("nowhere", "dangling"),
    ] {
        std::os::unix::fs::symlink(target, tree.join(name)).unwrap();
    }
    let image = image_of(&tree, &file);
    let tree = tine_sys::tree::Tree::open(&tree).unwrap();
    for path in [
        "/",
        ".",
        "lib",
        "lib/f",
        "/lib/f/",
        "lib/f/x",
        "lib/f/..",
        "usr/back/../f",
        "/usr/lib/x/up",
        "..",
        "missing/../lib/f",
        "missing/lib",
        "dangling",
        "dangling/x",
        "lib/x/up/..",
        "loop",
        "loop/x",
        "usr/back/up",
        "/../usr",
        "missing/../../usr/back",
    ] {
        for last in [LastLink::Keep, LastLink::Follow] {
            let found = image.resolve(&RawPath::new(path), last).map(|f| (f.path, f.inode.is_some()));
            let expected = tree.resolve(Path::new(path), last).map(|f| (f.path, f.exists));
            assert_eq!(found.ok(), expected.ok(), "{path} {last:?}");
        }
    }
}

#[test]
fn the_size_is_that_of_files_and_links_each_once() {
    if !usable() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("img"));
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/f"), [1; 1000]).unwrap();
    fs::hard_link(tree.join("d/f"), tree.join("again")).unwrap();
    std::os::unix::fs::symlink("12345", tree.join("link")).unwrap();
    sparse(&tree.join("sparse"));
    let size = disk::logical_size(&image_of(&tree, &file)).unwrap();
    assert_eq!(size, ByteSize(1000 + 5 + (5 << 28) + 17));
}

#[test]
fn a_failure_says_what_was_too_small_and_leaves_nothing() {
    if !usable() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("img"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), vec![7; 100 << 20]).unwrap();
    let code = |file: &Path, size| {
        let failed = disk::make(&tree, file, size, IDENTITY).unwrap_err();
        assert!(!file.exists(), "{failed}");
        Error::from(failed).code
    };
    assert_eq!(code(&file, ByteSize::mib(64)), ErrorCode::Usage);
    assert_eq!(code(&file, ByteSize::mib(1)), ErrorCode::Usage);
    assert_eq!(code(&file, ByteSize((64 << 20) + 1)), ErrorCode::Usage);
    // a file system of 32 MiB has no room for an image with 100 MiB in it
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=32m", "tmpfs", small.to_str().unwrap()]);
    let unmount = Unmount(&small);
    assert_eq!(code(&small.join("img"), ByteSize::mib(512)), ErrorCode::PoolFull);
    drop(unmount);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0).status();
    }
}
