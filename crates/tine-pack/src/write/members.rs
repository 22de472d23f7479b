//! The files of a pack, link by link, on their way into the tar. The same for every layout.

use super::{
    Job, SourceLink,
    content::{Copying, Paged},
    maps::{Map, Maps},
    tarfile::TarFile,
};
use crate::{
    error::{PackError, Result},
    manifest::{FileEntry, Manifest, Role},
};
use std::io::Write;
use tine_archive::SparseMap;

/// What compresses the tar.
pub(super) trait Packed: Write {
    /// What comes may be cut off from what came.
    fn boundary(&mut self) -> Result<()>;

    /// Has the next bytes, at least one and at most `most`, put by `content` where they are compressed; gives how many.
    fn fill(&mut self, most: usize, content: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<usize>;
}

/// The members being written.
pub(super) struct Members<'a, W> {
    pub tar: TarFile<W>,
    job: &'a Job<'a>,
    manifest: &'a Manifest,
    maps: Maps,
    copying: Copying<'a>,
}

impl<'a, W: Packed> Members<'a, W> {
    pub fn new(job: &'a Job<'a>, manifest: &'a Manifest, maps: Maps, tar: TarFile<W>) -> Self {
        let copying = Copying { reporter: job.reporter, done: 0 };
        Self { tar, job, manifest, maps, copying }
    }

    /// Writes the files of a link; `json` is what its `snapshot.json` holds, if it has one.
    pub fn link(&mut self, index: usize, json: Option<&[u8]>) -> Result<()> {
        let source = self.job.link(index)?;
        let entries = self.manifest.links.get(index).map(|link| link.files.as_slice()).unwrap_or_default();
        for entry in entries {
            let name = self.manifest.entry_name(index, entry.role);
            self.tar.out.boundary()?;
            match entry.role {
                Role::SnapshotJson => self.json(&name, json.unwrap_or_default())?,
                Role::Vmstate => self.vmstate(source, entry, &name)?,
                Role::Rootfs | Role::Memory => self.paged(index, entry, &name)?,
            }
        }
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

    fn paged(&mut self, index: usize, entry: &FileEntry, name: &str) -> Result<()> {
        let (link, role, size) = (self.job.link(index)?, entry.role, entry.size);
        let source = link.file(role).ok_or_else(|| PackError::malformed("there is no such file"))?;
        let Map { stretches, unread } = self.maps.take(self.job, index, role)?;
        let map = SparseMap { size, data: stretches };
        // a file without holes is a regular one, as every reader knows it
        if size == 0 || map.data.as_slice() == [(0, size)] {
            self.tar.begin(name, size)?;
        } else {
            self.tar.begin_sparse(name, &map)?;
        }
        // a page that begins where zstd begins a block makes less work and fewer bytes
        self.tar.out.boundary()?;
        let zeros = unread.then_some(&self.job.has_zeros);
        self.copying.paged(&Paged { link, role, source, stored: &map.data, zeros }, &mut self.tar)?;
        self.tar.end(map.data.iter().map(|(_, length)| length).sum())
    }
}
