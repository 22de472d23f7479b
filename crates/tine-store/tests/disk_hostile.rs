//! Images that lie: every answer is an error or a tree, never a panic, and it comes soon.
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod disk_support;

use disk_support::{rich_tree, run, usable};
use std::{
    collections::HashSet,
    fs::{self, File},
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tine_model::{Error, ErrorCode, RawPath};
use tine_store::{
    diff::{disk_file, disk_status},
    disk::{self, Image, Inode},
};
use tine_sys::tree::{Kind, LastLink};

/// Far longer than any answer takes, also in a build without optimisation on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// For how long this thread has had a processor: a busy host is not an endless loop.
fn worked() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}

struct Victim {
    dir: tempfile::TempDir,
    file: File,
}

impl Victim {
    /// A small image without checksums, which would tell of most lies.
    fn new(features: &str) -> Option<Self> {
        if !usable() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        rich_tree(&tree, 30);
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        for name in ["sparse", "link-4095", "link-2000"] {
            fs::remove_file(tree.join(name)).unwrap();
        }
        rustix::fs::removexattr(tree.join("empty"), "user.large").unwrap();
        let path = dir.path().join("img");
        File::create(&path).unwrap().set_len(2 << 20).unwrap();
        let options = ["-q", "-F", "-b", "1024", "-N", "128", "-O", features, "-d", tree.to_str().unwrap()];
        run("mkfs.ext4", &[&options[..], &[path.to_str().unwrap()]].concat());
        let file = File::options().read(true).write(true).open(path).unwrap();
        Some(Self { dir, file })
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("img")
    }

    fn debugfs(&self, request: &str) -> String {
        run("debugfs", &["-w", "-R", request, self.path().to_str().unwrap()])
    }

    /// The blocks of an object.
    fn blocks(&self, path: &str) -> Vec<u64> {
        let words = self.debugfs(&format!("blocks {path}"));
        words.split_whitespace().map(|block| block.parse().unwrap()).collect()
    }

    /// Where an inode lies.
    fn inode(&self, path: &str) -> u64 {
        let words = self.debugfs(&format!("imap {path}"));
        let (_, place) = words.split_once("located at block ").unwrap();
        let (block, offset) = place.trim().split_once(", offset 0x").unwrap();
        block.parse::<u64>().unwrap() * 1024 + u64::from_str_radix(offset, 16).unwrap()
    }

    fn open(&self) -> Result<Image, tine_store::StoreError> {
        Image::open(self.file.try_clone().unwrap().into())
    }

    /// Everything that can be asked of an image, by a caller who goes on for as long as there is an answer.
    fn ask_everything(&self) -> Result<(), Error> {
        let begun = worked();
        let answer = ask(&self.open()?);
        assert!((worked() - begun) < SOON, "{:?}", (worked() - begun));
        answer
    }

    fn extract(&self) -> Result<(), Error> {
        let begun = worked();
        let to = tempfile::tempdir().unwrap();
        let image = self.open()?;
        let done = disk::extract(&image, File::open(to.path()).unwrap().as_fd());
        assert!((worked() - begun) < SOON, "{:?}", (worked() - begun));
        Ok(done?)
    }

    /// Asks with each byte of a part changed in turn; gives how often there was an error.
    fn flip(&self, at: u64, length: usize) -> usize {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        let mut refused = 0;
        for (n, byte) in bytes.iter().enumerate() {
            for changed in [!byte, byte ^ 1, byte ^ 0x10] {
                self.file.write_all_at(&[changed], at + n as u64).unwrap();
                refused += usize::from(self.ask_everything().is_err());
                if changed == !byte && n % 16 == 0 {
                    let _ = self.extract();
                }
            }
            self.file.write_all_at(&[*byte], at + n as u64).unwrap();
        }
        self.ask_everything().unwrap();
        refused
    }
}

