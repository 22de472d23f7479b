//! Trees, images and what they hold, as text that can be compared.
#![expect(dead_code, reason = "every test file uses a part of this")]

use rustix::fs::{CWD, FileType, Mode, SeekFrom, XattrFlags};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, lchown, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};
use tine_model::ByteSize;
use tine_store::disk::{self, Image, Inode};
use tine_sys::tree::{Kind, Meta, Node, Tree, Xattr};

pub const IDENTITY: [u8; 16] = *b"0123456789abcdef";

/// Whether images can be made, and trees with every kind of object; said loudly when not, and a failure where
/// `TINE_REQUIRE` names `btrfs`.
pub fn usable() -> bool {
    let usable = rustix::process::geteuid().is_root()
        && Path::new("/usr/sbin/mkfs.ext4").exists()
        && Path::new("/dev/loop-control").exists();
    let required = std::env::var("TINE_REQUIRE").is_ok_and(|v| v.split(',').any(|w| w == "btrfs"));
    assert!(usable || !required, "TINE_REQUIRE names btrfs, and root, mkfs.ext4 or loop devices are missing");
    if !usable {
        eprintln!("SKIPPED: needs root, loop devices and mkfs.ext4");
    }
    usable
}

pub fn run(program: &str, args: &[&str]) -> String {
    let done = Command::new(program).args(args).output().unwrap();
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?}: {words}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

pub fn open(path: &Path) -> Image {
    Image::open(File::open(path).unwrap().into()).unwrap()
}

/// An image of a tree, checked by the file system's own tool.
pub fn image_of(tree: &Path, file: &Path) -> Image {
    disk::make(tree, file, ByteSize::mib(64), IDENTITY).unwrap();
    run("e2fsck", &["-fn", file.to_str().unwrap()]);
    open(file)
}

/// A mount that goes with the value.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(image: &Path, at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("loop,{options}");
        run("mount", &["-t", "ext4", "-o", &options, image.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_path_buf())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        if !done.is_ok_and(|status| status.success()) {
            // lazily, as a failed test may still have files open
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
}

/// Has a mounted file system write all content, and its journal, but not what the journal is about: a sync would.
pub fn commit(root: &Path) {
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            commit(&entry.path());
        } else if kind.is_file() {
            File::open(entry.path()).unwrap().sync_all().unwrap();
        }
    }
    File::open(root).unwrap().sync_all().unwrap();
}

/// A tree with one of everything, and a directory of so many names.
pub fn rich_tree(root: &Path, many: usize) {
    fs::create_dir_all(root.join("etc/deep/er")).unwrap();
    fs::write(root.join("etc/motd"), "hello\n").unwrap();
    fs::hard_link(root.join("etc/motd"), root.join("etc/deep/er/motd")).unwrap();
    fs::write(root.join("tool"), (0..200_000u32).map(|n| n as u8).collect::<Vec<u8>>()).unwrap();
    lchown(root.join("tool"), Some(70_000), Some(4_000_000_000)).unwrap();
    fs::set_permissions(root.join("tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    names(root, many);
    links(root);
    specials(root);
    attributes(root);
    sparse(&root.join("sparse"));
    lchown(root, Some(3), Some(4)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o1751)).unwrap();
}

fn names(root: &Path, many: usize) {
    let dir = root.join("many");
    fs::create_dir(&dir).unwrap();
    for n in 0..many {
        fs::write(dir.join(format!("a-name-of-some-length-{n:05}")), "").unwrap();
    }
    let odd: [&[u8]; 5] = [b"new\nline", b"\xff\xfe", b" sp ace ", b"...", b"\xc3\xa4"];
    for name in odd {
        fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(root.join("n".repeat(255))).unwrap();
    fs::write(root.join("n".repeat(255)).join("x".repeat(255)), "1").unwrap();
}

fn links(root: &Path) {
    for length in [1, 59, 60, 61, 2000, 4095] {
        symlink("t".repeat(length), root.join(format!("link-{length}"))).unwrap();
    }
    symlink("/etc/motd", root.join("absolute")).unwrap();
}

fn specials(root: &Path) {
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0);
    fs::hard_link(root.join("fifo"), root.join("again")).unwrap();
    make("socket", FileType::Socket, 0);
    make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make("wide", FileType::CharacterDevice, rustix::fs::makedev(300, 70_000));
    make("disk", FileType::BlockDevice, rustix::fs::makedev(7, 1));
}

fn attributes(root: &Path) {
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    set("etc/motd", "user.note", b"x\0y");
    set("etc/motd", "user.empty", b"");
    set("etc/deep", "user.on-a-directory", b"1");
    set("empty", "user.large", &[b'v'; 3000]);
    set("empty", "trusted.guest", b"1");
    set("link-60", "trusted.on-a-link", b"1");
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 4, u32::MAX)];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(bits.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    set("etc", "system.posix_acl_access", &acl);
    set("etc", "system.posix_acl_default", &acl);
    // revision 2 with CAP_NET_RAW effective
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("tool", "security.capability", &capability);
    set(".", "user.root", b"r");
}

/// Over a gigabyte with thousands of pieces.
pub fn sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len((5 << 28) + 17).unwrap();
    for n in 0..3000u64 {
        file.write_all_at(format!("piece {n}").as_bytes(), n * 400_000).unwrap();
    }
    file.write_all_at(b"end", (5 << 28) + 14).unwrap();
}

