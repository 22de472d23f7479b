//! Copying to a folder of this host: under another name first, then renamed, so that nobody sees half of it.

use super::{
    Uploaded,
    content::{CHUNK, Content, aside},
};
use crate::{error::Result, location::Location};
use std::{
    fs::{File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};

/// What a web server must be able to read.
const READABLE: u32 = 0o644;

pub(super) async fn copy(location: &Location, content: &Arc<Content>) -> Result<Uploaded> {
    let path = location.to_file_path()?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let failed = |e| location.not_written(e);
    if !folder.is_dir() {
        let why = format!("there is no folder {}", folder.display());
        return Err(failed(std::io::Error::new(std::io::ErrorKind::NotFound, why)));
    }
    let mut staged = tempfile::Builder::new().prefix(".sending-").tempfile_in(&folder).map_err(failed)?;
    let mut at = 0;
    while at < content.size() {
        let part = content.part(at, 4 * CHUNK).await?;
        at += part.len() as u64;
        let shown = location.clone();
        staged = aside(move || {
            staged.write_all(&part).map_err(|e| shown.not_written(e))?;
            Ok(staged)
        })
        .await?;
        content.sent_to(at);
    }
    let shown = location.clone();
    aside(move || {
        let failed = |e| shown.not_written(e);
        staged.as_file().set_permissions(Permissions::from_mode(READABLE)).map_err(failed)?;
        staged.as_file().sync_all().map_err(failed)?;
        staged.persist(&path).map_err(|e| failed(e.error))?;
        File::open(&folder).and_then(|f| f.sync_all()).map_err(failed)
    })
    .await?;
    Ok(Uploaded { sent: content.size(), reused: 0, etag: None })
}
