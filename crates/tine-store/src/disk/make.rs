//! Making an image from a tree, with `mkfs.ext4`.
//!
//! The same tree, size and identity give the same bytes. What the kernel would do in the background of every guest
//! (wiping inode tables and the journal) is marked as done, so that an image takes the space of its content alone.

use super::{Image, inode};
use crate::{Result, StoreError, error::at};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    process::{Command, Stdio},
};
use tine_model::ByteSize;
use tine_sys::SysError;

const MKFS: [&str; 3] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"];
/// The least that holds the journal and the tables, and a little more.
const MIN_SIZE: ByteSize = ByteSize::mib(64);
/// The largest that is offered: with 4 KiB blocks the format ends there without further features.
const MAX_SIZE: ByteSize = ByteSize::gib(16 << 10);
/// What the image's own time stamps say, in seconds since the epoch: 9 September 2001.
const MADE: &str = "1000000000";
/// What Linux 5.4 and younger mount. Without `resize_inode`: an image never grows.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
    huge_file,dir_nlink,extra_isize,metadata_csum";
/// Bytes of disk for each inode: trees of many small files, as package managers make them, still fit.
const BYTES_PER_INODE: &str = "8192";
/// In MiB. A box's file system waits for its journal less when it is larger, and every image writes all of it.
const JOURNAL: &str = "size=16";

/// Makes an ext4 file system of `size` bytes (a multiple of 4 KiB, from 64 MiB to 16 TiB) in the new, sparse file
/// `file` with all that lies below `tree`, which must not change meanwhile, as its content: owners, modes, xattrs,
/// hard links, devices and holes are kept, times to the second. `identity` becomes the file system's UUID and the
/// seed of its directories' hashes. On failure the file is removed. It is written back when this returns.
///
/// # Errors
/// `Usage` when the tree does not fit or the size is out of bounds, `Full` when the pool is, `Unsupported` without
/// `mkfs.ext4`, `ToolFailed`; the kernel's.
pub fn make(tree: &Path, file: &Path, size: ByteSize, identity: [u8; 16]) -> Result<()> {
    if size < MIN_SIZE || size > MAX_SIZE || !size.bytes().is_multiple_of(4096) {
        let message =
            format!("a disk of {size} is not possible: {MIN_SIZE} to {MAX_SIZE}, in steps of 4 KiB");
        return Err(StoreError::Usage { message });
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let image = rustix::fs::open(file, flags, Mode::from_raw_mode(0o600)).map_err(at("create", file))?;
    let made = fill(tree, file, &File::from(image), (size, identity));
    made.inspect_err(|_| drop(fs::remove_file(file)))
}

fn fill(tree: &Path, file: &Path, image: &File, (size, identity): (ByteSize, [u8; 16])) -> Result<()> {
    image.set_len(size.bytes()).map_err(at("extend", file))?;
    run_mkfs(tree, file, size, identity)?;
    give_root_its_attributes(tree, file, image)?;
    image.sync_all().map_err(at("write", file))
}

fn run_mkfs(tree: &Path, file: &Path, size: ByteSize, identity: [u8; 16]) -> Result<()> {
    let Some(program) = MKFS.iter().find(|program| Path::new(program).exists()) else {
        return Err(StoreError::Unsupported {
            message: "mkfs.ext4 is not installed (package e2fsprogs)".to_owned(),
        });
    };
    let uuid = uuid(identity);
    let extended = format!("nodiscard,assume_storage_prezeroed=1,hash_seed={uuid}");
    let output = Command::new(program)
        .env_clear()
        // its messages are looked at
        .env("LC_ALL", "C")
        .env("E2FSPROGS_FAKE_TIME", MADE)
        // the host's own settings do not matter
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-i", BYTES_PER_INODE, "-J", JOURNAL])
        .args(["-O", FEATURES, "-E", &extended, "-U", &uuid, "-d"])
        .args([tree, file])
        .stdin(Stdio::null())
        .output()
        .map_err(at("run", Path::new(program)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failure(file, size, &String::from_utf8_lossy(&output.stderr)))
}

/// What its message means: the image is too small for the tree, the pool for the image, or something else.
fn failure(file: &Path, size: ByteSize, words: &str) -> StoreError {
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if says(&["No space left on device", "Disk quota exceeded"]) {
        return SysError::new("write", file.display(), Errno::NOSPC).into();
    }
    if says(&["Could not allocate block", "Could not allocate inode", "No free space"]) {
        return StoreError::Usage { message: format!("the tree does not fit on a disk of {size}") };
    }
    StoreError::ToolFailed { program: "mkfs.ext4", output: words.trim().to_owned() }
}

fn uuid(identity: [u8; 16]) -> String {
    let hex: String = identity.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// `mkfs.ext4` takes over what the root of the tree holds and its xattrs, but not its owner, mode and time.
fn give_root_its_attributes(tree: &Path, file: &Path, disk: &File) -> Result<()> {
    let from = fs::symlink_metadata(tree).map_err(at("stat", tree))?;
    let view = Image::open(disk.try_clone().map_err(at("duplicate descriptor of", file))?.into())?;
    let place = view.inode_place(super::ROOT)?;
    let mut bytes = vec![0; usize::from(view.superblock.inode_size)];
    view.read_at(place, &mut bytes)?;
    let mode = 0x4000 | (from.mode() & 0o7777) as u16;
    let halves = |id: u32| [(id & 0xffff) as u16, (id >> 16) as u16];
    let ([uid, uid_high], [gid, gid_high]) = (halves(from.uid()), halves(from.gid()));
    for (at, number) in [(0, mode), (2, uid), (0x78, uid_high), (0x18, gid), (0x7a, gid_high)] {
        put(&mut bytes, at, &number.to_le_bytes());
    }
    put(&mut bytes, 0x10, &(from.mtime() as u32).to_le_bytes());
    let seed = view.superblock.checksum_seed.unwrap_or(!0);
    let sum = inode::checksum(seed, super::ROOT, &bytes)?.to_le_bytes();
    let [a, b, c, d] = sum;
    put(&mut bytes, inode::CHECKSUM.0, &[a, b]);
    put(&mut bytes, inode::CHECKSUM.1, &[c, d]);
    disk.write_all_at(&bytes, place).map_err(at("write", file))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes.iter_mut().skip(at).zip(value).for_each(|(byte, new)| *byte = *new);
}
