//! The third layout written: manifest, signature, and every file as the pages that are not zero or, after the first
//! link, that differ from the parent's.

use super::{
    Job, Sign,
    maps::Maps,
    members::{Members, Packed},
    snapshot_json,
    tarfile::{TarFile, mtime},
};
use crate::{
    error::{PackError, Result},
    flowing::Flowing,
    frames::{Compression, FrameWriter},
    manifest::{MANIFEST, SIGNATURE, SIGNATURE_MAX},
};
use std::io::Write;

impl<W: Write> Packed for FrameWriter<W> {
    fn boundary(&mut self) -> Result<()> {
        Self::boundary(self).map_err(|e| PackError::of_stream("write", "the pack", e))
    }

    fn fill(&mut self, most: usize, content: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<usize> {
        let room = self.room().map_err(|e| PackError::of_stream("write", "the pack", e))?;
        let amount = most.min(room.len());
        content(room.get_mut(..amount).unwrap_or_default())?;
        self.filled(amount);
        Ok(amount)
    }
}

/// Writes the pack; gives the bytes of content, and those that are stored.
pub(super) fn write(job: &Job<'_>, sign: Option<&Sign<'_>>) -> Result<(u64, u64)> {
    let mut maps = Maps::default();
    let manifest = job.manifest(&mut maps)?;
    let text = manifest.to_toml()?;
    let signature = sign.map(|sign| signature(sign, &text)).transpose()?;
    let totals = job.begin(&manifest);
    let frames = FrameWriter::new(Flowing::new(job.out), Compression::PACK, job.threads)
        .map_err(PackError::io("start", "threads that compress"))?;
    let mut tar = TarFile::new(frames, mtime(job.source.created_at));
    tar.file(MANIFEST, text.as_bytes())?;
    if let Some(signature) = signature {
        Packed::boundary(&mut tar.out)?;
        tar.file(SIGNATURE, signature.as_bytes())?;
    }
    let mut members = Members::new(job, &manifest, maps, tar);
    for index in 0..job.source.links.len() {
        members.link(index, snapshot_json::of(job, index, None)?.as_deref())?;
    }
    Packed::boundary(&mut members.tar.out)?;
    members.tar.close()?.finish()?;
    Ok(totals)
}

fn signature(sign: &Sign<'_>, text: &str) -> Result<String> {
    let signature = sign(text.as_bytes()).map_err(PackError::Refused)?;
    if signature.len() as u64 > SIGNATURE_MAX {
        return Err(PackError::TooLarge(format!("the signature has more than {SIGNATURE_MAX} bytes")));
    }
    Ok(signature)
}