/// Asks in every way there is.
fn ask(image: &Image) -> Result<(), Error> {
    let answers = [
        walk(image),
        disk::logical_size(image).map(drop),
        disk_status(image, image).map(drop),
        image.resolve(&RawPath::new("a/b/../../etc/deep/er/motd"), LastLink::Follow).map(drop),
        disk_file(image, image, &RawPath::new("etc/motd")).map(drop),
    ];
    answers.into_iter().collect::<Result<(), _>>()?;
    Ok(())
}

/// Looks at every object whose directory was not met before.
fn walk(image: &Image) -> Result<(), tine_store::StoreError> {
    let (mut todo, mut met) = (vec![image.root()?], HashSet::new());
    while let Some(inode) = todo.pop() {
        look(image, &inode)?;
        if inode.meta().kind == Kind::Dir && met.insert(inode.number()) {
            for number in image.names(&inode)?.into_values() {
                todo.push(image.inode(number)?);
            }
        }
    }
    Ok(())
}

fn look(image: &Image, inode: &Inode) -> Result<(), tine_store::StoreError> {
    image.xattrs(inode)?;
    match inode.meta().kind {
        Kind::File => {
            image.read_file(inode, 1 << 20)?;
            image.stretches(inode)?.try_for_each(|stretch| stretch.map(drop))
        }
        Kind::Symlink => image.read_link(inode).map(drop),
        _ => Ok(()),
    }
}

const PLAIN: &str = "^metadata_csum,^has_journal,^resize_inode";

#[test]
fn every_byte_of_the_superblock_and_the_descriptors() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    let refused = victim.flip(1024, 1024) + victim.flip(2048, 128);
    assert!(refused > 60, "{refused}");
}

#[test]
fn every_byte_of_inodes() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    let all = ["/", "/tool", "/etc", "/etc/motd", "/link-61", "/wide"];
    for (path, length) in all.into_iter().zip([160, 160, 256, 256, 128, 128]) {
        let refused = victim.flip(victim.inode(path), length);
        assert!(refused > 0, "{path}");
    }
}

#[test]
fn every_byte_of_directories() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    for (path, length) in [("/", 512), ("/etc", 64), ("/many", 128)] {
        let first = *victim.blocks(path).first().unwrap();
        assert!(victim.flip(first * 1024, length) > 10, "{path}");
    }
}

#[test]
fn every_byte_of_block_maps() {
    let Some(victim) = Victim::new("^metadata_csum,^has_journal,^resize_inode,^extent,^64bit") else {
        return;
    };
    assert!(victim.flip(victim.inode("/tool"), 256) > 0);
    // the indirect block lies between the twelfth block and the thirteenth
    let blocks = victim.blocks("/tool");
    let indirect = blocks[12];
    assert!(victim.flip(indirect * 1024, 64) > 0);
}

#[test]
fn checksums_tell_of_every_changed_byte_of_an_inode() {
    let Some(victim) = Victim::new("metadata_csum,^has_journal,^resize_inode") else { return };
    assert_eq!(victim.flip(victim.inode("/etc"), 160), 3 * 160);
    // but for the bit that says whether there are checksums
    assert_eq!(victim.flip(1024, 1024), 3 * 1024 - 1);
}

fn code(answer: Result<(), Error>) -> ErrorCode {
    answer.unwrap_err().code
}

#[test]
fn a_directory_with_two_names_is_refused_wherever_it_is() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    for (target, name) in [("/a", "/a/b/c/loop"), ("/", "/a/root"), ("/etc", "/a/etc")] {
        victim.debugfs(&format!("link {target} {name}"));
        let image = victim.open().unwrap();
        for refused in [
            disk::logical_size(&image).map(drop),
            disk_status(&image, &image).map(drop),
            victim.extract().map_err(|_| tine_store::StoreError::Cancelled),
        ] {
            assert!(refused.is_err(), "{name}");
        }
        // a path through the loop has an end of its own
        let path = RawPath::new(format!("a/b/c/{}etc", "loop/b/c/".repeat(200)));
        assert!(image.resolve(&path, LastLink::Keep).is_ok());
        victim.debugfs(&format!("unlink {name}"));
    }
    victim.ask_everything().unwrap();
}

