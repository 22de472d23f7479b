//! The files of a pack, link by link, on their way into the tar. The same for every layout.

use super::{
    Job, SourceLink,
    content::{Copying, Paged},
    maps::{Maps, delta_parent},
    tarfile::TarFile,
};
use crate::{
    crew::Crew,
    error::{PackError, Result},
    manifest::{FileEntry, Manifest, Role},
    pieces::inherited,
};
use std::{collections::BTreeMap, io::Write};
use tine_archive::SparseMap;
use tine_digest::ChunkSums;

/// What compresses the tar.
pub(super) trait Packed: Write {
    /// The next byte begins a member: what comes may be cut off from what came.
    fn boundary(&mut self) -> Result<()>;
}

/// The members being written.
pub(super) struct Members<'a, W> {
    pub tar: TarFile<W>,
    job: &'a Job<'a>,
    manifest: &'a Manifest,
    maps: Maps,
    copying: Copying<'a>,
    /// Size and sums of the files of the link before.
    parent: BTreeMap<Role, (u64, ChunkSums)>,
}

impl<'a, W: Packed> Members<'a, W> {
    pub fn new(job: &'a Job<'a>, manifest: &'a Manifest, maps: Maps, tar: TarFile<W>) -> Result<Self> {
        let copying = Copying { crew: Crew::start(job.threads)?, reporter: job.reporter, done: 0 };
        Ok(Self { tar, job, manifest, maps, copying, parent: BTreeMap::new() })
    }

    /// Writes the files of a link; `json` is what its `snapshot.json` holds, if it has one.
    pub fn link(&mut self, index: usize, json: Option<&[u8]>) -> Result<()> {
        let source = self.job.link(index)?;
        let entries = self.manifest.links.get(index).map(|link| link.files.as_slice()).unwrap_or_default();
        let mut sums = BTreeMap::new();
        for entry in entries {
            let name = self.manifest.entry_name(index, entry.role);
            self.tar.out.boundary()?;
            match entry.role {
                Role::SnapshotJson => self.json(&name, json.unwrap_or_default())?,
                Role::Vmstate => self.vmstate(source, entry, &name)?,
                Role::Rootfs | Role::Memory => {
                    let sum = self.paged(index, entry, &name)?;
                    sums.insert(entry.role, (entry.size, sum));
                }
            }
        }
        self.parent = sums;
        Ok(())
    }

    fn json(&mut self, name: &str, json: &[u8]) -> Result<()> {
        self.tar.begin(name, json.len() as u64)?;
        self.copying.put(&mut self.tar, json)?;
        self.tar.end(json.len() as u64)
    }

    fn vmstate(&mut self, link: &SourceLink<'_>, entry: &FileEntry, name: &str) -> Result<()> {
        self.tar.begin(name, entry.size)?;
        self.copying.vmstate(link, entry.size, &mut self.tar)?;
        self.tar.end(entry.size)
    }

    fn paged(&mut self, index: usize, entry: &FileEntry, name: &str) -> Result<ChunkSums> {
        let (link, role, size) = (self.job.link(index)?, entry.role, entry.size);
        let source = link.file(role).ok_or_else(|| PackError::malformed("there is no such file"))?;
        let map = SparseMap { size, data: self.maps.take(self.job, index, role)? };
        // a file without holes is a regular one, as every reader knows it
        if size == 0 || map.data.as_slice() == [(0, size)] {
            self.tar.begin(name, size)?;
        } else {
            self.tar.begin_sparse(name, &map)?;
        }
        let inherited = match self.parent.get(&role) {
            Some((parent, sums)) if delta_parent(self.job, index, role).is_some() => {
                inherited(sums, *parent, size)
            }
            _ => (ChunkSums::new(), None),
        };
        let paged = Paged { link, role, source, size, stored: &map.data, inherited };
        let sums = self.copying.paged(paged, &mut self.tar)?;
        self.tar.end(map.data.iter().map(|(_, length)| length).sum())?;
        Ok(sums)
    }
}