/// What makes an object what it is; its links are counted where they are names of files.
fn line(meta: &Meta, target: Option<String>, content: u64, xattrs: &[Xattr]) -> String {
    let links = if meta.kind == Kind::Dir { 0 } else { meta.nlink };
    let size = if meta.kind == Kind::Dir { 0 } else { meta.size };
    format!(
        "{:?} {:o} {} {} {:?} {links} {size} {target:?} {content:x} {} {xattrs:?}",
        meta.kind, meta.mode, meta.uid, meta.gid, meta.device, meta.mtime.seconds
    )
}

pub type Fingerprint = BTreeMap<PathBuf, String>;

/// All of a tree; `lost+found` left out, which only images have.
pub fn tree_fingerprint(root: &Path) -> Fingerprint {
    let tree = Tree::open(root).unwrap();
    let (mut all, mut todo) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(path) = todo.pop() {
        let node = tree.exact(&path).unwrap();
        if node.meta().kind == Kind::Dir {
            let names = node.open_dir().unwrap().entries().unwrap().into_iter().map(|e| path.join(e.name));
            todo.extend(names.filter(|path| path != Path::new("lost+found")));
        }
        all.insert(path, node_line(&node));
    }
    all
}

fn node_line(node: &Node) -> String {
    let target = (node.meta().kind == Kind::Symlink).then(|| format!("{:?}", node.read_link().unwrap()));
    let content = if node.meta().kind == Kind::File {
        let file = node.open_file().unwrap();
        let next = |at| rustix::fs::seek(&file, SeekFrom::Data(at)).ok();
        hashed(node.meta().size, next, |at, buffer| file.read_exact_at(buffer, at).unwrap())
    } else {
        0
    };
    line(node.meta(), target, content, &node.xattrs().unwrap())
}

pub fn image_fingerprint(image: &Image) -> Fingerprint {
    let (mut all, mut todo) = (BTreeMap::new(), vec![(PathBuf::new(), image.root().unwrap())]);
    while let Some((path, inode)) = todo.pop() {
        if inode.meta().kind == Kind::Dir {
            for (name, number) in image.names(&inode).unwrap() {
                if !path.as_os_str().is_empty() || name != "lost+found" {
                    todo.push((path.join(name), image.inode(number).unwrap()));
                }
            }
        }
        all.insert(path, inode_line(image, &inode));
    }
    all
}

fn inode_line(image: &Image, inode: &Inode) -> String {
    let kind = inode.meta().kind;
    let target = (kind == Kind::Symlink).then(|| format!("{:?}", image.read_link(inode).unwrap()));
    let content = if kind == Kind::File { content(image, inode) } else { 0 };
    line(inode.meta(), target, content, &image.xattrs(inode).unwrap())
}

fn content(image: &Image, inode: &Inode) -> u64 {
    let stretches: Vec<_> = image.stretches(inode).unwrap().map(Result::unwrap).collect();
    let first = |at| stretches.partition_point(|s| s.offset + s.length <= at);
    let next = |at| stretches.get(first(at)).map(|s| s.offset.max(at));
    hashed(inode.meta().size, next, |at, buffer| {
        buffer.fill(0);
        let end = at + buffer.len() as u64;
        for s in stretches[first(at)..].iter().take_while(|s| s.offset < end) {
            let (from, to) = (s.offset.max(at), (s.offset + s.length).min(end));
            let into = &mut buffer[(from - at) as usize..(to - at) as usize];
            image.read_at(s.place + (from - s.offset), into).unwrap();
        }
    })
}

/// A hash over what is not zero; `next` gives where the next data begins.
fn hashed(size: u64, next: impl Fn(u64) -> Option<u64>, read: impl Fn(u64, &mut [u8])) -> u64 {
    const PIECE: u64 = 1 << 16;
    let (zeros, mut buffer) = (vec![0; PIECE as usize], vec![0; PIECE as usize]);
    let (mut hasher, mut from) = (DefaultHasher::new(), 0);
    while let Some(data) = next(from).filter(|data| *data < size) {
        let at = data / PIECE * PIECE;
        let piece = &mut buffer[..(size - at).min(PIECE) as usize];
        read(at, piece);
        if *piece != zeros[..piece.len()] {
            (at, &*piece).hash(&mut hasher);
        }
        from = at + PIECE;
    }
    hasher.finish()
}

/// A fingerprint as it is without what only the guest's own kernel keeps.
pub fn portable(all: Fingerprint) -> Fingerprint {
    all.into_iter()
        .map(|(path, line)| {
            let line = line.replace("Xattr { name: \"trusted.guest\", value: [49] }, ", "");
            (path, line.replace("Xattr { name: \"trusted.on-a-link\", value: [49] }", ""))
        })
        .collect()
}

/// Fails with the first few differences, not with thousands of lines.
pub fn assert_same(found: &Fingerprint, expected: &Fingerprint) {
    let missing = expected.iter().filter(|(path, line)| found.get(*path) != Some(line));
    let odd = found.iter().filter(|(path, line)| expected.get(*path) != Some(line));
    let (missing, odd): (Vec<_>, Vec<_>) = (missing.take(3).collect(), odd.take(3).collect());
    assert!(missing.is_empty() && odd.is_empty(), "expected {missing:#?}\nfound {odd:#?}");
}
