//! Which stretches of which file go into a pack, by its layout, and what the manifest says of them.

use super::{Job, SourceFile, snapshot_json};
use crate::{
    error::{PackError, Result},
    manifest::{FileEntry, Layout, Link, Role},
    pages,
};
use std::collections::BTreeMap;
use tine_archive::Stretches;
use tine_model::Sha256Digest;

/// The most stretches of all files that are kept between counting and writing them, 16 bytes each.
const KEPT_MAX: usize = 1 << 20;
/// A digest that is not known yet; all are equally long.
const UNKNOWN: Sha256Digest = Sha256Digest([0; 32]);

/// Which stretches of a file go into a pack.
pub(super) struct Map {
    pub stretches: Stretches,
    /// They are taken to hold no page of zeros, and that is still to be found out.
    pub unread: bool,
}

/// The stretches of all files, as far as they are kept.
#[derive(Default)]
pub(super) struct Maps {
    kept: BTreeMap<(usize, Role), Map>,
    stretches: usize,
}

impl Maps {
    /// What the manifest says of a link. In layouts with plain digests those of memory and disk are not known yet.
    pub fn link(&mut self, job: &Job<'_>, index: usize) -> Result<Link> {
        let (source, parent) = (job.link(index)?, job.parent(index));
        let ours = job.source.layout == Layout::V3;
        let hash = parent.map(|parent| if ours { parent.memory.digest } else { UNKNOWN });
        let json = snapshot_json::of(job, index, hash)?;
        let mut files: Vec<FileEntry> = json.iter().map(|json| json_entry(json)).collect();
        for role in [Role::Vmstate, Role::Rootfs, Role::Memory] {
            files.extend(self.file(job, index, role)?);
        }
        Ok(Link {
            tag: source.tag.clone(),
            parent: source.parent.clone(),
            parent_content_hash: hash,
            files,
            facts: source.facts.clone(),
        })
    }

    fn file(&mut self, job: &Job<'_>, index: usize, role: Role) -> Result<Option<FileEntry>> {
        let link = job.link(index)?;
        let Some(file) = link.file(role) else { return Ok(None) };
        let size = link.size(role, file)?;
        if !role.is_paged() {
            return Ok(Some(FileEntry { role, size, digest: file.digest, delta: false, stored: size }));
        }
        let map = stretches(job, index, role)?;
        let stored = map.stretches.iter().map(|(_, length)| length).sum();
        self.keep((index, role), map);
        let delta = delta_parent(job, index, role).is_some();
        let digest = if job.source.layout == Layout::V3 { file.digest } else { UNKNOWN };
        Ok(Some(FileEntry { role, size, digest, delta, stored }))
    }

    /// Keeps a map unless there are very many stretches already: then it is made a second time when it is needed.
    fn keep(&mut self, key: (usize, Role), map: Map) {
        if self.stretches + map.stretches.len() <= KEPT_MAX {
            self.stretches += map.stretches.len();
            self.kept.insert(key, map);
        }
    }

    /// The stretches of a file, whose memory is given away.
    pub fn take(&mut self, job: &Job<'_>, index: usize, role: Role) -> Result<Map> {
        match self.kept.remove(&(index, role)) {
            Some(map) => Ok(map),
            None => stretches(job, index, role),
        }
    }
}

pub(super) fn json_entry(json: &[u8]) -> FileEntry {
    let (size, digest) = (json.len() as u64, crate::plain_digest(json));
    FileEntry { role: Role::SnapshotJson, size, digest, delta: false, stored: size }
}

/// The parent's file, where only what differs from it is stored.
pub(super) fn delta_parent<'a>(job: &Job<'a>, index: usize, role: Role) -> Option<SourceFile<'a>> {
    let ours = job.source.layout == Layout::V3;
    job.parent(index).filter(|_| ours).and_then(|parent| parent.file(role))
}

fn stretches(job: &Job<'_>, index: usize, role: Role) -> Result<Map> {
    let link = job.link(index)?;
    let read = |stretches| Map { stretches, unread: false };
    let Some(file) = link.file(role) else { return Ok(read(Vec::new())) };
    // there a hole in a later link's memory would mean what lies in the parent's
    if job.source.layout == Layout::V2 && index > 0 && role == Role::Memory {
        return Ok(read(vec![(0, link.size(role, file)?)]));
    }
    let failed = |e| PackError::io("look at the pages of", link.what(role))(e);
    let pairs = |map: pages::Stretches| map.into_iter().map(|one| (one.offset, one.length)).collect();
    let parent = delta_parent(job, index, role);
    // a guest's disk has zeros that it wrote
    let trusted = job.trusts_holes && parent.is_none() && role == Role::Memory;
    if let Some(map) = trusted.then(|| pages::held(file.file).map_err(failed)).transpose()?.flatten() {
        return Ok(Map { stretches: pairs(map), unread: true });
    }
    let map = match parent {
        Some(parent) => pages::changed(file.file, parent.file),
        None => pages::stored(file.file),
    };
    Ok(read(pairs(map.map_err(failed)?)))
}