#[test]
fn names_of_reserved_deleted_and_missing_inodes_are_refused() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    for number in [1, 3, 7, 8, 10, 120, 9999] {
        // the number of an entry's inode is its first word, of which names with four bytes have one each
        let block = *victim.blocks("/a").first().unwrap();
        let entry = block * 1024 + 24;
        let mut before = [0; 4];
        victim.file.read_exact_at(&mut before, entry).unwrap();
        victim.file.write_all_at(&u32::to_le_bytes(number), entry).unwrap();
        assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt, "{number}");
        assert_eq!(code(victim.extract()), ErrorCode::Corrupt, "{number}");
        victim.file.write_all_at(&before, entry).unwrap();
    }
    victim.ask_everything().unwrap();
}

#[test]
fn sizes_beyond_all_bounds_are_refused_and_large_holes_stay_holes() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    for size in [1u64 << 63, u64::MAX, (1 << 42) + 1] {
        victim.debugfs(&format!("set_inode_field /tool size {size}"));
        assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt, "{size}");
    }
    victim.debugfs(&format!("set_inode_field /tool size {}", 1u64 << 42));
    victim.ask_everything().unwrap();
    victim.extract().unwrap();
    let image = victim.open().unwrap();
    assert!(disk::logical_size(&image).unwrap().bytes() > 1 << 42);
    let shown = disk_file(&image, &image, &RawPath::new("/tool"));
    assert_eq!(Error::from(shown.unwrap_err()).code, ErrorCode::TooLarge);
}

#[test]
fn a_directory_of_billions_of_names_is_refused() {
    let Some(victim) = Victim::new("^metadata_csum,^has_journal,^resize_inode,^extent,^64bit") else {
        return;
    };
    let (inode, block) = (victim.inode("/many"), victim.blocks("/many")[0]);
    // pointers at every height to one block of names, and to one of pointers that point to itself
    victim.file.write_all_at(&u32::MAX.to_le_bytes()[..2], inode + 4).unwrap();
    let own = victim.blocks("/tool")[12];
    for n in 0..15 {
        let pointer = if n < 12 { block } else { own };
        victim.file.write_all_at(&(pointer as u32).to_le_bytes(), inode + 40 + n * 4).unwrap();
    }
    for n in 0..256 {
        victim.file.write_all_at(&(own as u32).to_le_bytes(), own * 1024 + n * 4).unwrap();
    }
    victim.file.write_all_at(&0xffff_fc00u32.to_le_bytes(), inode + 4).unwrap();
    assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt);
    assert_eq!(code(victim.extract()), ErrorCode::Corrupt);
}

#[test]
fn a_block_map_that_points_to_itself_has_an_end() {
    let Some(victim) = Victim::new("^metadata_csum,^has_journal,^resize_inode,^extent,^64bit") else {
        return;
    };
    let inode = victim.inode("/tool");
    let own = victim.blocks("/tool")[12];
    for n in 12..15 {
        victim.file.write_all_at(&(own as u32).to_le_bytes(), inode + 40 + n * 4).unwrap();
    }
    for n in 0..256 {
        victim.file.write_all_at(&(own as u32).to_le_bytes(), own * 1024 + n * 4).unwrap();
    }
    victim.file.write_all_at(&(1u64 << 34).to_le_bytes()[..4], inode + 4).unwrap();
    victim.file.write_all_at(&4u32.to_le_bytes(), inode + 0x6c).unwrap();
    assert_eq!(code(victim.extract()), ErrorCode::Corrupt);
    let image = victim.open().unwrap();
    let begun = worked();
    let _ = disk_status(&image, &image);
    assert!((worked() - begun) < SOON);
}

