//! The first two layouts written: one frame after room for the manifest, whose digests are known last.

use super::{
    Job,
    hashing::Hashing,
    maps::{Maps, json_entry},
    members::{Members, Packed},
    room, snapshot_json,
    tarfile::{TarFile, mtime},
};
use crate::{
    error::{PackError, Result},
    flowing::Flowing,
    manifest::{MANIFEST, Manifest, Role},
};
use std::{
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    thread::{self, Scope},
};
use tine_digest::CHUNK;
use zstd::stream::write::Encoder;

/// zstd's level: the one these layouts are written with.
const LEVEL: i32 = 3;

/// One frame, compressed by zstd's own threads.
struct OneFrame<'a> {
    encoder: Encoder<'static, Flowing<'a>>,
    buffer: Vec<u8>,
}

impl Write for OneFrame<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

impl Packed for OneFrame<'_> {
    fn boundary(&mut self) -> Result<()> {
        Ok(())
    }

    fn fill(&mut self, most: usize, content: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<usize> {
        let amount = most.min(self.buffer.len());
        let room = self.buffer.get_mut(..amount).unwrap_or_default();
        content(room)?;
        self.encoder.write_all(room).map_err(PackError::io("write", "the pack"))?;
        Ok(room.len())
    }
}

/// Writes the pack; gives the bytes of content, and those that are stored.
pub(super) fn write(job: &Job<'_>) -> Result<(u64, u64)> {
    let mut maps = Maps::default();
    let mut manifest = job.manifest(&mut maps)?;
    let length = first_member(job, &manifest)?.len();
    let totals = job.begin(&manifest);
    let mut out = job.out;
    out.seek(SeekFrom::Start(length as u64)).map_err(PackError::io("write", "the pack"))?;
    thread::scope(|scope| content(job, scope, maps, &mut manifest, length as u64))?;
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

/// Writes all files from `begin` on and puts their digests into the manifest.
fn content<'scope>(
    job: &'scope Job<'scope>,
    scope: &'scope Scope<'scope, '_>,
    maps: Maps,
    manifest: &mut Manifest,
    begin: u64,
) -> Result<()> {
    let hashing = Hashing::start(scope, job)?;
    let failed = || PackError::io("write", "the pack");
    let mut encoder = Encoder::new(Flowing::new(job.out, begin), LEVEL).map_err(failed())?;
    // one worker at least: without any the bytes would be others
    let workers = u32::try_from(job.threads).unwrap_or(1).max(1);
    encoder.multithread(workers).map_err(failed())?;
    let planned = manifest.clone();
    let out = OneFrame { encoder, buffer: vec![0; CHUNK] };
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
    members.tar.close()?.encoder.finish().map_err(failed())?;
    Ok(())
}
