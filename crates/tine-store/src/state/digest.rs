//! What is recorded of memory, disks and device states: digest, length, and bytes stored.

use super::StateFiles;
use crate::error::{Result, at};
use serde::{Deserialize, Serialize};
use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path, thread};
use tine_model::{ByteSize, Sha256Digest};

/// What is recorded of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Its digest.
    pub digest: Sha256Digest,
    /// Its length.
    pub bytes: ByteSize,
    /// Bytes it holds, without holes.
    pub stored_bytes: ByteSize,
}

impl FileSum {
    /// What must be equal for two files to be the same. Where holes are does not count.
    pub(super) fn content(&self) -> (Sha256Digest, ByteSize) {
        (self.digest, self.bytes)
    }

    /// That of a file whose digest is known.
    pub(super) fn new(file: &File, digest: Sha256Digest) -> io::Result<Self> {
        let stat = file.metadata()?;
        let stored = stat.blocks().saturating_mul(512).min(stat.len());
        Ok(Self { digest, bytes: ByteSize(stat.len()), stored_bytes: ByteSize(stored) })
    }
}

/// The digests of a machine's files, taken while these were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Of the memory, by its chunks.
    pub memory: Sha256Digest,
    /// Of the device state, by all its bytes.
    pub vmstate: Sha256Digest,
    /// Of the disk, by its chunks, if there is one.
    pub disk: Option<Sha256Digest>,
}

/// The sums of a machine's files.
pub(super) struct Sums {
    pub memory: FileSum,
    pub vmstate: FileSum,
    pub disk: Option<FileSum>,
}

/// Sums of files whose digests are known.
pub(super) fn known(files: &StateFiles, digests: &Digests) -> Result<Sums> {
    let sum = |file: &File, digest, name: &'static str| {
        FileSum::new(file, digest).map_err(at::<io::Error>("look at", Path::new(name)))
    };
    let disk = files.disk.as_ref().zip(digests.disk);
    Ok(Sums {
        memory: sum(&files.memory, digests.memory, crate::layout::MEMORY)?,
        vmstate: sum(&files.vmstate, digests.vmstate, crate::layout::VMSTATE)?,
        disk: disk.map(|(file, digest)| sum(file, digest, crate::layout::DISK)).transpose()?,
    })
}

/// Reads all files of a machine, memory and disk at the same time.
pub(super) fn all(files: &StateFiles) -> Result<Sums> {
    let disk = files.disk.as_ref();
    let (memory, vmstate, disk) = thread::scope(|scope| {
        let disk = disk.map(|disk| scope.spawn(|| of_data(disk)));
        let (memory, vmstate) = (of_data(&files.memory), of_all(&files.vmstate));
        // a thread that panics is a defect of this module; the caller gets an error all the same
        let died = || Err(io::Error::other("the reader died"));
        (memory, vmstate, disk.map(|d| d.join().unwrap_or_else(|_| died())))
    });
    let named = |name: &'static str| at::<io::Error>("read", Path::new(name));
    Ok(Sums {
        memory: memory.map_err(named(crate::layout::MEMORY))?,
        vmstate: vmstate.map_err(named(crate::layout::VMSTATE))?,
        disk: disk.transpose().map_err(named(crate::layout::DISK))?,
    })
}

/// The sum of a file that is sparse.
pub(crate) fn of_data(file: &File) -> io::Result<FileSum> {
    FileSum::new(file, tine_digest::of_data(file)?)
}

/// The sum of a file by all its bytes.
pub(crate) fn of_all(file: &File) -> io::Result<FileSum> {
    FileSum::new(file, tine_digest::of_all(file)?)
}
