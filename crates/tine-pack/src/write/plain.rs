//! The first two layouts written: frames after room for the manifest, whose digests are known last.

use super::{
    Job,
    hashing::Hashing,
    maps::{Maps, json_entry},
    members::Members,
    room, snapshot_json,
    tarfile::{TarFile, mtime},
};
use crate::{
    error::{PackError, Result},
    flowing::Flowing,
    frames::{Compression, FrameWriter},
    manifest::{MANIFEST, Manifest, Role},
};
use std::{
    io::{Seek, SeekFrom},
    os::unix::fs::FileExt,
    thread::{self, Scope},
};

/// Writes the pack; gives the bytes of content, and those that are stored.
pub(super) fn write(job: &Job<'_>) -> Result<(u64, u64)> {
    let mut maps = Maps::default();
    let mut manifest = job.manifest(&mut maps)?;
    let length = first_member(job, &manifest)?.len();
    let totals = job.begin(&manifest);
    let mut out = job.out;
    out.seek(SeekFrom::Start(length as u64)).map_err(PackError::io("write", "the pack"))?;
    thread::scope(|scope| content(job, scope, maps, &mut manifest))?;
    let first = first_member(job, &manifest)?;
    if first.len() != length {
        return Err(PackError::malformed("the manifest does not fill its room"));
    }
    out.write_all_at(&first, 0).map_err(PackError::io("write", "the pack"))?;
    Ok(totals)
}

/// The manifest as a frame of its own.
fn first_member(job: &Job<'_>, manifest: &Manifest) -> Result<Vec<u8>> {
    let mut tar = TarFile::new(Vec::new(), mtime(job.source.created_at));
    tar.file(MANIFEST, manifest.to_toml()?.as_bytes())?;
    Ok(room::frame(&tar.out))
}

/// Writes all files from where the pack stands and puts their digests into the manifest.
fn content<'scope>(
    job: &'scope Job<'scope>,
    scope: &'scope Scope<'scope, '_>,
    maps: Maps,
    manifest: &mut Manifest,
) -> Result<()> {
    let hashing = Hashing::start(scope, job)?;
    let out = FrameWriter::new(Flowing::new(job.out), Compression::PACK, job.threads)
        .map_err(PackError::io("start", "threads that compress"))?;
    let planned = manifest.clone();
    let mut members = Members::new(job, &planned, maps, TarFile::new(out, mtime(job.source.created_at)));
    let mut parent = None;
    for (index, link) in manifest.links.iter_mut().enumerate() {
        link.parent_content_hash = parent;
        let json = snapshot_json::of(job, index, parent)?;
        members.link(index, json.as_deref())?;
        for file in &mut link.files {
            match (file.role, &json) {
                (Role::SnapshotJson, Some(json)) => file.digest = json_entry(json).digest,
                (Role::Rootfs | Role::Memory, _) => file.digest = hashing.wait(index, file.role)?,
                _ => {}
            }
        }
        parent = link.file(Role::Memory).map(|file| file.digest);
    }
    members.tar.close()?.finish_without_table()?;
    Ok(())
}
