//! Saving the state of a running machine: its devices, and the memory it has written.
//!
//! The machine stands still only while that is copied. The saved memory is a clone of the file that the machine maps,
//! with the pages of its own written over it: flat, whatever its ancestry.

use super::{process::Process, qmp::Qmp};
use crate::error::{MachineError, MachineResult};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use rustix::process::Pid;
use serde_json::json;
use std::{
    fs::File,
    io::IoSliceMut,
    ops::Range,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    thread,
    time::{Duration, Instant},
};
use tine_sys::{
    btrfs,
    commit::commit,
    pages::{self, PAGE},
    reflink,
};

/// How long QEMU may take for one command.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many bytes of the machine's pages are held in memory, to be written when it runs again; what is beyond is
/// written while it stands still.
const HELD: u64 = 256 << 20;
/// What a machine may write between being looked at and standing still, without costing it time.
const SLACK: u64 = 4 << 20;
/// Ranges copied by one system call; as many as the kernel takes (`IOV_MAX`).
const BATCH: usize = 1024;
/// The set of descriptors through which QEMU writes the state; the first is the disk's.
const STATE_SET: u32 = 2;
/// The name of a root in a directory of the store.
const ROOT: &str = "root";

/// Where a state goes.
#[derive(Debug)]
pub(super) struct Target {
    /// An empty file for the memory.
    pub(super) memory: File,
    /// An empty file for the devices.
    pub(super) vmstate: File,
    /// The root that holds the disk.
    pub(super) root: OwnedFd,
    /// Where a read-only snapshot of it is made under the name `root`.
    pub(super) directory: OwnedFd,
}

/// The memory of a machine.
#[derive(Debug)]
pub(super) struct Memory {
    /// The file it is a private mapping of.
    pub(super) file: File,
    /// Whether that file is one hole.
    pub(super) is_empty: bool,
    /// Where the mapping lies in QEMU.
    pub(super) mapping: Range<u64>,
}

/// What was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    /// For how long the machine stood still.
    pub(super) pause: Duration,
    /// Bytes of memory the machine had written.
    pub(super) own_bytes: u64,
}

impl Memory {
    /// Finds the mapping of `file` in a QEMU that has mapped it.
    pub(super) fn find(file: File, is_empty: bool, qemu: Pid) -> MachineResult<Self> {
        let path = format!("/proc/{}/maps", qemu.as_raw_nonzero());
        let maps = std::fs::read_to_string(&path).map_err(|e| MachineError::io("read", &path, e))?;
        let meta = file.metadata().map_err(|e| MachineError::io("look at", "memory", e))?;
        let mapping = mapping_of(&maps, meta.ino()).filter(|m| m.end - m.start == meta.len());
        let mapping =
            mapping.ok_or_else(|| MachineError::Start("QEMU has not mapped its memory".to_owned()))?;
        Ok(Self { file, is_empty, mapping })
    }

    /// Bytes that are the machine's own. Approximate while it runs.
    pub(super) fn own_bytes(&self, qemu: Pid) -> MachineResult<u64> {
        Ok(pages::own_pages(qemu, self.mapping.clone())?.iter().map(|r| r.end - r.start).sum())
    }
}

/// The lines of one inode's private mappings, joined; see proc_pid_maps(5).
fn mapping_of(maps: &str, inode: u64) -> Option<Range<u64>> {
    let mut found: Option<Range<u64>> = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(mode), Some(_), Some(_), Some(number)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if number.parse() != Ok(inode) || !mode.ends_with('p') {
            continue;
        }
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        match &mut found {
            Some(joined) if joined.end == start => joined.end = end,
            Some(_) => return None,
            None => found = Some(start..end),
        }
    }
    found
}

/// Saves the state of a machine that runs, and lets it go on; one that was stopped stays stopped.
pub(super) fn save(
    qmp: &mut Qmp,
    process: &Process,
    memory: &Memory,
    disk: &File,
    target: &Target,
    runs: bool,
) -> MachineResult<Saved> {
    reflink::clone_file(memory.file.as_fd(), target.memory.as_fd())?;
    // what is written back now need not be while the machine stands still
    disk.sync_data().map_err(|e| MachineError::io("sync", "disk", e))?;
    // the disk's snapshot is a commit, which waits for all that others have changed by then
    commit(target.root.as_fd())?;
    let mut copies = Copies::prepared(memory.own_bytes(process.pid())? + SLACK);
    qmp.execute("add-fd", &json!({ "fdset-id": STATE_SET }), &[target.vmstate.as_fd()], PATIENCE)?;
    let begun = Instant::now();
    let stopped = qmp.execute("stop", &json!({}), &[], PATIENCE);
    let copied = stopped.and_then(|_| copy(qmp, process, memory, target, &mut copies));
    if runs {
        qmp.execute("cont", &json!({}), &[], PATIENCE)?;
    }
    let pause = begun.elapsed();
    let removed = qmp.execute("remove-fd", &json!({ "fdset-id": STATE_SET }), &[], PATIENCE);
    copied?;
    removed?;
    copies.write(memory, &target.memory)?;
    Ok(Saved { pause, own_bytes: copies.own_bytes })
}

/// Pages that were copied and are still to be written.
struct Copies {
    buffer: Vec<u8>,
    used: usize,
    /// Where each piece of the buffer goes, and its length, in the order in which they lie there.
    pieces: Vec<(u64, usize)>,
    own_bytes: u64,
}

