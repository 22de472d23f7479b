//! Everything that makes a tree what it is, a line per path, so that two trees can be compared.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

/// Type, mode, owner, time of change, device number, size, allocated blocks, hard links, xattrs and content of every
/// path below `root`, sorted. What is not written back yet has another layout of holes, so that is done first.
pub fn fingerprint(root: &Path) -> Vec<String> {
    let dir = fs::File::open(root).unwrap();
    rustix::fs::syncfs(&dir).unwrap();
    let mut lines = Vec::new();
    describe(root, root, &mut BTreeMap::new(), &mut lines);
    lines
}

fn describe(root: &Path, path: &Path, seen: &mut BTreeMap<u64, String>, lines: &mut Vec<String>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let name = format!("{:?}", path.strip_prefix(root).unwrap());
    let first = seen.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
    let kind = meta.file_type();
    let content = if kind.is_file() {
        hash(&fs::read(path).unwrap())
    } else if kind.is_symlink() {
        format!("{:?}", fs::read_link(path).unwrap())
    } else {
        String::new()
    };
    let blocks = if kind.is_file() { meta.blocks() } else { 0 };
    let special = (kind.is_fifo(), kind.is_socket(), meta.rdev());
    lines.push(format!(
        "{name} {:o} {}:{} {}.{} {special:?} {} {blocks} {} {first} {:?} {content}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.size(),
        meta.nlink(),
        xattrs(path),
    ));
    if kind.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| describe(root, entry, seen, lines));
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0u8; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|b| *b == 0).filter(|n| !n.is_empty());
    let read = |name: &[u8]| {
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
    };
    let mut all: Vec<_> = names.map(read).collect();
    all.sort();
    all
}

/// FNV-1a: enough to tell contents apart in a message.
fn hash(bytes: &[u8]) -> String {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
}
