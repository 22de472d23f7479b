//! Removing what nothing refers to. Needs the pool alone: what another operation is making looks just the same.

use crate::{
    bases::names_in,
    boxes::BoxMeta,
    document,
    error::{Result, StoreError, at},
    layout::{LOCK, META, RUN, UNDO},
    pool::ExclusivePool,
    snapshots::has_former_root,
    staging::{discard, withdraw},
};
use std::{fs, path::PathBuf};
use tine_model::{ProjectName, Reporter};
use tine_sys::lock;

/// Something that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// What it is, as `staging abc`.
    pub what: String,
    path: PathBuf,
}

impl Garbage {
    /// The id of the box that was being made there, if it was one.
    #[must_use]
    pub fn box_id(&self) -> Option<String> {
        let meta: Option<BoxMeta> = document::read_if_there(&self.path.join(META)).ok()?;
        meta.map(|meta| meta.id)
    }
}

impl ExclusivePool {
    /// What `gc` would remove: everything in `tmp/` that no machine runs in, undo directories whose restore never
    /// happened, broken downloads and uploads, project directories without a box or volume, disks of base versions that are gone, and all boot
    /// archives of a kernel but the newest.
    ///
    /// # Errors
    /// The kernel's.
    pub fn plan_gc(&self) -> Result<Vec<Garbage>> {
        let mut plan = Vec::new();
        let tmp = self.layout().tmp();
        for entry in fs::read_dir(&tmp).map_err(at("list", &tmp))? {
            let entry = entry.map_err(at("list", &tmp))?;
            let what = format!("staging {}", entry.file_name().to_string_lossy());
            // a box that is being made by a process that was killed: whoever runs its machine ends it
            if !lock::is_locked(&entry.path().join(RUN).join(LOCK)).unwrap_or(false) {
                plan.push(Garbage { what, path: entry.path() });
            }
        }
        plan.extend(self.stale_disks()?);
        let initrds = self.old_initrds()?.into_iter();
        plan.extend(initrds.map(|(name, path)| Garbage { what: format!("initrd {name}"), path }));
        for name in self.box_names(None)? {
            let path = self.layout().box_dir(&name).join(UNDO);
            // one whose document cannot be read may hold a former root: it is for `check` to report
            if path.exists() && matches!(has_former_root(&path), Ok(false)) {
                plan.push(Garbage { what: format!("unfinished restore of box {name}"), path });
            }
        }
        // whoever is at work on one holds the pool's lock
        for (kind, dir) in [("download", self.layout().downloads()), ("upload", self.layout().uploads())] {
            for entry in fs::read_dir(&dir).map_err(at("list", &dir))? {
                let entry = entry.map_err(at("list", &dir))?;
                let what = format!("{kind} {}", entry.file_name().to_string_lossy());
                plan.push(Garbage { what, path: entry.path() });
            }
        }
        plan.extend(empty_projects("boxes of", self.layout().boxes())?);
        plan.extend(empty_projects("volumes of", self.layout().volumes())?);
        plan.sort_by(|a, b| a.what.cmp(&b.what));
        Ok(plan)
    }

    fn stale_disks(&self) -> Result<Vec<Garbage>> {
        let stale = self.disk_names()?.into_iter().filter(|name| !self.layout().base(&name.base).exists());
        Ok(stale.map(|name| Garbage { what: format!("disk {name}"), path: self.disk_dir(&name) }).collect())
    }

    /// Removes what a plan names, and reports each as it goes. Durable on return.
    ///
    /// # Errors
    /// `Cancelled`, or the kernel's; what was removed until then stays removed.
    pub fn apply_gc(&self, plan: &[Garbage], reporter: &dyn Reporter) -> Result<()> {
        reporter.step("removing garbage", Some(plan.len() as u64));
        for (done, garbage) in plan.iter().enumerate() {
            if reporter.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            let in_tmp = garbage.path.parent() == Some(self.layout().tmp().as_path());
            let path = if in_tmp { garbage.path.clone() } else { withdraw(self, &garbage.path)? };
            discard(&path)?;
            reporter.advance(done as u64 + 1);
        }
        self.commit()
    }
}

fn empty_projects(kind: &str, dir: PathBuf) -> Result<Vec<Garbage>> {
    let mut empty = Vec::new();
    for project in names_in::<ProjectName>(&dir)? {
        let path = dir.join(&project);
        if fs::read_dir(&path).map_err(at("list", &path))?.next().is_none() {
            empty.push(Garbage { what: format!("empty {kind} project {project}"), path });
        }
    }
    Ok(empty)
}