/// QEMU writes its devices' state while the disk's snapshot is made and the pages are copied.
fn copy(
    qmp: &mut Qmp,
    process: &Process,
    memory: &Memory,
    target: &Target,
    copies: &mut Copies,
) -> MachineResult<()> {
    let file = format!("/dev/fdset/{STATE_SET}");
    qmp.send("xen-save-devices-state", &json!({ "filename": file, "live": false }), &[])?;
    let (pages, snapshot) = thread::scope(|scope| {
        let (root, directory) = (target.root.as_fd(), target.directory.as_fd());
        let snapshot = scope.spawn(move || btrfs::snapshot(root, directory, ROOT, true));
        let pages = copies.take(process.pid(), memory, &target.memory);
        let lost = || MachineError::Start("the snapshot's thread died".to_owned());
        let snapshot = snapshot.join().map_err(|_| lost()).and_then(|made| made.map_err(MachineError::from));
        (pages, snapshot)
    });
    qmp.answer("xen-save-devices-state", PATIENCE)?;
    snapshot?;
    pages
}

impl Copies {
    /// With room for so many bytes, at most [`HELD`], all of it touched: the machine is not to wait for that.
    fn prepared(bytes: u64) -> Self {
        let mut buffer = vec![0; bytes.clamp(SLACK, HELD) as usize];
        buffer.iter_mut().step_by(PAGE as usize).for_each(|byte| *byte = 1);
        Self { buffer, used: 0, pieces: Vec::new(), own_bytes: 0 }
    }

    /// Copies the machine's own pages; those that find no room any more make room by being written.
    fn take(&mut self, qemu: Pid, memory: &Memory, out: &File) -> MachineResult<()> {
        let mut batch = Vec::with_capacity(BATCH);
        for range in pages::own_pages(qemu, memory.mapping.clone())? {
            self.own_bytes += range.end - range.start;
            for start in (range.start..range.end).step_by(SLACK as usize) {
                let piece = start..range.end.min(start + SLACK);
                let wanted: u64 = batch.iter().chain([&piece]).map(|r: &Range<u64>| r.end - r.start).sum();
                if batch.len() == BATCH || wanted as usize > self.buffer.len() - self.used {
                    self.read(qemu, memory, &batch)?;
                    batch.clear();
                }
                if (piece.end - piece.start) as usize > self.buffer.len() - self.used {
                    self.write(memory, out)?;
                }
                batch.push(piece);
            }
        }
        self.read(qemu, memory, &batch)
    }

    fn read(&mut self, qemu: Pid, memory: &Memory, batch: &[Range<u64>]) -> MachineResult<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let length = |r: &Range<u64>| (r.end - r.start) as usize;
        let remote: Vec<RemoteIoVec> =
            batch.iter().map(|r| RemoteIoVec { base: r.start as usize, len: length(r) }).collect();
        let total: usize = batch.iter().map(length).sum();
        let room = &mut self.buffer[self.used..self.used + total];
        let pid = nix::unistd::Pid::from_raw(qemu.as_raw_nonzero().get());
        match process_vm_readv(pid, &mut [IoSliceMut::new(room)], &remote) {
            Ok(n) if n == total => {}
            Ok(_) => {
                return Err(MachineError::Start("the machine's memory could not be read whole".to_owned()));
            }
            Err(e) => return Err(MachineError::io("read", "the machine's memory", e)),
        }
        self.used += total;
        self.pieces.extend(batch.iter().map(|r| (r.start - memory.mapping.start, length(r))));
        Ok(())
    }

    /// Writes what was copied, and has room again. Zeroes over a hole stay a hole.
    fn write(&mut self, memory: &Memory, out: &File) -> MachineResult<()> {
        let mut rest = &self.buffer[..self.used];
        for (offset, length) in self.pieces.drain(..) {
            let (bytes, after) = rest.split_at(length);
            for run in runs(bytes, memory.is_empty) {
                let at = offset + run.start as u64;
                out.write_all_at(&bytes[run], at).map_err(|e| MachineError::io("write", "memory", e))?;
            }
            rest = after;
        }
        self.used = 0;
        Ok(())
    }
}

/// The parts of a piece that are written: all of it, or the pages that are not zero.
fn runs(bytes: &[u8], skip_zero: bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    if !skip_zero {
        runs.push(0..bytes.len());
        return runs;
    }
    for start in (0..bytes.len()).step_by(PAGE as usize) {
        let end = bytes.len().min(start + PAGE as usize);
        if bytes[start..end].iter().all(|b| *b == 0) {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(start..end),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_mapping_is_one_and_others_are_not_taken_for_it() {
        let maps = "1000-3000 rw-p 00000000 00:1d 77 /x/memory\n3000-5000 rw-p 00002000 00:1d 77 /x/memory\n\
                    7000-8000 rw-s 00000000 00:1d 77 /x/memory\n9000-a000 r--p 00000000 00:1d 78 /x\nodd\n";
        assert_eq!(mapping_of(maps, 77), Some(0x1000..0x5000));
        assert_eq!(mapping_of(maps, 79), None);
        let torn = "1000-3000 rw-p 0 00:1d 77 /x\n4000-5000 rw-p 0 00:1d 77 /x\n";
        assert_eq!(mapping_of(torn, 77), None);
    }

    #[test]
    fn zero_pages_are_left_out_where_there_is_a_hole() {
        let page = PAGE as usize;
        let mut bytes = vec![0; 5 * page];
        bytes[page] = 1;
        bytes[2 * page + 5] = 1;
        bytes[5 * page - 1] = 1;
        assert_eq!(runs(&bytes, true), vec![page..3 * page, 4 * page..5 * page]);
        assert_eq!(runs(&bytes, false).as_slice(), std::slice::from_ref(&(0..5 * page)));
        assert!(runs(&vec![0; page], true).is_empty());
    }
}
