//! The bare system calls that Tine's verbs can't be faster than, for `bench/run`.
//!
//! usage: floor diff ROOT OLDER TMP | snapshot ROOT TMP | restore ROOT TMP | clean TMP
#![forbid(unsafe_code)]

use rustix::fs::{Mode, OFlags, RenameFlags};
use std::{
    error::Error,
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use tine_sys::btrfs;

const NAME: &str = "floor";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["diff", root, older, tmp] => diff(root, older, tmp),
        ["snapshot", root, tmp] => snapshot(root, tmp),
        ["restore", root, tmp] => restore(root, tmp),
        ["clean", tmp] => Ok(btrfs::delete_subvolume(open(tmp)?.as_fd(), NAME)?),
        _ => {
            Err("usage: floor diff ROOT OLDER TMP | snapshot ROOT TMP | restore ROOT TMP | clean TMP".into())
        }
    }
}

fn open(path: impl AsRef<Path>) -> Result<OwnedFd, Box<dyn Error>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path.as_ref(), flags, Mode::empty())?)
}

fn commit(tmp: &OwnedFd) -> Result<(), Box<dyn Error>> {
    let transaction = btrfs::start_sync(tmp.as_fd())?;
    Ok(btrfs::wait_sync(tmp.as_fd(), transaction)?)
}

/// Snapshot, send stream without data read to its end, destroy.
fn diff(root: &str, older: &str, tmp: &str) -> Result<(), Box<dyn Error>> {
    let (tmp_dir, older) = (open(tmp)?, open(older)?);
    btrfs::snapshot(open(root)?.as_fd(), tmp_dir.as_fd(), NAME, true)?;
    let newer = open(Path::new(tmp).join(NAME))?;
    let parent = btrfs::subvolume_info(older.as_fd())?.id;
    let (reader, writer) = rustix::pipe::pipe()?;
    let sender = std::thread::spawn(move || btrfs::send_metadata(newer.as_fd(), writer.as_fd(), parent));
    let mut stream = Vec::new();
    File::from(reader).read_to_end(&mut stream)?;
    sender.join().map_err(|_| "the sender panicked")??;
    Ok(btrfs::delete_subvolume(tmp_dir.as_fd(), NAME)?)
}

/// A read-only snapshot, durable.
fn snapshot(root: &str, tmp: &str) -> Result<(), Box<dyn Error>> {
    let tmp = open(tmp)?;
    btrfs::snapshot(open(root)?.as_fd(), tmp.as_fd(), NAME, true)?;
    commit(&tmp)
}

/// A writable snapshot exchanged with its source, durable; what was there is destroyed.
fn restore(root: &str, tmp: &str) -> Result<(), Box<dyn Error>> {
    let tmp_dir = open(tmp)?;
    btrfs::snapshot(open(root)?.as_fd(), tmp_dir.as_fd(), NAME, false)?;
    rustix::fs::renameat_with(&tmp_dir, NAME, rustix::fs::CWD, root, RenameFlags::EXCHANGE)?;
    commit(&tmp_dir)?;
    Ok(btrfs::delete_subvolume(tmp_dir.as_fd(), NAME)?)
}