#[test]
fn blocks_that_all_files_share_are_not_written_over_and_over() {
    let Some(victim) = Victim::new("^metadata_csum,^has_journal,^resize_inode,^extent,^64bit") else {
        return;
    };
    let (inode, data) = (victim.inode("/tool"), victim.blocks("/tool")[0] as u32);
    let indirect = victim.blocks("/tool")[12];
    let point = |at: u64, to: u32| victim.file.write_all_at(&to.to_le_bytes(), at).unwrap();
    // 256 times 256 times the same block behind one of pointers
    (0..256).for_each(|n| point(indirect * 1024 + n * 4, data));
    let double = victim.blocks("/tool")[13];
    (0..256).for_each(|n| point(double * 1024 + n * 4, indirect as u32));
    point(inode + 40 + 13 * 4, double as u32);
    point(inode + 4, 60 << 20);
    assert_eq!(code(victim.extract()), ErrorCode::Corrupt);
}

#[test]
fn extents_in_circles_and_out_of_order_are_refused() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    let inode = victim.inode("/tool");
    let block = victim.blocks("/tool")[0];
    let node = |depth: u16, entries: u16, of: &dyn Fn(u16) -> [u8; 12]| {
        let mut bytes = Vec::new();
        for number in [0xf30a, entries, entries.max(4), depth, 0, 0] {
            bytes.extend(number.to_le_bytes());
        }
        (0..entries).for_each(|n| bytes.extend(of(n)));
        bytes
    };
    let index = |logical: u32, child: u64| {
        let mut entry = [0; 12];
        entry[..4].copy_from_slice(&logical.to_le_bytes());
        entry[4..8].copy_from_slice(&(child as u32).to_le_bytes());
        entry
    };
    let leaf = |logical: u32, length: u16, block: u64| {
        let mut entry = [0; 12];
        entry[..4].copy_from_slice(&logical.to_le_bytes());
        entry[4..6].copy_from_slice(&length.to_le_bytes());
        entry[8..].copy_from_slice(&(block as u32).to_le_bytes());
        entry
    };
    let root = |bytes: &[u8]| victim.file.write_all_at(bytes, inode + 40).unwrap();
    let child = |bytes: &[u8]| victim.file.write_all_at(bytes, block * 1024).unwrap();
    // a node that is its own child, at the depth it should have and at its own
    for depth in [0, 1, 4] {
        root(&node(5, 4, &|_| index(0, block)));
        child(&node(depth, 84, &|_| index(0, block)));
        assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt, "{depth}");
    }
    // one leaf under many parents
    root(&node(1, 4, &|n| index(u32::from(n) * 100, block)));
    child(&node(0, 84, &|n| leaf(u32::from(n), 1, block)));
    assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt);
    // no length, twice the same, past the end of the disk, at the end of all numbers
    for bad in [
        [leaf(0, 0, block); 2],
        [leaf(5, 1, block); 2],
        [leaf(0, 1, 1 << 30); 2],
        [leaf(u32::MAX, 9, 3000); 2],
    ] {
        root(&node(0, 2, &|n| bad[usize::from(n)]));
        assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt);
    }
    // deeper than any can be
    root(&node(6, 1, &|_| index(0, block)));
    assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt);
}

#[test]
fn what_is_no_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| Image::open(File::open(path).unwrap().into()).map(drop);
    assert!(open(dir.path()).is_err() && open(Path::new("/dev/null")).is_err());
    let file = dir.path().join("file");
    for length in [0, 1024, 2047, 2048, 1 << 40] {
        File::create(&file).unwrap().set_len(length).unwrap();
        assert!(open(&file).is_err(), "{length}");
    }
}

#[test]
fn an_image_that_was_cut_short_is_refused() {
    let Some(victim) = Victim::new(PLAIN) else { return };
    victim.file.set_len((2 << 20) - 1024).unwrap();
    assert_eq!(code(victim.ask_everything()), ErrorCode::Corrupt);
}
