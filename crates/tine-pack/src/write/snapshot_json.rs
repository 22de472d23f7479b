//! `snapshot.json`: what another tool noted, or what such a tool wants to read.

use super::Job;
use crate::{
    error::{PackError, Result},
    manifest::{Layout, Role, SNAPSHOT_JSON_MAX},
};
use serde::Serialize;
use std::borrow::Cow;
use tine_model::Sha256Digest;

/// All paths are relative to the image's own folder.
#[derive(Serialize)]
struct SnapshotJson<'a> {
    vmstate: &'static str,
    memory: &'static str,
    volumes: [&'static str; 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_content_hash: Option<Sha256Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs: Option<&'static str>,
}

/// The text of a link, if it has one; as long whatever the digest of the parent's memory is.
pub(super) fn of<'a>(
    job: &Job<'a>,
    index: usize,
    parent: Option<Sha256Digest>,
) -> Result<Option<Cow<'a, [u8]>>> {
    let link = job.link(index)?;
    if let Some(given) = &link.snapshot_json {
        if given.len() as u64 > SNAPSHOT_JSON_MAX {
            return Err(PackError::TooLarge(format!("snapshot.json of image {} is too large", link.tag)));
        }
        return Ok(Some(Cow::Borrowed(given)));
    }
    if job.source.layout == Layout::V3 {
        return Ok(None);
    }
    let last = index + 1 == job.source.links.len();
    let disk = link.disk.is_some() || last && job.source.rootfs.is_some();
    let json = SnapshotJson {
        vmstate: Role::Vmstate.file_name(),
        memory: Role::Memory.file_name(),
        volumes: [],
        parent_tag: link.parent.as_ref().map(|tag| tag.as_str()),
        parent_content_hash: parent,
        rootfs: disk.then(|| Role::Rootfs.file_name()),
    };
    let text = serde_json::to_vec_pretty(&json);
    text.map(|text| Some(Cow::Owned(text))).map_err(|e| PackError::malformed(format!("snapshot.json: {e}")))
}
