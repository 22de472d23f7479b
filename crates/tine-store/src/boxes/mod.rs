//! Boxes: their documents, listing them, and what may be done to one that is held.
//!
//! A box is renamed by renaming its directory, so its name stands nowhere else. Everything that changes a box goes
//! through [`LockedBox`].

mod create;
mod disk;
mod locked;
mod origin;
mod staged;

pub use locked::LockedBox;
pub(crate) use origin::Held;
pub use origin::RootOrigin;
pub use staged::StagedBox;

use crate::{
    bases::names_in,
    document::{self, Document, or_note},
    error::{Result, StoreError},
    layout::{META, ROOT, RUN},
    pool::Pool,
    staging::open_dir,
};
use serde::{Deserialize, Serialize};
use std::{os::fd::OwnedFd, path::PathBuf};
use tine_model::{
    BaseVersion, BoxKind, BoxName, BoxRef, BoxSettings, ByteSize, ImageTag, KernelName, ProjectName,
    Reporter, Timestamp,
};

/// `meta.json` of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxMeta {
    format: u32,
    /// 32 hex digits that stay the same when it is renamed.
    pub id: String,
    /// How it runs.
    pub kind: BoxKind,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where its root came from, in words.
    pub source: String,
    /// The base version at the root of its ancestry, if that is known.
    pub base: Option<BaseVersion>,
    /// Logical size of what it was cloned from, if that is known.
    pub size_bytes: Option<ByteSize>,
    /// The kernel that a vm box boots; the pool's default when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelName>,
    /// The image it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageTag>,
    /// What it is set up with.
    pub settings: BoxSettings,
}

impl BoxMeta {
    /// The limit on what it writes to its root. The disk of a vm box bounds that by its length.
    pub(crate) fn written_limit(&self) -> Option<ByteSize> {
        self.settings.limits.disk_bytes.filter(|_| self.kind == BoxKind::Container)
    }
}

impl Document for BoxMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

/// A box and its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxRecord {
    /// The box.
    pub name: BoxRef,
    /// Its document.
    pub meta: BoxMeta,
}

impl Pool {
    /// The boxes of a project, or of all, by project and name.
    ///
    /// # Errors
    /// `Corrupt`, or the kernel's.
    pub fn list_boxes(&self, project: Option<&ProjectName>) -> Result<Vec<BoxRecord>> {
        let records = self.box_names(project)?.into_iter().map(|name| self.record_if_there(name));
        records.filter_map(Result::transpose).collect()
    }

    /// As [`Pool::list_boxes`], but a box whose document cannot be read is told of and left out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn readable_boxes(
        &self,
        project: Option<&ProjectName>,
        reporter: &dyn Reporter,
    ) -> Result<Vec<BoxRecord>> {
        let names = self.box_names(project)?.into_iter();
        Ok(names
            .filter_map(|name| or_note(reporter, "box", &name.clone(), self.record_if_there(name)))
            .collect())
    }

    /// The names of a project's boxes, or of all, whatever state they are in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn box_names(&self, project: Option<&ProjectName>) -> Result<Vec<BoxRef>> {
        let projects = match project {
            Some(project) => vec![project.clone()],
            None => names_in(&self.layout().boxes())?,
        };
        let mut list = Vec::new();
        for project in projects {
            let names = names_in::<BoxName>(&self.layout().project_boxes(&project))?;
            list.extend(names.into_iter().map(|name| BoxRef { project: project.clone(), name }));
        }
        Ok(list)
    }

    /// None when the box was deleted meanwhile.
    fn record_if_there(&self, name: BoxRef) -> Result<Option<BoxRecord>> {
        let meta = document::read_if_there(&self.layout().box_dir(&name).join(META))?;
        Ok(meta.map(|meta| BoxRecord { name, meta }))
    }

    /// The document of a box.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn box_meta(&self, name: &BoxRef) -> Result<BoxMeta> {
        document::read_if_there(&self.layout().box_dir(name).join(META))?.ok_or_else(|| box_not_found(name))
    }

    /// The current root of a box, opened for reading. It stays that root when a restore swaps it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn open_box_root(&self, name: &BoxRef) -> Result<OwnedFd> {
        open_dir(&self.box_root_path(name)).map_err(|e| if e.is_missing() { box_not_found(name) } else { e })
    }

    /// Where the root of a box lies.
    #[must_use]
    pub fn box_root_path(&self, name: &BoxRef) -> PathBuf {
        self.layout().box_dir(name).join(ROOT)
    }

    /// Where the machine layer keeps what it needs of a box.
    #[must_use]
    pub fn box_run_path(&self, name: &BoxRef) -> PathBuf {
        self.layout().box_dir(name).join(RUN)
    }
}

fn box_taken(name: &BoxRef) -> StoreError {
    StoreError::AlreadyExists { kind: "box", name: name.to_string() }
}

pub(crate) fn box_not_found(name: &BoxRef) -> StoreError {
    let hint = match name.project.as_str() {
        "default" => "tine list".to_owned(),
        project => format!("tine -p {project} list"),
    };
    StoreError::NotFound { kind: "box", name: name.to_string(), hint }
}
