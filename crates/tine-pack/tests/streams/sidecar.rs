//! Disks beside packs.

use crate::support::{content, zstd};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{Read, Seek},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};
use tine_model::{Reporter, Sha256Digest, Silent};
use tine_pack::{
    PackError,
    sidecar::{name, read_sidecar, write_sidecar},
};

const LENGTH: usize = (37 << 20) + 4097;

/// A disk with holes, zeros and data, and its content.
fn disk() -> (File, Vec<u8>) {
    let mut whole = vec![0; LENGTH];
    whole[5 << 20..9 << 20].copy_from_slice(&content(4 << 20, 1));
    whole[(20 << 20) + 1..(21 << 20) + 1].copy_from_slice(&content(1 << 20, 2));
    whole[LENGTH - 1] = 1;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&whole[5 << 20..12 << 20], 5 << 20).unwrap();
    file.write_all_at(&whole[20 << 20..], 20 << 20).unwrap();
    (file, whole)
}

fn sha256(content: &[u8]) -> Sha256Digest {
    Sha256Digest(Sha256::digest(content).into())
}

fn unpack(mut stored: &[u8], sha256: Sha256Digest, size: u64) -> Result<(File, Sha256Digest), PackError> {
    let disk = tempfile::tempfile().unwrap();
    let digest = read_sidecar(&mut stored, sha256, size, &disk, &Silent)?;
    Ok((disk, digest))
}

fn read_all(mut file: &File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

fn write(disk: &File) -> (Vec<u8>, tine_pack::sidecar::SidecarWritten) {
    let out = tempfile::tempfile().unwrap();
    let written = write_sidecar(disk, &out, &Silent).unwrap();
    (read_all(&out), written)
}

#[test]
fn a_disk_comes_back_with_its_holes_and_its_digest() {
    let (disk, whole) = disk();
    let (stored, written) = write(&disk);
    assert_eq!((written.sha256, written.bytes), (sha256(&whole), LENGTH as u64));
    assert_eq!(written.stored, stored.len() as u64);
    assert!(zstd(&["-dc"], &stored) == whole);
    assert_eq!(write(&disk).0, stored);
    let (copy, digest) = unpack(&stored, written.sha256, written.bytes).unwrap();
    assert!(read_all(&copy) == whole);
    assert_eq!(digest, tine_digest::of_data(&disk).unwrap());
    copy.sync_all().unwrap();
    assert!(copy.metadata().unwrap().blocks() * 512 < 8 << 20);
}

#[test]
fn the_least_disks_come_back() {
    for length in [0, 1, 4096] {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(length).unwrap();
        let (stored, written) = write(&disk);
        let (copy, _) = unpack(&stored, written.sha256, length).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), length);
    }
}

#[test]
fn one_of_another_writer_is_read() {
    let (disk, whole) = disk();
    let stored = zstd(&["-19"], &whole);
    let (copy, digest) = unpack(&stored, sha256(&whole), LENGTH as u64).unwrap();
    assert!(read_all(&copy) == whole);
    assert_eq!(digest, tine_digest::of_data(&disk).unwrap());
}

#[test]
fn one_that_is_not_what_was_promised_is_refused() {
    let (disk, whole) = disk();
    let (stored, written) = write(&disk);
    let size = LENGTH as u64;
    let why = |stored: &[u8], sha256, size| unpack(stored, sha256, size).unwrap_err().to_string();
    assert!(why(&stored, sha256(b""), size).contains("expected is"));
    assert!(why(&stored, written.sha256, size + 1).contains("where"));
    assert!(why(&stored, written.sha256, size - 1).contains("holds more than"));
    assert!(why(&stored, written.sha256, 0).contains("holds more than"));
    assert_eq!(why(&stored[..stored.len() / 2], written.sha256, size), "the zstd stream is cut off");
    let mut other = whole;
    other[6 << 20] ^= 1;
    assert!(why(&zstd(&["-1"], &other), written.sha256, size).contains("SHA-256"));
    let damaged = [&stored[..], b"more"].concat();
    assert_eq!(why(&damaged, written.sha256, size), "there are bytes that are no zstd frame");
}

#[test]
fn names_are_short_digests() {
    assert_eq!(name(&sha256(b"abc")), "ba7816bf8f01cfea.rootfs.zst");
}

/// Wants to stop from the beginning.
struct Stop;

impl Reporter for Stop {
    fn step(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn output(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn is_cancelled(&self) -> bool {
        true
    }
}

#[test]
fn both_stop_when_they_are_asked_to() {
    let (disk, whole) = disk();
    let out = tempfile::tempfile().unwrap();
    assert!(matches!(write_sidecar(&disk, &out, &Stop), Err(PackError::Cancelled)));
    let stored = zstd(&["-1"], &whole);
    let read = read_sidecar(&mut &stored[..], sha256(&whole), LENGTH as u64, &out, &Stop);
    assert!(matches!(read, Err(PackError::Cancelled)));
}

#[test]
fn a_disk_that_cannot_be_written_says_why() {
    let (_, whole) = disk();
    let stored = zstd(&["-1"], &whole);
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = &dir.path().join("disk");
    fs::write(path, vec![0; LENGTH]).unwrap();
    let disk = File::open(path).unwrap();
    let read = read_sidecar(&mut &stored[..], sha256(&whole), LENGTH as u64, &disk, &Silent);
    assert!(matches!(read, Err(PackError::Io { .. })));
}
