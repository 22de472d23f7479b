//! Trees that change at random, the same for the same seed.

#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

use crate::diff_support::{device, fifo};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, symlink},
    },
    path::{Path, PathBuf},
};

/// xorshift64*: the same numbers for the same seed everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const NAMES: [&[u8]; 8] = [b"a", b"b", b"c", b"dir", b"new\nline", b"\xff\xfe", b"o257-5-0", b" sp ace"];

/// Every path in a tree, the tree's own first.
pub fn everything_in(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_path_buf()];
    let mut at = 0;
    while at < all.len() {
        if fs::symlink_metadata(&all[at]).unwrap().is_dir() {
            let below = fs::read_dir(&all[at]).unwrap().map(|e| e.unwrap().path());
            all.extend(below.filter(|path| !path.ends_with("lost+found")));
        }
        at += 1;
    }
    all
}

/// A path that is free, not too deep.
pub fn new_name(random: &mut Random, root: &Path) -> Option<PathBuf> {
    let dirs: Vec<PathBuf> =
        everything_in(root).into_iter().filter(|p| fs::symlink_metadata(p).unwrap().is_dir()).collect();
    let path = random.pick(&dirs).join(OsStr::from_bytes(NAMES[random.below(NAMES.len())]));
    let deep = path.components().count() > root.components().count() + 5;
    (!deep && fs::symlink_metadata(&path).is_err()).then_some(path)
}

/// Makes one more object somewhere.
pub fn make(random: &mut Random, root: &Path) {
    let Some(path) = new_name(random, root) else { return };
    match random.below(9) {
        0..=2 => fs::create_dir(path).unwrap(),
        3 => symlink(random.pick(&["/etc/shadow", "a", "../b", "loop", &"long".repeat(20)]), path).unwrap(),
        4 => fifo(&path),
        5 => device(&path, 3 + random.below(2) as u32),
        6 => {
            let file = fs::File::create(path).unwrap();
            file.set_len(1 << 20).unwrap();
            file.write_at(b"middle", 500_000).unwrap();
        }
        7 => fs::write(path, vec![b'x'; random.below(20_000)]).unwrap(),
        _ => fs::write(path, format!("{}", random.below(5))).unwrap(),
    }
}

/// Removes an object with all that is in it.
pub fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}
